"""A microcontroller's agent in an emulated board whose power can go, and images for it."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry_compiler.engines.native import build as native
from skerry_compiler.engines.native import machine as machines
from skerry_compiler.firmware import build
from skerry_compiler.firmware.emulated import Machine
from skerry_compiler.firmware.image import Golden, image, stream
from skerry_contracts.bundle import Signature
from skerry_contracts.tensor import DType, TensorSpec
from skerry_targets.profile import Profile

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PAIR = Signature((TensorSpec("x", DType.FP32, (1, 4)),), (TensorSpec("y", DType.FP32, (1, 4)),))
# A model in C: four numbers, each times a factor; and what else it does.
MODEL = """
#include <stdint.h>
static volatile uint32_t counted = 7;
__attribute__((visibility("default"), used)) int32_t skerry_run(const void *const *in, void *const *out)
{
    const float *x = in[0];
    float *y = out[0];
    if (counted++ < 7) return 1; /* its memory begins as the image says */
    for (int i = 0; i < 4; i++) y[i] = x[i] * %s;
    %s
    return 0;
}
"""
ROW = b"\0\0\x80?\0\0\0@\0\0@@\0\0\x80@"  # 1, 2, 3, 4
DOUBLED = b"\0\0\0@\0\0\x80@\0\0\xc0@\0\0\0A"


class Machinery(Machine):
    """An emulated board that has power and takes images of our key."""

    def __init__(self, profile: Profile, folder: Path) -> None:
        super().__init__(profile, build.firmware(profile, KEY.public_key().public_bytes_raw()), folder)
        self.start()


def made(
    profile: Profile, release: int, *, factor: str = "2.0f", also: str = "", limit_ms: int = 500
) -> tuple[bytes, bytes]:
    """Return the header and the stream of an image of a small model."""
    code = native.artifact(MODEL % (factor, also), machines.Machine.of(profile))
    golden = Golden(ROW + DOUBLED, 1, 1e-6)
    made = image(code, profile, PAIR, golden, name=f"r{release}", release=release, limit_ms=limit_ms, sign=KEY.sign)
    return stream(made.content)

"""A microcontroller's agent in an emulated board whose power can go, and images for it."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry_compiler.engines.native import build as native
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.firmware import build
from skerry_compiler.firmware.image import Golden, image, stream
from skerry_contracts.bundle import Signature
from skerry_contracts.tensor import DType, TensorSpec
from skerry_firmware.link import Board
from skerry_targets.profile import Profile

WAIT_S = 60
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


class Machinery:
    """An emulated board: its flash is a file that stays when the power goes."""

    def __init__(self, profile: Profile, folder: Path) -> None:
        public = KEY.public_key().public_bytes_raw()
        self.profile, self.folder = profile, folder
        (folder / "core.elf").write_bytes(build.firmware(profile, public))
        (folder / "flash").write_bytes(b"\xff" * (512 + 2 * build.slot_bytes(profile)))
        for name in ("in", "out"):
            os.mkfifo(folder / name)
        self.start()

    def start(self) -> None:
        """Give it power."""
        self.incoming, self.outgoing = (os.open(self.folder / name, os.O_RDWR) for name in ("in", "out"))
        command = [self.profile.emulator.command, "-M", self.profile.emulator.machine, "-nographic", "-monitor", "none"]
        command += ["-serial", "none", "-semihosting-config", "enable=on,target=native", "-kernel", "core.elf"]
        self.process = subprocess.Popen(command, cwd=self.folder)
        self.board = Board(self)
        self.board.report()  # it is there

    def cut(self) -> None:
        """Take its power."""
        self.process.kill()
        self.process.wait()
        os.close(self.incoming)
        os.close(self.outgoing)

    def read(self) -> bytes:
        ready, _, _ = select.select([self.outgoing], [], [], WAIT_S)
        return os.read(self.outgoing, 4096) if ready else b""

    def write(self, data: bytes) -> None:
        os.write(self.incoming, data)


def made(
    profile: Profile, release: int, *, factor: str = "2.0f", also: str = "", limit_ms: int = 500
) -> tuple[bytes, bytes]:
    """Return the header and the stream of an image of a small model."""
    code = native.artifact(MODEL % (factor, also), Machine.of(profile))
    golden = Golden(ROW + DOUBLED, 1, 1e-6)
    made = image(code, profile, PAIR, golden, name=f"r{release}", release=release, limit_ms=limit_ms, sign=KEY.sign)
    return stream(made.content)

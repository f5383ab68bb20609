"""Models for emulated microcontrollers, good and bad ones, and images of them."""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.firmware.image import FEATURES_AT, NAME_BYTES, SIGNED_BYTES, Golden, Image, features, image
from skerry_compiler.proof import prove
from skerry_compiler.proof.references import references
from skerry_contracts.bundle import Signature
from skerry_firmware.link import Board
from skerry_targets import shelf
from skerry_targets.profile import Profile

LIMIT_MS = 20_000  # of an emulator on a busy machine
TOLERANCES = (1e-4, 0.05)  # of golden answers in floats and in bytes, from the original's
UNHEARD_OF = 1 << 15  # a feature that no processor of today has
SIGNATURE_AT = SIGNED_BYTES + 8  # a byte of it
CRASHING = """
#include <stdint.h>
__attribute__((visibility("default"), used)) int32_t skerry_run(const void *const *in, void *const *out)
{
    (void)in, (void)out;
    *(volatile uint32_t *)0xf0000000 = 1;
    return 0;
}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """An artifact for a board, rows for it, their right answers, and by how much one may be off. `more` are bytes that
    its image carries for nothing.
    """

    name: str
    artifact: bytes
    signature: Signature
    rows: tuple[bytes, ...]
    answers: tuple[bytes, ...]
    tolerance: float
    more: int = 0

    def answered(self, board: Board) -> tuple[bool, str]:
        """Return whether a board answers every row rightly, and what was seen."""
        far, right = 0.0, 0
        for row, answer in zip(self.rows, self.answers, strict=True):
            found, wanted = (_floats(each) for each in (board.infer(row, len(answer)), answer))
            apart = [abs(one - two) for one, two in zip(found, wanted, strict=True)]
            off = max(apart) if not any(map(math.isnan, apart)) else math.inf
            right += off <= self.tolerance
            far = max(far, off)
        seen = f"{right} of {len(self.rows)} rows right, off by {far:.1g} at most"
        return right == len(self.rows), seen

    def wrong(self) -> Model:
        """Return it with golden answers that are other rows'."""
        return dataclasses.replace(self, name="wrong answers", answers=(*self.answers[1:], self.answers[0]))

    def padded(self, size: int) -> Model:
        """Return it with so many bytes more in its image."""
        return dataclasses.replace(self, more=size)


def pair(profile: Profile) -> tuple[Model, Model]:
    """Return a convolutional network for a board, in floats and in bytes; where floats have no room, a dense one.

    Raises:
        CompileError: the compiler refuses them.
    """
    small = profile.budget.memory_bytes < 32 << 10
    chosen = [each for each in references() if each.name.startswith("dense" if small else "convolutions")]
    made = []
    for reference, tolerance in zip(chosen, TOLERANCES, strict=True):
        answers = tuple(each.tobytes() for each in prove.originals(reference.name))
        rows = tuple(each.tobytes() for each in reference.rows)
        artifact = prove.compiled(reference, profile)
        name = f"{reference.name} {'in bytes' if reference.in_bytes else 'in floats'}".replace("-int8", "")
        made.append(Model(name, artifact, reference.signature, rows, answers, tolerance))
    return made[0], made[1]


def crashing(profile: Profile, like: Model) -> Model:
    """Return a model with another's inputs and outputs that writes where nothing is."""
    return dataclasses.replace(like, name="a crash", artifact=build.artifact(CRASHING, Machine.of(profile)))


def image_of(model: Model, profile: Profile, key: Ed25519PrivateKey, release: int) -> Image:
    """Return a model's signed image; its size is for the board to judge.

    Raises:
        CompileError: it cannot be linked.
    """
    rows = b"".join(row + answer for row, answer in zip(model.rows, model.answers, strict=True))
    golden = Golden(rows + bytes(model.more), len(model.rows), model.tolerance)
    larger = dataclasses.replace(profile.budget, artifact_bytes=profile.budget.artifact_bytes + (8 << 20))
    anywhere = dataclasses.replace(profile, budget=larger)
    name, sign = model.name[:NAME_BYTES], key.sign
    return image(
        model.artifact, anywhere, model.signature, golden, name=name, release=release, limit_ms=LIMIT_MS, sign=sign
    )


def stronger(profile: Profile) -> Iterator[Profile]:
    """Yield the processors whose code needs what a board's lacks, the plainest first."""
    own = features(profile)
    for name in ("cortex-m4", "cortex-m7", "cortex-m55"):
        if features(shelf.get(name)) & ~own:
            yield shelf.get(name)


def forged(made: Image) -> Image:
    """Return an image whose signature has one bit wrong."""
    content = bytearray(made.content)
    content[SIGNATURE_AT] ^= 1
    return dataclasses.replace(made, content=bytes(content))


def unheard_of(made: Image, key: Ed25519PrivateKey) -> Image:
    """Return an image that asks for a feature that no processor has, signed."""
    head = bytearray(made.content[:SIGNED_BYTES])
    struct.pack_into("<I", head, FEATURES_AT, UNHEARD_OF)
    rest = made.content[SIGNED_BYTES + 64 :]
    return dataclasses.replace(made, content=bytes(head) + key.sign(bytes(head)) + rest)


def _floats(content: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(content) // 4}f", content)

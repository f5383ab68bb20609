"""A microcontroller proven with the agent's own core: it takes models over its link, tries and runs them, and refuses
what is not for it before a byte of its flash changes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry_compiler.firmware import build, emulated
from skerry_compiler.firmware.image import FEATURES_AT, SIGNED_BYTES, Golden, Image, features, image, stream
from skerry_compiler.proof.references import Floats, Reference
from skerry_firmware.link import LinkError
from skerry_targets import shelf
from skerry_targets.levels import Check, Kind
from skerry_targets.profile import Profile

LIMIT_MS = 20_000  # an emulator on a busy machine
STRONGER = ("cortex-m4", "cortex-m7", "cortex-m55")
UNHEARD_OF = 1 << 15  # a feature that no processor has


def checks(
    profile: Profile,
    made: Sequence[tuple[Reference, bytes, Floats, float]],
    compiled: Callable[[Reference, Profile], bytes],
) -> list[Check]:
    """Return what the core of a board did with models (each with its artifact, right answers, and by how much one may
    be off) and with what it must refuse.
    """
    key = Ed25519PrivateKey.generate()
    sign = key.sign
    core = build.firmware(profile, key.public_key().public_bytes_raw())
    found = []
    with emulated.powered(profile, core) as machine:
        release = 0
        for reference, artifact, right, tolerance in made:
            release += 1
            sent = _image(reference, artifact, right, tolerance, profile, release, sign)
            found.append(_taken(machine, reference, sent, right, tolerance))
        reference, artifact, right, tolerance = made[-1]
        sent = _image(reference, artifact, right, tolerance, profile, release + 1, sign)
        forged = sent.content[:SIGNED_BYTES] + bytes(64) + sent.content[SIGNED_BYTES + 64 :]
        found.append(_refused(machine, reference, forged, "an image that nobody signed"))
        other = next((each for each in STRONGER if features(shelf.get(each)) & ~features(profile)), None)
        if other is None:
            head = bytearray(sent.content[:SIGNED_BYTES])
            struct.pack_into("<I", head, FEATURES_AT, UNHEARD_OF)
            strange, what = bytes(head) + sign(bytes(head)) + sent.content[SIGNED_BYTES + 64 :], "code of no processor"
        else:
            board = shelf.get(other)
            made_for = compiled(reference, board)
            strange = _image(reference, made_for, right, tolerance, board, release + 1, sign).content
            what = f"an image for {other}"
        found.append(_refused(machine, reference, strange, what))
    return found


def _image(
    reference: Reference,
    artifact: bytes,
    right: Floats,
    tolerance: float,
    profile: Profile,
    release: int,
    sign: Callable[[bytes], bytes],
) -> Image:
    pairs = zip(reference.rows, right, strict=True)
    golden = Golden(b"".join(row.tobytes() + answer.tobytes() for row, answer in pairs), len(right), tolerance)
    name = reference.name[:24]
    return image(
        artifact, profile, reference.signature, golden, name=name, release=release, limit_ms=LIMIT_MS, sign=sign
    )


def _taken(machine: emulated.Machine, reference: Reference, sent: Image, right: Floats, tolerance: float) -> Check:
    try:
        machine.board.install(*stream(sent.content))
        answer = np.frombuffer(machine.board.infer(reference.rows[0].tobytes(), right[0].nbytes), np.float32)
    except LinkError as error:
        return Check(Kind.RUN, reference.name, False, f"by the agent's core: {error}")
    far = float(np.abs(answer - right[0]).max())
    slot = "AB"[machine.board.report().slot]
    said = f"by the agent's core in slot {slot}, after {len(right)} golden rows: off by {far:.2g}"
    return Check(Kind.RUN, reference.name, far <= tolerance, said)


def _refused(machine: emulated.Machine, reference: Reference, content: bytes, what: str) -> Check:
    before = machine.flash_file.read_bytes()
    try:
        machine.board.install(*stream(content))
        said, same = "taken", False
    except LinkError as error:
        same = machine.flash_file.read_bytes() == before
        said = f"{error}{'; nothing was written' if same else ''}"
    return Check(Kind.REFUSAL, reference.name, same, f"the agent's core, offered {what}: {said}")

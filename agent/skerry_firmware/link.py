"""The other end of a microcontroller's link: install an image, run the model, ask how it is.

Frames are bytes without zeros and a zero (COBS: Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1999); in them
are a kind, a number, words, and a CRC-32 (agent/skerry_firmware/core/core.c). A reply bears the number
of what it answers; a frame that is lost or damaged is sent again.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable
from typing import Protocol

CHUNK = 1024
MOST_TRIES = 5
DAMAGED, NO_SLOT = 1, 0xFF
# By what is wrong: the core's numbers (slots.h).
PROBLEMS = (
    "nothing",
    "the frame was damaged",
    "the header makes no sense",
    "the image is not signed with the key of this board",
    "the release is not newer than one that the board has had",
    "it does not fit the board",
    "its code needs what the processor lacks",
    "the piece does not follow the one before",
    "the image is not whole",
    "the flash does not hold what was written",
    "the model answers its golden rows wrong",
    "the model crashed",
    "the model did not answer in time",
    "there is no model",
    "the size is not the model's",
)


class LinkError(Exception):
    """The board refuses, or does not answer; `problem` is its number for why, 0 where it said nothing."""

    def __init__(self, words: str, problem: int = 0) -> None:
        """Keep the number beside the words."""
        super().__init__(words)
        self.problem = problem


class Bytes(Protocol):
    """A serial line or what stands for one."""

    def read(self) -> bytes:
        """Return some bytes; none where nothing came in a while."""

    def write(self, data: bytes) -> None:
        """Send all."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What a board says of itself. Sizes in bytes, times in milliseconds; `release` is 0 without a model."""

    protocol: int
    features: int
    slot_bytes: int
    ram_bytes: int
    floor: int
    release: int
    starts: int
    faults: int
    problem: int
    runs: int
    answered_ms: int
    uptime_ms: int
    input_bytes: int
    output_bytes: int
    slot: int
    name: str

    @property
    def trouble(self) -> str:
        """The last problem in words."""
        return said(self.problem)


def said(problem: int) -> str:
    """Return a problem's number in words."""
    return PROBLEMS[problem] if problem < len(PROBLEMS) else f"problem {problem}"


def encode(content: bytes) -> bytes:
    """Return a frame with its check and its zero."""
    out = bytearray()
    for part in (content + struct.pack("<I", zlib.crc32(content))).split(b"\0"):
        while len(part) >= 254:
            out += b"\xff" + part[:254]
            part = part[254:]
        out += bytes((len(part) + 1,)) + part
    return bytes(out) + b"\0"


def decode(frame: bytes) -> bytes | None:
    """Return what a frame (without its zero) holds, None where it is damaged."""
    out, at = bytearray(), 0
    while at < len(frame):
        count = frame[at]
        if at + count > len(frame):
            return None
        out += frame[at + 1 : at + count]
        at += count
        if count < 255 and at < len(frame):
            out.append(0)
    if len(out) < 6 or zlib.crc32(out[:-4]) != struct.unpack("<I", out[-4:])[0]:
        return None
    return bytes(out[:-4])


class Board:
    """A board at the other end of a line. Every method raises LinkError: refused, started anew in between, no answer.

    A board that may have just been given power is first asked for its report.
    """

    def __init__(self, line: Bytes) -> None:
        """Talk over a line."""
        self._line, self._rest, self._number = line, b"", 0

    def report(self) -> Report:
        """Return what the board says of itself."""
        reply = self._ask(b"h", b"H")
        fields = [each.name for each in dataclasses.fields(Report)][:-1]
        words = dict(zip(fields, struct.unpack_from(f"<{len(fields)}I", reply), strict=True))
        return Report(**words, name=reply[4 * len(fields) :].rstrip(b"\0").decode("utf-8", "replace"))

    def install(self, header: bytes, stream: bytes, progress: Callable[[int, int], None] | None = None) -> int:
        """Send an image, which the board verifies, tries, and commits or forgets; return the release that now runs."""
        self._ask(b"b" + header, b"K")
        at = 0
        while at < len(stream):
            at = self._word(b"d" + struct.pack("<I", at) + stream[at : at + CHUNK])
            if progress is not None:
                progress(at, len(stream))
        return self._word(b"f")

    def infer(self, row: bytes, output_bytes: int) -> bytes:
        """Return the model's outputs, one after another, for its inputs, one after another."""
        for at in range(0, len(row), CHUNK):
            self._word(b"i" + struct.pack("<I", at) + row[at : at + CHUNK])
        self._word(b"r")
        parts = []
        for at in range(0, output_bytes, CHUNK):
            parts.append(self._ask(b"o" + struct.pack("<2I", at, min(CHUNK, output_bytes - at)), b"O"))
        return b"".join(parts)

    def _word(self, content: bytes) -> int:
        found: int = struct.unpack("<I", self._ask(content, b"K"))[0]
        return found

    def _ask(self, content: bytes, kind: bytes) -> bytes:
        for _ in range(MOST_TRIES):
            self._number = self._number % 255 + 1
            number = bytes((self._number,))
            self._line.write(encode(content[:1] + number + content[1:]))
            reply = self._reply()
            while reply and reply[1:2] != number and (reply[:1] != b"S" or kind == b"H"):
                reply = self._reply()  # of an earlier question, or it has just started and hears this one then
            if reply[:1] == kind:
                return reply[2:]
            if reply[:1] in (b"E", b"S"):
                problem = struct.unpack("<I", reply[2:6])[0]
                if reply[:1] == b"S":
                    raise LinkError(f"the board started anew: {said(problem)}", problem)
                if problem != DAMAGED:
                    raise LinkError(f"the board refuses: {said(problem)}", problem)
        raise LinkError("the board does not answer")

    def _reply(self) -> bytes:
        """Return the next sound frame's content, nothing where none came in time."""
        while b"\0" not in self._rest:
            more = self._line.read()
            if not more:
                return b""
            self._rest += more
        frame, _, self._rest = self._rest.partition(b"\0")
        return decode(frame) or b""

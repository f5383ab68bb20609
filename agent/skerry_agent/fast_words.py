"""The frames of the fast channel: how a program on the device asks for inferences of tensors in its own memory.

Each frame is one packet of a Unix socket (SOCK_SEQPACKET), so none can come in halves. Numbers are little-endian.

    program to agent   MODEL   u8 kind, u8 version of these frames, then the model's name
                       RUN     u8 kind, u8 flags, u16 bytes of the capture's id, u32 tag, then that id
    agent to program   MEMORY  u8 kind, u8 version, u16 inputs, u16 outputs, u16 0, u64 bytes of memory in all, then for
                               each tensor: u64 where it begins, u64 its bytes; with it the memory's descriptor
                               (SCM_RIGHTS)
                       DONE    u8 kind, u8 bytes of the release's version, u16 bytes of the prediction's id, u32 tag,
                               u64 nanoseconds that the model took; then version and id
                       FAILED  u8 kind, u8 0, u16 status (as of HTTP), u32 tag, then what was wrong

A program's frames are answered in turn, one at a time. Both sides import this: standard library only.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

VERSION = 1
MODEL, RUN = 1, 2
MEMORY, DONE, FAILED = 65, 66, 127
NO_SAMPLE = 1  # a flag of RUN: keep this input out of samples and sketches

MAX_ASKED_BYTES = 1024
MAX_ANSWER_BYTES = 65536
_MAX_TENSORS = 2048

_MODEL = struct.Struct("<BB")
_RUN = struct.Struct("<BBHI")
_MEMORY = struct.Struct("<BBHHHQ")
_PLACE = struct.Struct("<QQ")
_DONE = struct.Struct("<BBHIQ")
_FAILED = struct.Struct("<BBHI")


class FrameError(ValueError):
    """A frame that has none of the forms above."""


class Run(NamedTuple):
    """A RUN frame taken apart."""

    tag: int
    keep: bool
    capture: str | None


class Done(NamedTuple):
    """A DONE frame taken apart."""

    tag: int
    elapsed_ns: int
    version: str
    prediction: str


class Failed(NamedTuple):
    """A FAILED frame taken apart."""

    tag: int
    status: int
    text: str


def beside(socket_path: Path) -> Path:
    """Return where the fast channel listens that belongs to an HTTP socket.

    >>> beside(Path("/run/api.sock")).name
    'api.fast.sock'
    """
    return socket_path.with_suffix(".fast.sock")


def model(name: str) -> bytes:
    """Return the MODEL frame."""
    return _MODEL.pack(MODEL, VERSION) + name.encode()


def read_model(frame: bytes) -> str:
    """Return the name in a MODEL frame. Raises FrameError."""
    if len(frame) <= _MODEL.size or frame[0] != MODEL:
        raise FrameError("the first frame must be MODEL, with the model's name")
    if frame[1] != VERSION:
        raise FrameError(f"version {frame[1]} of the frames is not spoken here: {VERSION} is")
    try:
        return frame[_MODEL.size :].decode()
    except UnicodeDecodeError:
        raise FrameError("the model's name is not UTF-8") from None


def memory(inputs: int, places: list[tuple[int, int]], total: int) -> bytes:
    """Return the MEMORY frame; `places` holds begin and size of each tensor, the inputs first.

    Raises:
        FrameError: too many tensors for one frame.
    """
    if len(places) > _MAX_TENSORS:
        raise FrameError(f"{len(places)} tensors, at most {_MAX_TENSORS} fit a frame")
    first = _MEMORY.pack(MEMORY, VERSION, inputs, len(places) - inputs, 0, total)
    return first + b"".join(_PLACE.pack(*place) for place in places)


def read_memory(frame: bytes) -> tuple[list[tuple[int, int]], int]:
    """Return begin and size of each tensor, and the bytes of memory in all. Raises FrameError."""
    if len(frame) < _MEMORY.size or frame[0] != MEMORY or frame[1] != VERSION:
        raise FrameError("no MEMORY frame")
    _, _, inputs, outputs, _, total = _MEMORY.unpack_from(frame)
    if len(frame) != _MEMORY.size + (inputs + outputs) * _PLACE.size:
        raise FrameError("a MEMORY frame of another length than it says")
    return [(begin, size) for begin, size in _PLACE.iter_unpack(frame[_MEMORY.size :])], total


def run(tag: int, *, keep: bool, capture: str | None) -> bytes:
    """Return the RUN frame."""
    name = (capture or "").encode()
    return _RUN.pack(RUN, 0 if keep else NO_SAMPLE, len(name), tag) + name


def read_run(frame: bytes) -> Run:
    """Return what a RUN frame asks for. Raises FrameError."""
    if len(frame) < _RUN.size:
        raise FrameError("no RUN frame")
    kind, flags, size, tag = _RUN.unpack_from(frame)
    if kind != RUN or flags > NO_SAMPLE or len(frame) != _RUN.size + size:
        raise FrameError("no RUN frame, or of another length than it says")
    return Run(tag, flags == 0, frame[_RUN.size :].decode("utf-8", "replace") if size else None)


def done(tag: int, elapsed_ns: int, version: bytes, prediction: bytes) -> bytes:
    """Return the DONE frame. `version` has at most 255 bytes, `prediction` at most 65 535."""
    return _DONE.pack(DONE, len(version), len(prediction), tag, elapsed_ns) + version + prediction


def failed(tag: int, status: int, text: str) -> bytes:
    """Return the FAILED frame."""
    return _FAILED.pack(FAILED, 0, status, tag) + text.encode("utf-8", "replace")[:4000]


def read_answer(frame: bytes) -> Done | Failed:
    """Return what the agent answered. Raises FrameError."""
    kind = frame[0] if frame else 0
    if kind == DONE and len(frame) >= _DONE.size:
        _, version, prediction, tag, elapsed_ns = _DONE.unpack_from(frame)
        middle = _DONE.size + version
        if len(frame) == middle + prediction:
            texts = frame[_DONE.size : middle], frame[middle:]
            return Done(tag, elapsed_ns, *(text.decode("utf-8", "replace") for text in texts))
    if kind == FAILED and len(frame) >= _FAILED.size:
        _, _, status, tag = _FAILED.unpack_from(frame)
        return Failed(tag, status, frame[_FAILED.size :].decode("utf-8", "replace"))
    raise FrameError("neither DONE nor FAILED")

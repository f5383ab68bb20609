"""The frames between the supervisor and one worker: one datagram each on a SOCK_SEQPACKET pair, tensors never inside.

    supervisor to worker   START  what to load, which descriptors hold it, what to lock (marshal: both ends are one
                           interpreter,
                                  and the sender is trusted)
                           RUN    u64 counter, u8 place; the next may come before the last is answered
                           PING   nothing
    worker to supervisor   LOCKED the sandbox's layers, as text
                           READY  f64 load_ms
                           DONE   u64 counter, u64 elapsed_ns
                           FAILED u64 counter (0 while loading), u8 cause, text
                           PONG   nothing

What comes from a worker is not trusted: every frame has one exact form and `read_reply` refuses anything else. This
module is imported by the worker, so it imports nothing that costs memory there.
"""

from __future__ import annotations

import marshal
import struct

MAX_FRAME_BYTES = 128 * 1024
MAX_TEXT_BYTES = 1000
MAX_REPLY_BYTES = 2048  # of a worker's frame: what is longer was never meant well

START, RUN, LOCKED, READY, DONE, FAILED, PONG = 1, 2, 3, 4, 5, 6, 8
PING_FRAME, PONG_FRAME = bytes((7,)), bytes((PONG,))

# Why a worker could not answer.
CAUSE_LOAD, CAUSE_ENGINE, CAUSE_NAN = 1, 2, 3

_RUN = struct.Struct("<BQB")
_READY = struct.Struct("<Bd")
_DONE = struct.Struct("<BQQ")
_FAILED = struct.Struct("<BQB")

Plain = dict[str, object]


class FrameError(ValueError):
    """A frame that has none of the forms above."""


def start(plan: Plain) -> bytes:
    """Return the START frame.

    Raises:
        FrameError: the plan does not fit a frame.
    """
    frame = bytes((START,)) + marshal.dumps(plan)
    if len(frame) > MAX_FRAME_BYTES:
        raise FrameError(f"a start of {len(frame)} bytes, at most {MAX_FRAME_BYTES} fit a frame")
    return frame


def read_start(frame: bytes) -> Plain:
    """Return the plan of a START frame (worker's side)."""
    if not frame or frame[0] != START:
        raise FrameError("no START frame")
    plan = marshal.loads(frame[1:])
    if not isinstance(plan, dict):
        raise FrameError("a START frame without a plan")
    return plan


def run(counter: int, place: int = 0) -> bytes:
    """Return the RUN frame: the inputs lie in this place of the shared region, answer there."""
    return _RUN.pack(RUN, counter, place)


def read_run(frame: bytes) -> tuple[int, int]:
    """Return the counter and the place of a RUN frame (worker's side)."""
    kind, counter, place = _RUN.unpack(frame)
    if kind != RUN:
        raise FrameError("no RUN frame")
    return int(counter), int(place)


def locked(layers: str) -> bytes:
    """Return the LOCKED frame."""
    return bytes((LOCKED,)) + layers.encode()[:MAX_TEXT_BYTES]


def ready(load_ms: float) -> bytes:
    """Return the READY frame."""
    return _READY.pack(READY, load_ms)


def done(counter: int, elapsed_ns: int) -> bytes:
    """Return the DONE frame."""
    return _DONE.pack(DONE, counter, elapsed_ns)


def failed(counter: int, cause: int, text: str) -> bytes:
    """Return the FAILED frame."""
    return _FAILED.pack(FAILED, counter, cause) + text.encode("utf-8", "replace")[:MAX_TEXT_BYTES]


class Reply:
    """One frame from a worker, taken apart. Fields that its kind does not carry are 0 or empty."""

    __slots__ = ("cause", "counter", "elapsed_ns", "kind", "load_ms", "text")

    def __init__(
        self, kind: int, counter: int = 0, elapsed_ns: int = 0, load_ms: float = 0.0, cause: int = 0, text: str = ""
    ) -> None:
        self.kind = kind
        self.counter = counter
        self.elapsed_ns = elapsed_ns
        self.load_ms = load_ms
        self.cause = cause
        self.text = text


def read_reply(frame: bytes) -> Reply:
    """Return what a worker said.

    Raises:
        FrameError: none of the forms; the worker is broken or hostile.
    """
    kind = frame[0] if frame else 0
    if kind == DONE and len(frame) == _DONE.size:
        _, counter, elapsed_ns = _DONE.unpack(frame)
        return Reply(DONE, counter=counter, elapsed_ns=elapsed_ns)
    if kind == FAILED and len(frame) >= _FAILED.size:
        _, counter, cause = _FAILED.unpack_from(frame)
        return Reply(FAILED, counter=counter, cause=cause, text=plain_text(frame[_FAILED.size :]))
    if kind == READY and len(frame) == _READY.size:
        load_ms = _READY.unpack(frame)[1]
        return Reply(READY, load_ms=load_ms if 0 <= load_ms < 1e9 else 0.0)
    if frame == PONG_FRAME:
        return Reply(PONG)
    if kind == LOCKED:
        return Reply(LOCKED, text=plain_text(frame[1:]))
    raise FrameError(f"a frame of kind {kind} and {len(frame)} bytes")


def plain_text(data: bytes) -> str:
    """Return a worker's text fit for a log line: one line, printable, short."""
    text = data[:MAX_TEXT_BYTES].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else " " for letter in text)

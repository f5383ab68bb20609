"""A reader of FlatBuffers that follows no offset before it has been checked.

A table is a position whose first word leads back to its vtable; the vtable says how far each field lies from the
table's start (FlatBuffers internals, flatbuffers.dev). Offsets of tables, vectors and texts are unsigned, so they lead
forward only: there are no cycles to run into, and what is shared is bounded by the counts that callers give.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.errors import ModelError

MAX_TEXT_BYTES = 512
_HINT = "is the file damaged? convert it again"


class Table:
    """One table in a buffer. Fields are named by their slot: their place in the schema, counted from 0."""

    __slots__ = ("_at", "_buffer", "_fields")

    def __init__(self, buffer: bytes, at: int) -> None:
        """Check the table's vtable.

        Raises:
            ModelError: it does not lie inside the buffer.
        """
        self._buffer = buffer
        self._at = at
        vtable = at - int(unpack(buffer, "<i", at))
        size = int(unpack(buffer, "<H", vtable))
        if size < 4 or size % 2 or vtable + size > len(buffer):
            raise damaged("a table's layout lies outside the file")
        self._fields = struct.unpack_from(f"<{size // 2 - 2}H", buffer, vtable + 4)

    def _find(self, slot: int) -> int:
        """Return where a field lies; 0 where it is not given."""
        offset = self._fields[slot] if slot < len(self._fields) else 0
        return self._at + offset if offset else 0

    def number(self, slot: int, kind: str, default: Any = 0) -> Any:
        """Return a number; `kind` is its letter in Python's struct."""
        at = self._find(slot)
        return unpack(self._buffer, f"<{kind}", at) if at else default

    def integer(self, slot: int, default: int = 0, kind: str = "i") -> int:
        """Return a whole number."""
        return int(self.number(slot, kind, default))

    def flag(self, slot: int) -> bool:
        """Return a truth value."""
        return bool(self.number(slot, "B", 0))

    def table(self, slot: int) -> Table | None:
        """Return the table that a field leads to."""
        at = self._find(slot)
        return Table(self._buffer, _forward(self._buffer, at)) if at else None

    def tables(self, slot: int, most: int, what: str) -> list[Table]:
        """Return a vector of tables of at most so many.

        Raises:
            ModelError: more, or outside the file.
        """
        start, count = self._vector(slot, 4, what)
        if count > most:
            raise ModelError(f"{count} {what}, more than {most}", hint=_HINT)
        return [Table(self._buffer, _forward(self._buffer, start + 4 * index)) for index in range(count)]

    def numbers(self, slot: int, kind: Any, most: int, what: str) -> NDArray[Any]:
        """Return a vector of numbers as a read-only view of the file."""
        item = np.dtype(kind).itemsize
        start, count = self._vector(slot, item, what)
        if count > most:
            raise ModelError(f"{count} {what}, more than {most}", hint=_HINT)
        return np.frombuffer(self._buffer, kind, count, start) if count else np.zeros(0, kind)

    def text(self, slot: int) -> str:
        """Return a short text.

        Raises:
            ModelError: longer than MAX_TEXT_BYTES, or no UTF-8.
        """
        content = self.numbers(slot, np.uint8, MAX_TEXT_BYTES, "bytes of a name").tobytes()
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(f"the name {content!r:.80} is not text", hint=_HINT) from error

    def _vector(self, slot: int, item: int, what: str) -> tuple[int, int]:
        at = self._find(slot)
        if not at:
            return 0, 0
        start = _forward(self._buffer, at)
        count = int(unpack(self._buffer, "<I", start))
        if start + 4 + count * item > len(self._buffer):
            raise damaged(f"{count} {what} do not fit into the file")
        return start + 4, count


def root(buffer: bytes) -> Table:
    """Return a buffer's root table.

    Raises:
        ModelError: there is none.
    """
    return Table(buffer, _forward(buffer, 0))


def unpack(buffer: bytes, layout: str, at: int) -> Any:
    """Return one number at a place.

    Raises:
        ModelError: the place is outside the buffer.
    """
    if at < 0 or at + struct.calcsize(layout) > len(buffer):
        raise damaged(f"offset {at} lies outside the file")
    return struct.unpack_from(layout, buffer, at)[0]


def damaged(what: str) -> ModelError:
    """Return the error of a file whose offsets lead nowhere."""
    return ModelError(f"the TFLite file is damaged or cut short: {what}", hint=_HINT)


def _forward(buffer: bytes, at: int) -> int:
    offset = int(unpack(buffer, "<I", at))
    if not offset:
        raise damaged(f"the offset at {at} leads to itself")
    return at + offset

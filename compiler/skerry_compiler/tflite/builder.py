"""A writer of FlatBuffers: tables as plain records, laid out front to back, every byte the same on any machine.

A parent is written before its children, so that unsigned offsets lead forward as the format asks; each table has its
own vtable right before it.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIZES = {"b": 1, "B": 1, "h": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}
CONTENT_ALIGNMENT = 16  # of a buffer's bytes, as the schema forces it


@dataclasses.dataclass(slots=True)
class Record:
    """A table to be written: its fields by slot."""

    fields: dict[int, tuple[str, Any]] = dataclasses.field(default_factory=dict)

    def number(self, slot: int, kind: str, value: float) -> Record:
        """Set a number; `kind` is its letter in Python's struct."""
        self.fields[slot] = (kind, value)
        return self

    def record(self, slot: int, value: Record) -> Record:
        """Set a table."""
        self.fields[slot] = ("record", value)
        return self

    def records(self, slot: int, values: list[Record]) -> Record:
        """Set a vector of tables."""
        self.fields[slot] = ("records", values)
        return self

    def numbers(self, slot: int, values: NDArray[Any], alignment: int = 4) -> Record:
        """Set a vector of numbers."""
        self.fields[slot] = ("numbers", (np.ascontiguousarray(values), alignment))
        return self

    def text(self, slot: int, value: str) -> Record:
        """Set a text."""
        self.fields[slot] = ("text", value)
        return self


def serialise(root: Record, identifier: bytes) -> bytes:
    """Return the file of a root table."""
    buffer = bytearray(8)
    buffer[4:8] = identifier
    waiting: list[tuple[int, str, Any]] = [(0, "record", root)]
    while waiting:
        at, kind, value = waiting.pop(0)
        _write(buffer, at, kind, value, waiting)
    return bytes(buffer)


def _write(buffer: bytearray, at: int, kind: str, value: Any, waiting: list[tuple[int, str, Any]]) -> None:
    """Write what the offset at a place leads to; its own children wait for their turn."""
    if kind == "record":
        start = _table(buffer, value, waiting)
    elif kind == "records":
        start = _aligned(buffer, 4)
        buffer += struct.pack("<I", len(value)) + bytes(4 * len(value))
        waiting += [(start + 4 + 4 * index, "record", each) for index, each in enumerate(value)]
    elif kind == "text":
        start = _aligned(buffer, 4)
        content = value.encode()
        buffer += struct.pack("<I", len(content)) + content + b"\0"
    else:
        content, alignment = value
        _aligned(buffer, 4)
        while (len(buffer) + 4) % max(alignment, content.itemsize):
            buffer += bytes(4)
        start = len(buffer)
        buffer += struct.pack("<I", content.size) + content.tobytes()
    struct.pack_into("<I", buffer, at, start - at)


def _table(buffer: bytearray, record: Record, waiting: list[tuple[int, str, Any]]) -> int:
    """Write a table and its vtable; returns where the table starts. Wide fields come first: nothing is wasted."""
    ordered = sorted(record.fields.items(), key=lambda each: (-_SIZES.get(each[1][0], 4), each[0]))
    slots = 1 + max(record.fields, default=-1)
    offsets, at = [0] * slots, 4
    for slot, (kind, _) in ordered:
        size = _SIZES.get(kind, 4)
        at = -(-at // size) * size
        offsets[slot] = at
        at += size
    vtable = struct.pack(f"<HH{slots}H", 4 + 2 * slots, at, *offsets)
    while (len(buffer) + len(vtable)) % 8:
        buffer += b"\0"
    buffer += vtable
    start = len(buffer)
    buffer += struct.pack("<i", len(vtable)) + bytes(at - 4)
    for slot, (kind, value) in record.fields.items():
        if kind in _SIZES:
            struct.pack_into(f"<{kind}", buffer, start + offsets[slot], value)
        else:
            waiting.append((start + offsets[slot], kind, value))
    return start


def _aligned(buffer: bytearray, size: int) -> int:
    """Fill up to a multiple of a size; returns where the next byte goes."""
    buffer += bytes(-len(buffer) % size)
    return len(buffer)

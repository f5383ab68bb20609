"""A reader of UBJSON (draft 12), the binary JSON in which XGBoost saves models, bounded in depth and size.

Numbers are big-endian; arrays of one type become numpy arrays. https://ubjson.org
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from skerry_compiler.errors import ModelError

MAX_DEPTH = 64
MAX_ITEMS = 50_000_000
_NUMBERS = {"i": ">b", "U": ">B", "I": ">h", "l": ">i", "L": ">q", "d": ">f", "D": ">d"}
_ARRAYS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_CONSTANTS = {"T": True, "F": False, "Z": None}


def parse(content: bytes) -> Any:
    """Return the value that a file holds.

    Raises:
        ModelError: cut short, nested too deep, too many items, or no UBJSON.
    """
    reader = _Reader(content)
    try:
        found = reader.value(reader.marker(), 0)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ModelError("the UBJSON is cut short or damaged") from error
    if reader.at != len(content):
        raise ModelError("the UBJSON goes on behind its end")
    return found


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content, self.at, self.items = content, 0, 0

    def marker(self) -> str:
        while self.content[self.at] == ord("N"):  # padding
            self.at += 1
        self.at += 1
        return chr(self.content[self.at - 1])

    def value(self, kind: str, depth: int) -> Any:
        self.items += 1
        if depth > MAX_DEPTH or self.items > MAX_ITEMS:
            raise ModelError(f"UBJSON nested deeper than {MAX_DEPTH}, or of more than {MAX_ITEMS} values")
        if kind in _NUMBERS:
            return self._number(kind)
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind == "S":
            return self._text(self._length())
        if kind == "C":
            return self._text(1)
        if kind == "{":
            return self._object(depth)
        if kind == "[":
            return self._array(depth)
        raise ModelError(f"UBJSON has no type {kind!r}")

    def _number(self, kind: str) -> Any:
        found = struct.unpack_from(_NUMBERS[kind], self.content, self.at)[0]
        self.at += struct.calcsize(_NUMBERS[kind])
        return found

    def _length(self) -> int:
        kind = self.marker()
        if kind not in "iUIlL":
            raise ModelError("a length in UBJSON that is no whole number")
        length = int(self._number(kind))
        if not 0 <= length <= len(self.content):
            raise ModelError("a length in UBJSON beyond the file's end")
        return length

    def _text(self, length: int) -> str:
        if self.at + length > len(self.content):
            raise IndexError
        self.at += length
        return self.content[self.at - length : self.at].decode()

    def _head(self) -> tuple[str | None, int | None]:
        """Return the type and the number of items where the container gives them ahead."""
        kind = count = None
        if self.content[self.at] == ord("$"):
            self.at += 1
            kind = self.marker()
        if self.content[self.at] == ord("#"):
            self.at += 1
            count = self._length()
        elif kind is not None:
            raise ModelError("UBJSON of one type without a length")
        return kind, count

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._head()
        found: dict[str, Any] = {}
        while count is None or len(found) < count:
            if count is None and self.content[self.at] == ord("}"):
                self.at += 1
                break
            name = self._text(self._length())
            if name in found:
                raise ModelError(f"UBJSON that names {name!r:.40} twice")
            found[name] = self.value(kind or self.marker(), depth + 1)
        return found

    def _array(self, depth: int) -> Any:
        kind, count = self._head()
        if kind in _ARRAYS:
            assert count is not None
            typed = np.dtype(_ARRAYS[kind])
            if self.at + count * typed.itemsize > len(self.content):
                raise IndexError
            self.at += count * typed.itemsize
            return np.frombuffer(self.content, typed, count, self.at - count * typed.itemsize).astype(
                typed.newbyteorder("=")
            )
        found: list[Any] = []
        while count is None or len(found) < count:
            if count is None and self.content[self.at] == ord("]"):
                self.at += 1
                break
            found.append(self.value(kind or self.marker(), depth + 1))
        return found

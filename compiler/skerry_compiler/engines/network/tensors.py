"""Tensors whose memory order is decided: height x width x channels, channels innermost, with a border ("halo")."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
ALIGNMENT_BYTES = 64
SLACK_BYTES = 128  # kernels read whole vectors: up to this far past the last element
# The types of elements by numpy's names, and in C; `_m` types may share memory with any other.
CTYPES = {
    "float32": "float", "float64": "double_m", "bool": "uint8_t", "uint8": "uint8_t", "int8": "int8_t",
    "uint16": "uint16_m", "int16": "int16_m", "uint32": "uint32_m", "int32": "int32_m",
    "uint64": "uint64_m", "int64": "int64_m",
}  # fmt: skip
# Types of the caller's elements: halves become float32 while they are taken, and back while they are given.
BORDER = {**CTYPES, "float16": "uint16_m"}


@dataclasses.dataclass(frozen=True, slots=True)
class Quant:
    """How a byte stands for a real number: real = (byte - zero) * scale."""

    scale: float
    zero: int


@dataclasses.dataclass(eq=False, slots=True)
class Tensor:
    """An activation of h x w pixels of c channels of type `kind` (a key of CTYPES); float32 is stored as bytes where
    `quant` is given. `halo` is (top, left, bottom, right) in pixels, `offset` the first byte in the arena, `alias` the
    tensor whose memory this one shares.
    """

    name: str
    h: int
    w: int
    c: int
    halo: tuple[int, int, int, int] = (0, 0, 0, 0)
    quant: Quant | None = None
    offset: int = -1
    alias: Tensor | None = None
    kind: str = "float32"

    @property
    def item(self) -> int:
        """Bytes of one element."""
        return int(np.dtype(self.kind).itemsize) if self.quant is None else 1

    @property
    def ctype(self) -> str:
        """The C type of one element."""
        return CTYPES[self.kind] if self.quant is None else "uint8_t"

    @property
    def row(self) -> int:
        """Elements from one row to the next."""
        return (self.w + self.halo[1] + self.halo[3]) * self.c

    @property
    def origin(self) -> int:
        """Elements from the start of the memory to pixel (0, 0)."""
        return self.halo[0] * self.row + self.halo[1] * self.c

    @property
    def elements(self) -> int:
        """Elements without the halo."""
        return self.h * self.w * self.c

    @property
    def dense(self) -> bool:
        """Whether the elements lie without gaps."""
        return not any(self.halo)

    @property
    def size_bytes(self) -> int:
        """Bytes in the arena, with halo and slack."""
        used = (self.h + self.halo[0] + self.halo[2]) * self.row * self.item
        return -(-used // ALIGNMENT_BYTES) * ALIGNMENT_BYTES + SLACK_BYTES

    def widen(self, halo: tuple[int, int, int, int]) -> None:
        """Make the halo at least this wide."""
        top, left, bottom, right = (max(a, b) for a, b in zip(self.halo, halo, strict=True))
        self.halo = (top, left, bottom, right)


Operand = Tensor | Array
ConstantArray = NDArray[Any]

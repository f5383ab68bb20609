"""Tensors by the names of the Open Inference Protocol v2, and how their bytes lie: C order, little-endian, no
padding.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from enum import StrEnum

from skerry_contracts.errors import MismatchError

MAX_TENSOR_BYTES = 1 << 30


class DType(StrEnum):
    """Element types, named as in the Open Inference Protocol v2."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"


ITEM_BYTES: dict[DType, int] = {
    DType.BOOL: 1,
    DType.UINT8: 1,
    DType.UINT16: 2,
    DType.UINT32: 4,
    DType.UINT64: 8,
    DType.INT8: 1,
    DType.INT16: 2,
    DType.INT32: 4,
    DType.INT64: 8,
    DType.FP16: 2,
    DType.FP32: 4,
    DType.FP64: 8,
}

# struct and array codes; array has no FP16, struct has ("e").
STRUCT_CODE: dict[DType, str] = {
    DType.BOOL: "?",
    DType.UINT8: "B",
    DType.UINT16: "H",
    DType.UINT32: "I",
    DType.UINT64: "Q",
    DType.INT8: "b",
    DType.INT16: "h",
    DType.INT32: "i",
    DType.INT64: "q",
    DType.FP16: "e",
    DType.FP32: "f",
    DType.FP64: "d",
}


@dataclasses.dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model: name, element type and fixed shape (batch included). An extent of 0 makes an
    empty tensor, of no bytes.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 256 or any(ord(letter) < 32 for letter in self.name):
            raise MismatchError("name", "1 to 256 characters, no control characters")
        if len(self.shape) > 8 or any(not 0 <= extent <= 1 << 31 for extent in self.shape):
            raise MismatchError("shape", "at most eight extents, each from 0 to 2^31")
        if self.size_bytes > MAX_TENSOR_BYTES:
            raise MismatchError("shape", f"{self.size_bytes} bytes, at most {MAX_TENSOR_BYTES}")

    @property
    def elements(self) -> int:
        """How many elements the tensor holds."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """How many bytes the tensor holds."""
        return self.elements * ITEM_BYTES[self.dtype]


@functools.lru_cache(maxsize=64)
def _checked_bytes(name: str, dtype: DType, shape: tuple[int, ...]) -> int:
    """Return a tensor's size in bytes; kept, because a device makes the same few tensors with every inference."""
    return TensorSpec(name, dtype, shape).size_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's content. `data` holds the bytes; or `ref` names a blob (SHA-256) that holds them."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    data: bytes | None = None
    ref: str | None = None

    def __post_init__(self) -> None:
        size_bytes = _checked_bytes(self.name, self.dtype, tuple(self.shape))
        if (self.data is None) == (self.ref is None):
            raise MismatchError("data", "exactly one of data and ref is given")
        if self.data is not None and len(self.data) != size_bytes:
            raise MismatchError("data", f"{len(self.data)} bytes, the shape asks for {size_bytes}")

"""Deltas: a blob as its difference from another one that the device already has.

A delta is itself a blob: one line of canonical JSON (`Delta`), then the body. Two methods:

- `tensor`: both blobs have the same length and are read as little-endian numbers of `width` bytes; the body holds the
  differences modulo 2^(8 width), the bytes of equal weight side by side (so that the zeros of small differences lie
  together), block by block, compressed with LZMA. Made for retrained weights: most differences are small.
- `zstd`: a Zstandard frame that takes the base as its prefix (RFC 8878; `zstd --patch-from`). Made for insertions,
  other lengths, and anything that is no tensor.

Whoever applies one knows length and digest of the result from elsewhere and checks both: a delta is not trusted.
Arithmetic on whole blocks is done on Python's long integers, many numbers in one, so that neither side needs numpy.
"""

from __future__ import annotations

import dataclasses
import lzma
from collections.abc import Iterator

from skerry_contracts import codec, names
from skerry_contracts.errors import ContractError, MismatchError

TENSOR = "tensor"
ZSTD = "zstd"
METHODS = (TENSOR, ZSTD)
WIDTHS = (1, 2, 4)
BLOCK_BYTES = 1 << 20
MAX_HEADER_BYTES = 1024
# Fixed, so that nothing in a delta decides how much memory a device spends on it.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 22, "lc": 0, "lp": 0, "pb": 0}]
_PIECE_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class Delta:
    """The first line of a delta: from which blob to which, and how. `width` is 0 where the method has none."""

    base: str
    target: str
    size_bytes: int
    method: str
    width: int = 0

    def __post_init__(self) -> None:
        names.sha256(self.base)
        names.sha256(self.target)
        if self.method not in METHODS:
            raise MismatchError("method", f"{self.method!r:.40} is none of {', '.join(METHODS)}")
        if (self.method == TENSOR) != (self.width in WIDTHS):
            raise MismatchError("width", "1, 2 or 4 for tensors, 0 otherwise")
        if self.size_bytes < 0:
            raise MismatchError("size_bytes", "from 0 upward")


@dataclasses.dataclass(frozen=True, slots=True)
class DeltaOffer:
    """What a fleet answers a device that asks for a delta: the delta's own digest and length, and its base."""

    base: str
    sha256: str
    size_bytes: int
    method: str

    def __post_init__(self) -> None:
        names.sha256(self.base)
        names.sha256(self.sha256)
        if not 0 < self.size_bytes <= 1 << 40:
            raise MismatchError("size_bytes", "from 1 to 2^40")


def split(delta: bytes | memoryview) -> tuple[Delta, memoryview]:
    """Return a delta's first line and its body.

    Raises:
        ContractError: not a delta.
    """
    view = memoryview(delta)
    line, found, _ = bytes(view[:MAX_HEADER_BYTES]).partition(b"\n")
    if not found:
        raise MismatchError("delta", "has no first line")
    return codec.decode(Delta, line), view[len(line) + 1 :]


def join(header: Delta, body: bytes) -> bytes:
    """Return a delta as bytes."""
    return codec.encode(header) + b"\n" + body


def difference(base: memoryview, target: memoryview, width: int) -> bytes:
    """Return the body of a `tensor` delta.

    Raises:
        MismatchError: the two differ in length.
    """
    if len(base) != len(target):
        raise MismatchError("base", f"{len(base)} bytes, the target has {len(target)}")
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    parts = []
    for start in range(0, len(target), BLOCK_BYTES):
        old, new = (bytes(each[start : start + BLOCK_BYTES]) for each in (base, target))
        parts.append(packer.compress(_planes(_minus(new, old, width), width)))
    return b"".join([*parts, packer.flush()])


def restored(base: memoryview, body: memoryview, width: int) -> Iterator[bytes]:
    """Return the target's bytes, block by block, from its base and the body of a `tensor` delta.

    Raises:
        ContractError: the body is damaged, or of another length than the base.
    """
    packed = _Unpacker(body)
    for start in range(0, len(base), BLOCK_BYTES):
        old = bytes(base[start : start + BLOCK_BYTES])
        yield _plus(old, _woven(packed.take(len(old)), width), width)


class _Unpacker:
    """Takes exact numbers of bytes out of a raw LZMA stream, never more than asked for."""

    def __init__(self, body: memoryview) -> None:
        self._body, self._at = body, 0
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)

    def take(self, count: int) -> bytes:
        parts = []
        while count:
            more = b""
            if self._stream.needs_input and not self._stream.eof:
                more = bytes(self._body[self._at : self._at + _PIECE_BYTES])
                self._at += len(more)
                if not more:
                    raise MismatchError("body", "ends too early")
            try:
                piece = self._stream.decompress(more, max_length=count)
            except (lzma.LZMAError, EOFError) as error:
                raise ContractError(f"the delta's body is damaged: {error}") from error
            if not piece and self._stream.eof:
                raise MismatchError("body", "ends too early")
            parts.append(piece)
            count -= len(piece)
        return b"".join(parts)


def _high(count: int, width: int) -> int:
    """Return the number whose every `width` bytes, over `count` bytes, have only their highest bit set."""
    return int.from_bytes((b"\0" * (width - 1) + b"\x80") * -(-count // width), "little")


def _plus(a: bytes, b: bytes, width: int) -> bytes:
    """Return the sums of all numbers: the low bits added without their neighbours' carry, the highest by xor."""
    count = -(-len(a) // width) * width
    high = _high(len(a), width)
    x, y = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    low = (1 << 8 * count) - 1 ^ high
    return (((x & low) + (y & low)) ^ ((x ^ y) & high)).to_bytes(count, "little")[: len(a)]


def _minus(a: bytes, b: bytes, width: int) -> bytes:
    """Return the differences of all numbers: a borrow stops at each number's highest bit."""
    count = -(-len(a) // width) * width
    high = _high(len(a), width)
    x, y = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    low = (1 << 8 * count) - 1 ^ high
    return (((x | high) - (y & low)) ^ ((x ^ ~y) & high)).to_bytes(count, "little")[: len(a)]


def _planes(data: bytes, width: int) -> bytes:
    return data if width == 1 else b"".join(data[each::width] for each in range(width))


def _woven(planes: bytes, width: int) -> bytes:
    if width == 1:
        return planes
    found, start = bytearray(len(planes)), 0
    for each in range(width):
        count = len(range(each, len(planes), width))
        found[each::width] = planes[start : start + count]
        start += count
    return bytes(found)

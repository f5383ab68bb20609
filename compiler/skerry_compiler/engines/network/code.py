"""Text of C, and the weights beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.tensors import ALIGNMENT_BYTES, CTYPES, Tensor


def number(value: float) -> str:
    """Return a float32 constant that reads back as the same number."""
    if not math.isfinite(np.float32(value)):
        return '__builtin_nanf("")' if math.isnan(value) else f"({'-' if value < 0 else ''}__builtin_inff())"
    text = f"{float(np.float32(value)):.9g}"
    return text + ("f" if any(c in text for c in ".en") else ".f")


class Code:
    """Lines of C with indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str) -> None:
        """Append a line."""
        self.lines.append("  " * self.depth + text if text else "")

    def each(self, texts: Iterable[str]) -> None:
        """Append lines."""
        for text in texts:
            self.line(text)

    def open(self, text: str) -> None:
        """Append a line that opens a block."""
        self.line(f"{text} {{" if text else "{")
        self.depth += 1

    def close(self) -> None:
        """Close a block."""
        self.depth -= 1
        self.line("}")

    def loop(self, variable: str, end: int, step: int = 1, start: int = 0) -> None:
        """Open a counting loop; a single round becomes a constant."""
        if start + step >= end:
            self.open("")
            self.line(f"const int {variable} = {start};")
        else:
            increment = f"{variable}++" if step == 1 else f"{variable} += {step}"
            self.open(f"for (int {variable} = {start}; {variable} < {end}; {increment})")


class Tables:
    """One blob of constants, each at an aligned offset, the same bytes stored once."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self.known: dict[bytes, int] = {}
        self.helpers: dict[str, None] = {}
        self.scratch_bytes = 0

    def define(self, text: str) -> None:
        """Ask for C functions ahead of the kernels, once."""
        self.helpers[text] = None

    def reserve(self, size_bytes: int) -> None:
        """Ask for memory named `scratch` that lasts for one operation."""
        self.scratch_bytes = max(self.scratch_bytes, size_bytes)

    def add(self, values: NDArray[np.generic] | list[float], dtype: str) -> str:
        """Store values of a type (a key of CTYPES); returns the C expression that points at them."""
        data = np.ascontiguousarray(values, dtype).tobytes()
        data += b"\0" * (-len(data) % ALIGNMENT_BYTES)
        at = self.known.setdefault(data, len(self.blob))
        if at == len(self.blob):
            self.blob += data
        ctype = "int32_t" if dtype == "int32" else CTYPES[dtype]
        return f"((const {ctype} *)(weights + {at}))"


def at(tensor: Tensor) -> str:
    """Return the C expression of the start of a tensor's memory."""
    owner = tensor
    while owner.alias is not None:
        owner = owner.alias
    return f"(({tensor.ctype} *)(arena + {owner.offset}))"


def halo(code: Code, tensor: Tensor) -> None:
    """Write the lines that fill a tensor's halo with its zero."""
    _, left, bottom, right = tensor.halo
    if not any(tensor.halo):
        return
    value = tensor.quant.zero if tensor.quant else 0
    item, start = tensor.item, at(tensor)
    first, last = tensor.origin, tensor.origin + (tensor.h - 1) * tensor.row + tensor.w * tensor.c
    tail = bottom * tensor.row + right * tensor.c
    if first:
        code.line(f"fill_bytes({start}, {value}, {first * item});")
    if tail:
        code.line(f"fill_bytes({start} + {last}, {value}, {tail * item});")
    gap = (left + right) * tensor.c
    if gap and tensor.h > 1:
        begin = tensor.origin + tensor.w * tensor.c
        code.open(f"for (int y = 0; y < {tensor.h - 1}; y++)")
        code.line(f"fill_bytes({start} + {begin} + y * {tensor.row}, {value}, {gap * item});")
        code.close()


def literal(text: str) -> str:
    """Return text that is safe inside a C comment."""
    return "".join(c if (c.isascii() and c.isalnum()) or c in " _-./:;,>()" else "?" for c in text)[:100]

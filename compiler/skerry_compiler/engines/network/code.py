"""Text of C, and the weights beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.cost import LINE_BYTES
from skerry_compiler.engines.network.tensors import ALIGNMENT_BYTES, CTYPES, Tensor


def number(value: float) -> str:
    """Return a float32 constant that reads back as the same number."""
    if not math.isfinite(np.float32(value)):
        return '__builtin_nanf("")' if math.isnan(value) else f"({'-' if value < 0 else ''}__builtin_inff())"
    text = f"{float(np.float32(value)):.9g}"
    return text + ("f" if any(c in text for c in ".en") else ".f")


class Code:
    """Lines of C with indentation. `stages` are the functions that do the operation, each with the number of its parts,
    which threads may do at the same time; none where it is one function in one piece. `way`: that of an operation whose
    output lies over what it reads (overlap.py): backwards, loops over rows and columns begin at their end, and either
    way the output's halo is filled last.
    """

    def __init__(self, way: str = "") -> None:
        self.lines: list[str] = []
        self.way = way
        self.last: list[Tensor] = []
        self.depth = 0
        self.stages: list[tuple[str, int]] = []
        self.parts = 1

    def function(self, name: str, parts: int = 1) -> None:
        """Open a function without arguments, or one that does one of several parts of its work."""
        self.parts = parts
        self.stages.append((name, parts))
        self.open(f"static void {name}({'const int part, const int slot' if parts > 1 else 'void'})")

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
        if self.depth == 1 and self.last:
            _fill(self, self.last.pop())
        self.depth -= 1
        self.line("}")

    def loop(self, variable: str, end: int, step: int = 1, start: int = 0) -> None:
        """Open a counting loop; a single round becomes a constant."""
        if start + step >= end:
            self.open("")
            self.line(f"const int {variable} = {start};")
        elif self.way == "backwards" and variable in ("row", "column"):
            last = start + (end - start - 1) // step * step
            self.open(f"for (int {variable} = {last}; {variable} >= {start}; {variable} -= {step})")
        else:
            increment = f"{variable}++" if step == 1 else f"{variable} += {step}"
            self.open(f"for (int {variable} = {start}; {variable} < {end}; {increment})")

    def split(self, variable: str, end: int, step: int = 1, start: int = 0) -> None:
        """Open a counting loop of which each part of the function takes its share; what is left over from an earlier
        loop, from `start` on, the first part takes.
        """
        if self.parts == 1:
            self.loop(variable, end, step, start)
            return
        if start:
            self.open(f"for (int {variable} = part ? {end} : {start}; {variable} < {end}; {variable} += {step})")
            return
        rounds = -(-(end - start) // step)
        first, last = (f"{part} * {rounds} / {self.parts} * {step}" for part in ("part", "(part + 1)"))
        self.line(f"const int {variable}_end = {last};")
        self.open(f"for (int {variable} = {first}; {variable} < {variable}_end; {variable} += {step})")

    def spans(self, *each: tuple[int, int, int]) -> list[tuple[int, int, int]]:
        """Return the (first, end, step) of loops over rows or columns, in the order in which they are to be written,
        without those of no round.
        """
        found = [span for span in each if span[1] > span[0]]
        return found[::-1] if self.way == "backwards" else found


class Tables:
    """One blob of constants, each at an aligned offset, the same bytes stored once. `exact`: the code must give the
    same bits on every processor.
    """

    def __init__(self) -> None:
        self.blob = bytearray()
        self.known: dict[bytes, int] = {}
        self.helpers: dict[str, None] = {}
        self.scratch_bytes = 0
        self.own_bytes = 0
        self.threads = 1
        self.exact = False

    def parts(self, rounds: int) -> int:
        """Return into how many parts the rounds of an outer loop go: two for each thread where there are many, so that
        one that is held up holds up little.
        """
        if self.threads == 1 or rounds < 2:
            return 1
        return min(rounds, 2 * self.threads if rounds >= 8 * self.threads else self.threads)

    def define(self, text: str) -> None:
        """Ask for C functions ahead of the kernels, once."""
        self.helpers[text] = None

    def reserve(self, size_bytes: int) -> None:
        """Ask for memory named `scratch` that lasts for one operation."""
        self.scratch_bytes = max(self.scratch_bytes, size_bytes)

    def reserve_own(self, size_bytes: int) -> None:
        """Ask for memory named `own` that lasts for one part of an operation."""
        self.own_bytes = max(self.own_bytes, -(-size_bytes // LINE_BYTES) * LINE_BYTES)

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
    """Write the lines that fill a tensor's halo with its zero: now, or at the end of the function."""
    if any(tensor.halo) and code.way:
        code.last.append(tensor)
    elif any(tensor.halo):
        _fill(code, tensor)


def _fill(code: Code, tensor: Tensor) -> None:
    _, left, bottom, right = tensor.halo
    if code.parts > 1:
        code.open("if (part == 0)")
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
    if code.parts > 1:
        code.close()


def literal(text: str) -> str:
    """Return text that is safe inside a C comment."""
    return "".join(c if (c.isascii() and c.isalnum()) or c in " _-./:;,>()" else "?" for c in text)[:100]

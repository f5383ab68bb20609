"""Writing C: numbers that read back exactly, tables, and the parts of one source file."""

from __future__ import annotations

import dataclasses
import math
import textwrap

import numpy as np


def number(value: float) -> str:
    """Return a float32 as C text that reads back as the same float32."""
    single = float(np.float32(value))
    if math.isnan(single):
        return '__builtin_nanf("")'
    if math.isinf(single):
        return "__builtin_inff()" if single > 0 else "-__builtin_inff()"
    said = f"{single:.9g}"
    return (said if any(letter in said for letter in ".e") else f"{said}.0") + "f"


def double(value: float) -> str:
    """Return a float64 as C text that reads back as the same float64."""
    full = float(value)
    if math.isnan(full):
        return '__builtin_nan("")'
    if math.isinf(full):
        return "__builtin_inf()" if full > 0 else "-__builtin_inf()"
    said = repr(full)
    return said if any(letter in said for letter in ".e") else f"{said}.0"


def comment(text: str) -> str:
    """Return text that can stand inside a C comment."""
    return "".join(letter if letter.isalnum() or letter in " _-.,:()[]" else "_" for letter in text)[:80]


@dataclasses.dataclass(slots=True)
class Source:
    """One C file in the making: tables first, then one function an operation."""

    tables: list[str] = dataclasses.field(default_factory=list)
    functions: list[str] = dataclasses.field(default_factory=list)
    constant_bytes: int = 0

    def table(self, name: str, content: np.ndarray, c_type: str = "float") -> str:
        """Add a constant table and return its name."""
        flat = content.reshape(-1)
        self.constant_bytes += flat.nbytes
        if c_type in ("float", "double"):
            items = [number(each) for each in flat] if c_type == "float" else [double(each) for each in flat]
        else:
            items = [str(int(each)) for each in flat]
        body = textwrap.fill(", ".join(items), 116, initial_indent="    ", subsequent_indent="    ")
        self.tables.append(f"static const {c_type} {name}[{flat.size}] __attribute__((aligned(64))) = {{\n{body}\n}};")
        return name

    def function(self, name: str, parameters: str, body: str, about: str) -> None:
        """Add a function without result."""
        inner = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
        self.functions.append(f"// {comment(about)}\nstatic void {name}({parameters})\n{{\n{inner}\n}}")

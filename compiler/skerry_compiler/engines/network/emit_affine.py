"""Elementwise operations on bytes that are one factor and one term for each channel, then clamps: what is left of a
BatchNorm and ReLU ahead of a convolution, as in DenseNet. One multiply-add takes a byte to a byte.

Factors and terms stay in registers for a few pixels. Rounding is that of quantised.py: 1.5 * 2^23 + byte.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.emit_map import emit_map
from skerry_compiler.engines.network.graph import Map
from skerry_compiler.engines.network.store import stores
from skerry_compiler.engines.network.tail import BYTE_LIMIT, MAGIC, Place, Result, Tail, index

PIXELS = 4
CLAMPS = ("relu", "clip")


@dataclasses.dataclass(frozen=True, slots=True)
class Affine:
    """output byte = byte * factor + term, f64[c] each, before clamps to low and high."""

    factor: NDArray[np.float64]
    term: NDArray[np.float64]
    low: int
    high: int


def emit(op: Map, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of steps on a tensor, in the short form where there is one."""
    form = affine(op, tables)
    if form is None:
        return emit_map(op, name, tables, machine)
    code, x, y, n = Code(), op.x, op.y, machine.lanes
    while n > 4 and n >= 2 * y.c:
        n //= 2
    code.line(f"/* {literal(op.label)}: a factor and a term for each channel, {y.h}x{y.w}x{y.c} */")
    code.open(f"static void {name}(void)")
    halo(code, y)
    code.line(f"const uint8_t *const x = {at(x)} + {x.origin};")
    code.line(f"uint8_t *const y = {at(y)} + {y.origin};")
    spare = np.zeros(4 * n)
    factor = tables.add(np.concatenate([form.factor, spare]), "float32")
    term = tables.add(np.concatenate([form.term + MAGIC, spare]), "float32")
    rows, columns = (1, y.h * y.w) if x.dense and y.dense else (y.h, y.w)
    code.loop("row", rows)
    full = columns // PIXELS * PIXELS
    for start, end, pixels in ((0, full, PIXELS), (full, columns, columns - full)):
        if end > start:
            code.loop("column", end, pixels, start)
            wide = y.c // (4 * n) * 4 * n
            for first, last, vectors in ((0, wide, 4), (wide, y.c, -(-(y.c - wide) // n))):
                if last > first:
                    code.loop("c", last, vectors * n, first)
                    _block(code, op, form, (factor, term), (pixels, vectors, n))
                    code.close()
            code.close()
    code.close()
    code.close()
    return code


def affine(op: Map, tables: Tables) -> Affine | None:
    """Return the one factor and term that steps come down to, or None."""
    x, y = op.x, op.y
    if x.quant is None or y.quant is None or (x.h, x.w, x.c) != (y.h, y.w, y.c):
        return None
    factor, term = np.full(y.c, x.quant.scale), np.full(y.c, -x.quant.zero * x.quant.scale)
    clamps = next((i for i, step in enumerate(op.steps) if step.name in CLAMPS), len(op.steps))
    for step in op.steps[:clamps]:
        constant = step.operand
        if not isinstance(constant, np.ndarray) or constant.shape[:2] != (1, 1) or constant.dtype != np.float32:
            return None
        row = np.broadcast_to(constant.ravel().astype(np.float64), (y.c,))
        if step.name == "mul":
            factor, term = factor * row, term * row
        elif step.name == "div" and row.all():
            factor, term = factor / row, term / row
        elif step.name in ("add", "sub"):
            term = term + row if step.name == "add" else term - row
        else:
            return None
    bounds = Tail(dataclasses.replace(op, steps=op.steps[clamps:]), tables).clamps()
    factor, term = factor / y.quant.scale, term / y.quant.scale + y.quant.zero
    if bounds is None or not (np.abs(factor) * 255 + np.abs(term)).max() < BYTE_LIMIT:
        return None
    return Affine(factor, term, *bounds)


def _block(code: Code, op: Map, form: Affine, names: tuple[str, str], size: tuple[int, int, int]) -> None:
    """Write pixels x vectors of n channels."""
    pixels, vectors, n = size
    x, y = op.x, op.y
    for j in range(vectors):
        for short, name in zip("ft", names, strict=True):
            code.line(f"const f32x{n} {short}{j} = load{n}({name} + c + {j * n});")
    for m in range(pixels):
        group = []
        for j in range(vectors):
            lanes = f"{y.c} - (c + {j * n})" if y.c % n and j == vectors - 1 else ""
            place = Place("row", f"column + {m}" if m else "column", f"c + {j * n}" if j else "c")
            where = f"x + {index(x, place, (True, True, True))}"
            code.line(f"const i32x{n} b{m}_{j} = as_int{n}(madd{n}(loadu{n}({where}), f{j}, t{j}));")
            group.append(Result(f"b{m}_{j}", place, lanes))
        values = [r.name for r in group] + [group[-1].name] * (4 - vectors)
        packed = f"packlow{n}({', '.join(values)})"
        packed = f"most{4 * n}({packed}, {form.low})" if form.low > 0 else packed
        packed = f"least{4 * n}({packed}, {form.high})" if form.high < 255 else packed
        stores(code, packed, y, group, n)

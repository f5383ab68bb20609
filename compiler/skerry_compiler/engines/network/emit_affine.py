"""Elementwise operations on bytes that are one factor and one term for each channel, then clamps: what is left of a
BatchNorm and ReLU ahead of a convolution, as in DenseNet, and the gates of squeeze and excitation. One multiply-add
takes a byte to a byte.

Factors and terms stay in registers for a few pixels. Rounding is that of quantised.py: 1.5 * 2^23 + byte; it is added
by itself, because together with it a term would lose its fraction.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal, number
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.emit_map import emit_map
from skerry_compiler.engines.network.graph import Map, Tensor
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
    form, bounds = affine(op, tables), gated(op, tables)
    if form is None and bounds is None:
        return emit_map(op, name, tables, machine)
    code, x, y, n = Code(op.way), op.x, op.y, machine.lanes
    while n > 4 and n >= 2 * y.c:
        n //= 2
    code.line(f"/* {literal(op.label)}: a factor and a term for each channel, {y.h}x{y.w}x{y.c} */")
    rows, columns = (1, y.h * y.w) if x.dense and y.dense else (y.h, y.w)
    full = columns // PIXELS * PIXELS
    code.function(name, tables.parts(rows if rows > 1 else full // PIXELS))
    halo(code, y)
    code.line(f"const uint8_t *const x = {at(x)} + {x.origin};")
    code.line(f"uint8_t *const y = {at(y)} + {y.origin};")
    if form is not None:
        spare = np.zeros(4 * n)
        factor = tables.add(np.concatenate([form.factor, spare]), "float32")
        term = tables.add(np.concatenate([form.term, spare]), "float32")
        bounds = form.low, form.high
    else:
        factor, term = _gates(code, op, tables, n)
    assert bounds is not None
    over_rows, over_columns = (code.split, code.loop) if rows > 1 else (code.loop, code.split)
    over_rows("row", rows)
    for start, end, pixels in ((0, full, PIXELS), (full, columns, columns - full)):
        if end > start:
            over_columns("column", end, pixels, start)
            wide = y.c // (4 * n) * 4 * n
            for first, last, vectors in ((0, wide, 4), (wide, y.c, -(-(y.c - wide) // n))):
                if last > first:
                    code.loop("c", last, vectors * n, first)
                    _block(code, op, bounds, (factor, term), (pixels, vectors, n))
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


def gated(op: Map, tables: Tables) -> tuple[int, int] | None:
    """Return the bounds of bytes that are multiplied by a byte for each channel (squeeze and excitation) and clamped;
    None for anything else.
    """
    x, y = op.x, op.y
    gate = op.steps[0].operand if op.steps and op.steps[0].name == "mul" else None
    if not isinstance(gate, Tensor) or (gate.h, gate.w, gate.c) != (1, 1, y.c) or (x.h, x.w, x.c) != (y.h, y.w, y.c):
        return None
    if x.quant is None or y.quant is None or gate.quant is None:
        return None
    most = 255 * gate.quant.scale * x.quant.scale / y.quant.scale
    bounds = Tail(dataclasses.replace(op, steps=op.steps[1:]), tables).clamps()
    return bounds if most * 255 + 255 < BYTE_LIMIT else None


def _gates(code: Code, op: Map, tables: Tables, n: int) -> tuple[str, str]:
    """Write the computation of factors and terms; returns where they are."""
    gate, y = op.steps[0].operand, op.y
    assert isinstance(gate, Tensor) and gate.quant and op.x.quant and y.quant
    wide = -(-y.c // n) * n + 4 * n
    reserve = tables.reserve if code.parts == 1 else tables.reserve_own
    reserve(8 * wide)
    scale = gate.quant.scale * op.x.quant.scale / y.quant.scale
    code.line(
        f"float *const factors = (float *){'scratch' if code.parts == 1 else 'own'}, *const terms = factors + {wide};"
    )
    code.loop("c", y.c, n)
    value = f"(loadu{n}({at(gate)} + {gate.origin} + c) - {number(gate.quant.zero)}) * {number(scale)}"
    code.line(f"const f32x{n} f = {value};")
    code.line(f"store{n}(factors + c, f);")
    code.line(f"store{n}(terms + c, {number(y.quant.zero)} - {number(op.x.quant.zero)} * f);")
    code.close()
    return "factors", "terms"


def _block(code: Code, op: Map, bounds: tuple[int, int], names: tuple[str, str], size: tuple[int, int, int]) -> None:
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
            code.line(f"const i32x{n} b{m}_{j} = as_int{n}(madd{n}(loadu{n}({where}), f{j}, t{j}) + {number(MAGIC)});")
            group.append(Result(f"b{m}_{j}", place, lanes))
        values = [r.name for r in group] + [group[-1].name] * (4 - vectors)
        packed = f"packlow{n}({', '.join(values)})"
        packed = f"most{4 * n}({packed}, {bounds[0]})" if bounds[0] > 0 else packed
        packed = f"least{4 * n}({packed}, {bounds[1]})" if bounds[1] < 255 else packed
        stores(code, packed, y, group, n)

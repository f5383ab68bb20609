"""Pools over windows, and resizing."""

from __future__ import annotations

import numpy as np

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal, number
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Pool, Resize
from skerry_compiler.engines.network.store import store
from skerry_compiler.engines.network.tail import Place, Result, Tail


def emit_pool(op: Pool, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a pool. Windows are cut at the border, so the source needs no halo."""
    code, x, y, n = Code(op.way), op.x, op.y, machine.lanes
    kh, kw = op.kernel
    code.line(
        f"/* {literal(op.label)}: {'mean' if op.mean else 'maximum'} {kh}x{kw} / {op.stride[0]}, {y.h}x{y.w}x{y.c} */"
    )
    code.function(name, tables.parts(y.h))
    halo(code, y)
    code.line(f"const {x.ctype} *const x = {at(x)} + {x.origin};")
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin};")
    code.split("row", y.h)
    _range(code, "r", "row", op.stride[0], op.pads[0], op.dilation[0], kh, x.h)
    code.loop("column", y.w)
    _range(code, "k", "column", op.stride[1], op.pads[1], op.dilation[1], kw, x.w)
    bytes_only = x.quant is not None and not op.mean and not op.steps and x.quant == y.quant
    if bytes_only:
        _byte_maximum(code, op, machine)
    else:
        while n > 4 and n >= 2 * y.c:
            n //= 2
        _floats(code, op, Tail(op, tables), n)
    code.close()
    code.close()
    code.close()
    return code


def _range(code: Code, name: str, out: str, stride: int, before: int, dilation: int, size: int, limit: int) -> None:
    """Write the first and one past the last window index that lie inside the source."""
    code.line(f"const int {name}s = {out} * {stride} - {before};")
    code.line(f"const int {name}0 = {name}s < 0 ? (-{name}s + {dilation - 1}) / {dilation} : 0;")
    code.line(f"const int {name}e = ({limit - 1} - {name}s) / {dilation} + 1;")
    code.line(f"const int {name}1 = {name}e < {size} ? {name}e : {size};")


def _window(code: Code, op: Pool, statements: list[str]) -> None:
    x = op.x
    code.open("for (int r = r0; r < r1; r++)")
    code.open("for (int k = k0; k < k1; k++)")
    column = f"(ks + k * {op.dilation[1]}) * {x.c}"
    code.line(f"const {x.ctype} *const p = x + (rs + r * {op.dilation[0]}) * {x.row} + {column} + c;")
    code.each(statements)
    code.close()
    code.close()


def _byte_maximum(code: Code, op: Pool, machine: Machine) -> None:
    y, q = op.y, 4 * machine.lanes
    while q > 16 and q >= 2 * y.c:
        q //= 2
    code.loop("c", y.c, q)
    code.line(f"u8x{q} v = (u8x{q}){{}};")
    _window(code, op, [f"v = mostv{q}(v, loadq{q}(p));"])
    where = f"y + row * {y.row} + column * {y.c} + c"
    code.line(f"partq{q}({where}, v, {y.c} - c);" if y.c % q else f"storeq{q}({where}, v);")
    code.close()


def _floats(code: Code, op: Pool, tail: Tail, n: int) -> None:
    """Write the window for up to four vectors of channels at a time; bytes are added as integers."""
    x, y = op.x, op.y
    whole = x.quant is not None and op.mean
    kind, load = (f"i32x{n}", "bytes") if whole else (f"f32x{n}", "loadu" if x.quant else "load")
    start = f"({kind}){{}}" if op.mean else f"all{n}(-3.402823466e38f)"
    if op.mean:
        _inverse(code, op)
    wide = y.c // (4 * n) * 4 * n
    for first, end, vectors in ((0, wide, 4), (wide, y.c, -(-(y.c - wide) // n))):
        if end == first:
            continue
        code.loop("c", end, vectors * n, first)
        code.each(f"{kind} s{j} = {start};" for j in range(vectors))
        taken = [f"{load}{n}(p + {j * n})" for j in range(vectors)]
        _window(
            code, op, [f"s{j} = s{j} + {t};" if op.mean else f"s{j} = max{n}(s{j}, {t});" for j, t in enumerate(taken)]
        )
        results = []
        for j in range(vectors):
            code.line(f"f32x{n} v{j} = {f'real{n}(s{j})' if whole else f's{j}'};")
            _value(code, op, tail, f"v{j}")
            place = Place("row", "column", f"c + {j * n}" if j else "c")
            lanes = f"{y.c} - (c + {j * n})" if y.c % n and j == vectors - 1 else ""
            tail.steps(code, f"v{j}", place, n, lanes)
            results.append(Result(f"v{j}", place, lanes))
        store(code, y, results, n, tail.bounded)
        code.close()


def _inverse(code: Code, op: Pool) -> None:
    """Write what a mean divides by: how many values of the window lie inside, or inside the padding."""
    x, y = op.x, op.y
    if not op.counted or (x.quant and x.quant.zero):
        code.line("const float inside = (float)((r1 - r0) * (k1 - k0));")
    if not op.counted:
        code.line("const float inverse = 1.f / inside;")
        return
    # ONNX counts the padding, but not what ceil_mode adds beyond it.
    bottom = (y.h - 1) * op.stride[0] + (op.kernel[0] - 1) * op.dilation[0] + 1 - op.pads[0] - op.pads[2] - x.h
    right = (y.w - 1) * op.stride[1] + (op.kernel[1] - 1) * op.dilation[1] + 1 - op.pads[1] - op.pads[3] - x.w
    h = _counted("rs", op.kernel[0], op.dilation[0], x.h + op.pads[2], bottom > 0)
    w = _counted("ks", op.kernel[1], op.dilation[1], x.w + op.pads[3], right > 0)
    code.line(f"const float inverse = 1.f / (float)({h} * {w});")


def _value(code: Code, op: Pool, tail: Tail, v: str) -> None:
    """Write how a sum or maximum becomes a value in the tail's unit."""
    scale, zero = (op.x.quant.scale, op.x.quant.zero) if op.x.quant else (1.0, 0)
    if op.mean:
        offset = f"{v} - {number(zero)} * inside" if zero else v
        code.line(f"{v} = ({offset}) * inverse * {number(scale / tail.unit)};")
    elif scale != tail.unit or zero:
        code.line(f"{v} = ({v} - {number(zero)}) * {number(scale / tail.unit)};")


def _counted(start: str, size: int, dilation: int, limit: int, cut: bool) -> str:
    if not cut:
        return str(size)
    past = f"(({limit - 1} - {start}) / {dilation} + 1)"
    return f"({past} < {size} ? {past} : {size})"


def emit_resize(op: Resize, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of nearest or linear resizing."""
    code, x, y, n = Code(), op.x, op.y, machine.lanes
    code.line(f"/* {literal(op.label)}: resize {x.h}x{x.w} -> {y.h}x{y.w}x{y.c} */")
    code.function(name, tables.parts(y.h))
    halo(code, y)
    rows = tables.add(np.array([[a * x.row, b * x.row] for a, b, _ in op.rows]), "int32")
    columns = tables.add(np.array([[a * x.c, b * x.c] for a, b, _ in op.columns]), "int32")
    nearest = all(s == 0.0 for _, _, s in op.rows + op.columns)
    code.line(f"const {x.ctype} *const x = {at(x)} + {x.origin};")
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin};")
    code.split("row", y.h)
    code.loop("column", y.w)
    code.line(f"const int32_t *const r = {rows} + 2 * row, *const k = {columns} + 2 * column;")
    if nearest:
        code.line(f"copy_bytes(y + row * {y.row} + column * {y.c}, x + r[0] + k[0], {x.c * x.item});")
    else:
        while n > 4 and n >= 2 * y.c:
            n //= 2
        fr = tables.add(np.array([s for _, _, s in op.rows]), "float32")
        fc = tables.add(np.array([s for _, _, s in op.columns]), "float32")
        load = f"loadu{n}" if x.quant else f"load{n}"
        code.line(f"const float s = {fr}[row], t = {fc}[column];")
        code.loop("c", y.c, n)
        code.line(f"const f32x{n} a = {load}(x + r[0] + k[0] + c), b = {load}(x + r[0] + k[1] + c);")
        code.line(f"const f32x{n} d = {load}(x + r[1] + k[0] + c), e = {load}(x + r[1] + k[1] + c);")
        code.line(f"const f32x{n} over = a + (b - a) * t, under = d + (e - d) * t;")
        code.line(f"const f32x{n} v = over + (under - over) * s;")
        code.line(f"{'partu' if y.quant else 'part'}{n}(y + row * {y.row} + column * {y.c} + c, v, {y.c} - c);")
        code.close()
    code.close()
    code.close()
    code.close()
    return code

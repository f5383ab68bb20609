"""Elementwise operations, softmax, normalisation and reductions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal, number
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Map, Normalise, Reduce, Softmax, Tensor
from skerry_compiler.engines.network.store import store
from skerry_compiler.engines.network.tail import Place, Result, Tail, operand_of

GROUP = 4  # vectors of floats that become one of bytes
Loop = Callable[[str, int, int, int], None]
FOLDS = {
    "mean": ("0.f", "{a} + {b}"), "sum": ("0.f", "{a} + {b}"),
    "max": ("-3.402823466e38f", "max{n}({a}, {b})"), "min": ("3.402823466e38f", "min{n}({a}, {b})"),
}  # fmt: skip


def begin(code: Code, op: Map | Normalise | Reduce | Softmax, name: str, what: str, parts: int = 1) -> None:
    """Write the head of a function with pointer y."""
    y = op.y
    code.line(f"/* {literal(op.label)}: {what}, {y.h}x{y.w}x{y.c} */")
    code.function(name, parts)
    halo(code, y)
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin};")


def emit_map(op: Map, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of steps on a tensor."""
    code, y, n = Code(op.way), op.y, machine.lanes
    tail = Tail(op, tables)
    tensors = [op.x, *(s.operand for s in op.steps if isinstance(s.operand, Tensor))]
    same = all((t.h, t.w, t.c) == (y.h, y.w, y.c) for t in tensors)
    plain = all(s.operand.size == 1 for s in op.steps if isinstance(s.operand, np.ndarray))
    what = "elementwise " + " ".join(s.name for s in op.steps)
    if same and plain:
        rows, count = (1, y.elements) if y.dense and all(t.dense for t in tensors) else (y.h, y.w * y.c)
        begin(code, op, name, what, tables.parts(rows if rows > 1 else count // n // GROUP))
        over_rows, over = (code.split, code.loop) if rows > 1 else (code.loop, code.split)
        over_rows("row", rows)
        _vectors(code, op, tail, Place("row", "0", "i"), "i", count, n, over)
        code.close()
    else:
        begin(code, op, name, what, tables.parts(max(y.h, y.w)))
        while n > 4 and n >= 2 * y.c:
            n //= 2
        pixels(code, y)
        _vectors(code, op, tail, Place("row", "column", "c"), "c", y.c, n, code.loop)
        code.close()
        code.close()
    code.close()
    return code


def lanes_of(c: int, tables: Tables, machine: Machine) -> int:
    """Return the lanes for what adds up channels: sums of other widths have other bits."""
    n = 4 if tables.exact else machine.lanes
    while n > 4 and n >= 2 * c:
        n //= 2
    return n


def pixels(code: Code, y: Tensor) -> None:
    """Open the loops over rows and columns; parts share the longer one."""
    for name, count, other in (("row", y.h, y.w + 1), ("column", y.w, y.h)):
        code.split(name, count) if count >= other else code.loop(name, count)


def _vectors(code: Code, op: Map, tail: Tail, place: Place, variable: str, count: int, n: int, over: Loop) -> None:
    """Write the loop over the vectors of a row, opened by `over`."""
    full, rest = divmod(count, n)
    group = GROUP if op.y.quant is not None and full >= GROUP else 1
    spans = ((0, full // group * group * n, group), (full // group * group * n, full * n, 1))
    for start, end, each in spans:
        if end > start:
            over(variable, end, each * n, start)
            _chunk(code, op, tail, place, n, each, "")
            code.close()
    if rest:
        code.open("if (part == 0)" if over == code.split and code.parts > 1 else "")
        code.line(f"const int {variable} = {full * n};")
        _chunk(code, op, tail, place, n, 1, str(rest))
        code.close()


def _chunk(code: Code, op: Map, tail: Tail, place: Place, n: int, count: int, lanes: str) -> None:
    results = []
    for k in range(count):
        here = Place(place.row, place.column, f"{place.channel} + {k * n}" if k else place.channel)
        code.line(f"f32x{n} v{k} = {operand_of(op.x, op.y, here, n, tail.unit)};")
        tail.steps(code, f"v{k}", here, n, lanes)
        results.append(Result(f"v{k}", here, lanes))
    store(code, op.y, results, n, tail.bounded)


def emit_softmax(op: Softmax, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a softmax over channels."""
    code, x, y, n = Code(), op.x, op.y, machine.lanes
    pairs = x.c == 2 and x.dense and y.dense and not op.log
    rounds = -(-y.elements // n) if pairs else max(y.h, y.w)
    begin(code, op, name, "log softmax" if op.log else "softmax", tables.parts(rounds))
    code.line(f"const float *const x = {at(x)} + {x.origin};")
    if pairs:
        swap = ", ".join(str(i ^ 1) for i in range(n))
        code.split("i", y.elements, n)
        code.line(f"const f32x{n} v = load{n}(x + i), other = __builtin_shufflevector(v, v, {swap});")
        code.line(f"part{n}(y + i, sigmoid{n}(v - other), {y.elements} - i);")
        code.close()
        code.close()
        return code
    n = lanes_of(y.c, tables, machine)
    mask = np.zeros(n, np.float32)
    mask[y.c % n or n :] = -np.inf
    off = tables.add(mask, "float32")
    last = (y.c - 1) // n * n
    pixels(code, y)
    code.line(f"const float *const p = x + row * {x.row} + column * {x.c};")
    code.line(f"float *const q = y + row * {y.row} + column * {y.c};")
    code.line(f"f32x{n} high = load{n}(p + {last}) + load{n}({off}), total = (f32x{n}){{}};")
    if last:
        code.line(f"for (int c = 0; c < {last}; c += {n}) high = max{n}(high, load{n}(p + c));")
    code.line(f"const float highest = top{n}(high);")
    _each_vector(code, y.c, n, _exponentials(op, n, off))
    code.line(f"const float sum = sum{n}(total);")
    last_step = f"load{n}(q + c) - log{n}(all{n}(sum))" if op.log else f"load{n}(q + c) * scale"
    code.line("const float scale = 1.f / sum;" if not op.log else "")
    _each_vector(code, y.c, n, lambda lanes: [_put("q + c", last_step, lanes, n)])
    for _ in range(3):
        code.close()
    return code


def _exponentials(op: Softmax, n: int, off: str) -> Callable[[str], list[str]]:
    """Return the lines that turn a vector into exponentials and add them up; lanes that do not count add nothing."""

    def lines(lanes: str) -> list[str]:
        value = f"power{n}(v)"
        masked = f"select{n}(load{n}({off}) == 0.f, {value}, (f32x{n}){{}})" if lanes else value
        kept = _put("q + c", "v" if op.log else "e", lanes, n)
        return [f"const f32x{n} v = load{n}(p + c) - highest;", f"const f32x{n} e = {masked};", "total += e;", kept]

    return lines


def _put(where: str, value: str, lanes: str, n: int) -> str:
    return f"part{n}({where}, {value}, {lanes});" if lanes else f"store{n}({where}, {value});"


def _each_vector(code: Code, count: int, n: int, lines: Callable[[str], list[str]]) -> None:
    """Write lines for every whole vector of a row, and for what is left, given how many lanes of it count."""
    whole = count // n * n
    if whole:
        code.loop("c", whole, n)
        code.each(lines(""))
        code.close()
    if count > whole:
        code.open("")
        code.line(f"const int c = {whole};")
        code.each(lines(str(count - whole)))
        code.close()


def emit_normalise(op: Normalise, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a normalisation over channels."""
    code, x, y, n = Code(), op.x, op.y, lanes_of(op.y.c, tables, machine)
    begin(code, op, name, "normalise", tables.parts(max(y.h, y.w)))
    tail = Tail(op, tables)
    keep = tables.add(np.concatenate([np.ones(y.c % n or n), np.zeros(n)]), "float32")
    pixels(code, y)
    code.line(f"const float *const p = {at(x)} + {x.origin} + row * {x.row} + column * {x.c};")
    last = (y.c - 1) // n * n
    code.line(f"f32x{n} s = load{n}(p + {last}) * load{n}({keep}), d = (f32x{n}){{}};")
    if last:
        code.line(f"for (int c = 0; c < {last}; c += {n}) s += load{n}(p + c);")
    code.line(f"const float mean = sum{n}(s) * {number(1 / y.c)};")
    code.loop("c", y.c, n)
    code.line(f"f32x{n} v = load{n}(p + c) - mean;")
    code.line(f"if (c == {last}) v *= load{n}({keep});")
    code.line("d += v * v;")
    code.close()
    code.line(f"const f32x{n} inverse = 1.f / sqrt{n}(all{n}(sum{n}(d) * {number(1 / y.c)} + {number(op.epsilon)}));")
    _steps_over(code, tail, y, n, f"(load{n}(p + c) - mean) * inverse")
    for _ in range(3):
        code.close()
    return code


def _steps_over(code: Code, tail: Tail, y: Tensor, n: int, value: str) -> None:
    """Write the loop over channels that finishes `value` and stores it."""
    full, rest = divmod(y.c, n)
    for start, end, lanes in ((0, full * n, ""), (full * n, full * n + min(1, rest), str(rest))):
        if end > start:
            code.loop("c", end, n, start)
            code.line(f"f32x{n} v = {value};")
            scale = "" if tail.unit == 1.0 else f" * {number(1 / tail.unit)}"
            if scale:
                code.line(f"v = v{scale};")
            place = Place("row", "column", "c")
            tail.steps(code, "v", place, n, lanes)
            store(code, y, [Result("v", place, lanes)], n, tail.bounded)
            code.close()


def emit_reduce(op: Reduce, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a reduction over pixels or channels."""
    code, x, y, n = Code(), op.x, op.y, 4 if tables.exact else machine.lanes
    begin(code, op, name, f"{op.how} over {op.axis}")
    tail = Tail(op, tables)
    code.line(f"const {x.ctype} *const x = {at(x)} + {x.origin};")
    code.line("const int row = 0;")
    start, join = FOLDS[op.how]
    if op.axis == "hw":
        code.line("const int column = 0;")
        code.line("(void)row, (void)column;")
        _down(code, op, tail, machine)
    else:
        # One sum or maximum for each pixel; y has a single channel.
        code.loop("r", x.h)
        code.loop("k", x.w)
        _across(code, op, start, join, n)
        flat = y.h * y.w != x.h * x.w or y.h != x.h
        place = Place("row", f"r * {x.w} + k", "0") if flat else Place("r", "k", "0")
        code.line("(void)row;")
        code.line("f32x4 b = all4(a);")
        _finish(code, op, tail, 4, x.c, "b", place, "1")
        code.close()
        code.close()
    code.close()
    return code


def _down(code: Code, op: Reduce, tail: Tail, machine: Machine) -> None:
    """Write the reduction of all pixels, a few vectors of channels at a time; bytes are added as integers."""
    x, y, n = op.x, op.y, machine.lanes
    while n > 4 and n >= 2 * y.c:
        n //= 2
    start, join = FOLDS[op.how]
    whole = x.quant is not None and op.how in ("mean", "sum")
    kind, first, load = (f"i32x{n}", f"(i32x{n}){{}}", "bytes") if whole else (f"f32x{n}", f"all{n}({start})", "load")
    load = "loadu" if x.quant and not whole else load
    wide = y.c // (4 * n) * 4 * n
    for begin_at, end, vectors in ((0, wide, 4), (wide, y.c, -(-(y.c - wide) // n))):
        if end == begin_at:
            continue
        code.loop("c", end, vectors * n, begin_at)
        code.each(f"{kind} s{v} = {first};" for v in range(vectors))
        code.loop("r", x.h)
        code.loop("k", x.w)
        code.line(f"const {x.ctype} *const p = x + r * {x.row} + k * {x.c} + c;")
        for v in range(vectors):
            code.line(f"s{v} = {join.format(a=f's{v}', b=f'{load}{n}(p + {v * n})', n=n)};")
        code.close()
        code.close()
        for v in range(vectors):
            code.line(f"f32x{n} a{v} = {f'real{n}(s{v})' if whole else f's{v}'};")
            lanes = f"{y.c} - (c + {v * n})" if y.c % n and v == vectors - 1 else ""
            place = Place("row", "column", f"c + {v * n}" if v else "c")
            _finish(code, op, tail, n, x.h * x.w, f"a{v}", place, lanes)
        code.close()


def _across(code: Code, op: Reduce, start: str, join: str, n: int) -> None:
    """Write the reduction of the channels of pixel (r, k) to float a: whole vectors, then what is left."""
    x = op.x
    whole = x.c // n * n
    code.line(f"const {x.ctype} *const p = x + r * {x.row} + k * {x.c};")
    code.line(f"float a = {start};")
    if whole:
        value = f"{'loadu' if x.quant else 'load'}{n}(p + c)"
        code.line(f"f32x{n} t = all{n}({start});")
        code.line(f"for (int c = 0; c < {whole}; c += {n}) t = {join.format(a='t', b=value, n=n)};")
        code.line({"max": f"a = top{n}(t);", "min": f"a = -top{n}(-t);"}.get(op.how, f"a = sum{n}(t);"))
    code.open(f"for (int c = {whole}; c < {x.c}; c++)")
    code.line("const float b = (float)p[c];")
    code.line({"max": "a = b > a ? b : a;", "min": "a = b < a ? b : a;"}.get(op.how, "a += b;"))
    code.close()


def _finish(code: Code, op: Reduce, tail: Tail, n: int, count: int, v: str, place: Place, lanes: str) -> None:
    x = op.x
    scale, shift = (x.quant.scale, -x.quant.zero * x.quant.scale) if x.quant else (1.0, 0.0)
    factor = scale / count if op.how == "mean" else scale
    shift = shift * count if op.how == "sum" else shift
    if factor / tail.unit != 1.0 or shift:
        code.line(f"{v} = {v} * {number(factor / tail.unit)}" + (f" + {number(shift / tail.unit)};" if shift else ";"))
    tail.steps(code, v, place, n, lanes)
    store(code, op.y, [Result(v, place, lanes)], n, tail.bounded)

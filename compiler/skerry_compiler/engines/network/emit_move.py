"""Taking inputs, giving outputs, copies and boxes; and products of activations."""

from __future__ import annotations

import math

import numpy as np

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal, number
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.emit_loops import scalar
from skerry_compiler.engines.network.graph import Box, Constant, Input, Matmul, Move, Output, Reshape, Tensor
from skerry_compiler.engines.network.tensors import BORDER
from skerry_compiler.engines.network.values import strides


def emit_input(op: Input, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function that takes one input of the caller."""
    code, y, n = Code(), op.y, machine.lanes
    code.line(f"/* input {op.index} {literal(y.name)}: {y.h}x{y.w}x{y.c} */")
    code.open(f"static void {name}(const {BORDER[op.given]} *const x)")
    halo(code, y)
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin};")
    natural = tuple(math.prod(op.dims[i + 1 :]) for i in range(len(op.dims)))
    plain = all(n == 1 or a == b for n, a, b in zip(op.dims, op.strides, natural, strict=True))
    if plain:
        rows, length = (1, y.elements) if y.dense else (y.h, y.w * y.c)
        code.loop("row", rows)
        code.line(f"const {BORDER[op.given]} *const p = x + row * {length};")
        code.line(f"{y.ctype} *const q = y + row * {y.row};")
        _row(code, op, length, n)
        code.close()
    elif planes(op) and y.quant is not None and y.c == 4:
        _planes(code, op, n)
    else:
        to = strides(y, op.dims)
        assert to is not None
        _nest(code, op, to)
    code.close()
    return code


def planes(op: Input) -> bool:
    """Whether the caller gives up to four float planes of an image that y interleaves."""
    if op.given != "float32":
        return False
    sizes = [(d, s) for d, s in zip(op.dims, op.strides, strict=True) if d > 1]
    if len(sizes) != 3 or not 2 <= sizes[2][0] <= 4:
        return False
    (h, row), (w, step), (_, plane) = sizes
    return step == 1 and row == w and plane == h * w and (h, w) == (op.y.h, op.y.w) and w >= 16


def _planes(code: Code, op: Input, n: int) -> None:
    """Write the interleaving of planes into four bytes a pixel."""
    y = op.y
    assert y.quant is not None and y.c == 4
    factor, zero = number(1 / y.quant.scale), number(y.quant.zero)
    given = next(d for d in reversed(op.dims) if d > 1)
    turn = ", ".join(str(lane * 16 + part * 4 + i) for lane in range(n // 4) for i in range(4) for part in range(4))
    code.loop("row", y.h)
    code.loop("k", -(-y.w // n))
    code.line(f"const int i = k < {y.w // n} ? k * {n} : {y.w - n};")
    code.line(f"const float *const p = x + row * {y.w} + i;")
    values = [
        f"whole{n}(madd{n}(load{n}(p + {c * y.h * y.w}), all{n}({factor}), all{n}({zero})))" for c in range(given)
    ]
    code.line(f"const u8x{4 * n} v = packlanes{n}({', '.join(values + [values[-1]] * (4 - given))});")
    code.line(f"storeq{4 * n}(y + row * {y.row} + i * 4, __builtin_shufflevector(v, v, {turn}));")
    code.close()
    code.close()


def _row(code: Code, op: Input, length: int, n: int) -> None:
    """Write the copy of one contiguous row, quantised where y is bytes."""
    y = op.y
    if y.quant is None and op.given == y.kind:
        code.line(f"copy_bytes(q, p, {length * y.item});")
        return
    if op.given != "float32":
        code.line(f"for (int i = 0; i < {length}; i++) q[i] = {_converted(op, 'p[i]')};")
        return
    assert y.quant is not None
    factor, zero = number(1 / y.quant.scale), number(y.quant.zero)
    if length < 4 * n:
        code.loop("i", length, n)
        code.line("/* the caller's memory ends here: no vector may read past it */")
        code.line(f"for (int j = i; j < i + {n} && j < {length}; j++)")
        code.line(f"  partu4(q + j, madd4(all4(p[j]), all4({factor}), all4({zero})), 1);")
        code.close()
        return
    code.loop("k", -(-length // (4 * n)))
    code.line(f"const int i = k < {length // (4 * n)} ? k * {4 * n} : {length - 4 * n};")
    names = []
    for j in range(4):
        names.append(f"whole{n}(madd{n}(load{n}(p + i + {j * n}), all{n}({factor}), all{n}({zero})))")
    code.line(f"storeq{4 * n}(q + i, pack{n}({', '.join(names)}));")
    code.close()


def _nest(code: Code, op: Input, target: tuple[int, ...]) -> None:
    """Write a nest of loops over single elements from the caller's; innermost the caller's shortest stride."""
    dims, source = op.dims, op.strides
    order = sorted((i for i, d in enumerate(dims) if d > 1), key=lambda i: -source[i])
    for i in order:
        code.open(f"for (int i{i} = 0; i{i} < {dims[i]}; i{i}++)")
    read = " + ".join(f"i{i} * {source[i]}" for i in order) or "0"
    write = " + ".join(f"i{i} * {target[i]}" for i in order) or "0"
    code.line(f"y[{write}] = {_converted(op, f'x[{read}]')};")
    for _ in order:
        code.close()


def _converted(op: Input, value: str) -> str:
    """Return the C expression of a caller's value as an element of y."""
    y, value = op.y, f"fn_half({value})" if op.given == "float16" else value
    if y.quant is None:
        return f"({y.ctype}){value}"
    number_of = f"(float){value} * {number(1 / y.quant.scale)} + {number(y.quant.zero + 0.5)}"
    return f"(uint8_t)fn_clamp({number_of}, 0, 255)"


def emit_output(op: Output, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function that gives one output to the caller."""
    code, x = Code(), op.x
    code.line(f"/* output {op.index} {literal(op.y.name)} */")
    half = op.taken == "float16"
    code.open(f"static void {name}({BORDER[op.taken]} *const y)")
    rows, length = (1, x.elements) if x.dense else (x.h, x.w * x.c)
    code.loop("row", rows)
    code.line(f"const {x.ctype} *const p = {at(x)} + {x.origin} + row * {x.row};")
    code.line(f"{BORDER[op.taken]} *const q = y + row * {length};")
    if x.quant is None and not half:
        code.line(f"copy_bytes(q, p, {length * x.item});")
    else:
        value = "p[i]" if x.quant is None else f"(float)(p[i] - {x.quant.zero}) * {number(x.quant.scale)}"
        code.open(f"for (int i = 0; i < {length}; i++)")
        code.line(f"q[i] = {f'fn_to_half({value})' if half else value};")
        code.close()
    code.close()
    code.close()
    return code


def head(code: Code, label: str, name: str, y: Tensor, what: str, parts: int = 1) -> None:
    """Write the head of a function that writes y."""
    code.line(f"/* {literal(label)}: {what} -> {y.h}x{y.w}x{y.c} */")
    code.function(name, parts)
    halo(code, y)
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin};")


def emit_constant(op: Constant, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function that writes a constant tensor."""
    code, y = Code(), op.y
    head(code, op.label, name, y, "constant")
    source = tables.add(op.data, y.kind)
    code.loop("row", y.h)
    code.line(f"copy_bytes(y + row * {y.row}, {source} + row * {y.w * y.c}, {y.w * y.c * y.item});")
    code.close()
    code.close()
    return code


def emit_reshape(op: Reshape, name: str, tables: Tables, machine: Machine) -> Code | None:
    """Return the C function that copies between forms; None where y shares the memory of x."""
    if op.y.alias is not None:
        return None
    code, x, y = Code(), op.x, op.y
    head(code, op.label, name, y, f"{x.h}x{x.w}x{x.c}")
    code.line(f"const {x.ctype} *const x = {at(x)} + {x.origin};")
    chunk = math.gcd(x.w * x.c if not x.dense else x.elements, y.w * y.c if not y.dense else y.elements)
    code.loop("i", x.elements, chunk)
    source = "i" if x.dense else f"i / {x.w * x.c} * {x.row} + i % {x.w * x.c}"
    target = "i" if y.dense else f"i / {y.w * y.c} * {y.row} + i % {y.w * y.c}"
    code.line(f"copy_bytes(y + {target}, x + {source}, {chunk * x.item});")
    code.close()
    code.close()
    return code


def emit_move(op: Move, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function that copies boxes."""
    code, y = Code(), op.y
    head(code, op.label, name, y, f"{len(op.parts)} parts")
    if op.fill is not None:
        if y.quant is not None:
            value = min(255, max(0, round(op.fill / y.quant.scale) + y.quant.zero))
            code.line(f"for (int r = 0; r < {y.h}; r++) fill_bytes(y + r * {y.row}, {value}, {y.w * y.c});")
        else:
            code.open(f"for (int r = 0; r < {y.h}; r++)")
            code.line(
                f"for (int i = 0; i < {y.w * y.c}; i++) y[r * {y.row} + i] = {scalar(np.dtype(y.kind).type(op.fill))};"
            )
            code.close()
    for x, box in op.parts:
        _box(code, x, y, box)
    code.close()
    return code


def _box(code: Code, x: Tensor, y: Tensor, box: Box) -> None:
    start = x.origin + box.source[0] * x.row + box.source[1] * x.c + box.source[2]
    goal = box.target[0] * y.row + box.target[1] * y.c + box.target[2]
    (h, w, c), (sh, sw, sc) = box.size, box.step
    code.loop("r", h)
    code.line(f"const {x.ctype} *const p = {at(x)} + {start} + r * {sh * x.row};")
    code.line(f"{y.ctype} *const q = y + {goal} + r * {y.row};")
    if sw == sc == 1 and c == x.c == y.c:
        code.line(f"copy_bytes(q, p, {w * c * x.item});")
    elif sc == 1:
        code.loop("k", w)
        code.line(f"copy_bytes(q + k * {y.c}, p + k * {sw * x.c}, {c * x.item});")
        code.close()
    else:
        code.open(f"for (int k = 0; k < {w}; k++)")
        code.line(f"for (int c = 0; c < {c}; c++) q[k * {y.c} + c] = p[k * {sw * x.c} + c * {sc}];")
        code.close()
    code.close()


def emit_matmul(op: Matmul, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of products of two activations: blocks of rows by vectors of columns, k innermost."""
    code, y = Code(), op.y
    n = machine.lanes
    m, k, columns = op.size
    axes = len(op.batch)
    vectors = -(-columns // n)
    nr = max((v for v in (4, 3, 2) if v <= vectors), key=lambda v: (vectors % v == 0, v), default=1)
    longest = max(range(axes), key=lambda i: op.batch[i], default=0)
    shared = axes > 0 and op.batch[longest] >= tables.threads > 1
    parts = tables.parts(op.batch[longest] if shared else vectors // nr)
    head(code, op.label, name, y, f"{math.prod(op.batch)} products of {m}x{k}x{columns}", parts)
    for i, size in enumerate(op.batch):
        (code.split if shared and i == longest else code.loop)(f"b{i}", size)
    for label, tensor, steps in (("a", op.a, op.a_strides), ("b", op.b, op.b_strides)):
        where = " + ".join(f"b{i} * {steps[i]}" for i in range(axes)) or "0"
        code.line(f"const float *const {label} = {at(tensor)} + {tensor.origin} + {where};")
    where = " + ".join(f"b{i} * {op.y_strides[i]}" for i in range(axes)) or "0"
    code.line(f"float *const o = y + {where};")
    for first, last, count in ((0, vectors // nr * nr, nr), (vectors // nr * nr, vectors, vectors % nr)):
        if last > first:
            (code.loop if shared else code.split)("j", last * n, count * n, first * n)
            _products(code, op, machine, count, ends=last == vectors)
            code.close()
    for _ in op.batch:
        code.close()
    code.close()
    assert not op.steps and y.quant is None
    return code


def _products(code: Code, op: Matmul, machine: Machine, nr: int, ends: bool) -> None:
    """Write all rows of nr vectors of columns from j on; `ends`: the last of them may reach past the end."""
    m, k, columns = op.size
    n = machine.lanes
    mr = max(1, min(m, 6 if nr > 2 else 12, (machine.registers - nr - 2) // nr))
    for start, end, rows in ((0, m // mr * mr, mr), (m // mr * mr, m, m % mr)):
        if end == start:
            continue
        code.loop("i", end, rows, start)
        for r in range(rows):
            for v in range(nr):
                code.line(f"f32x{n} s{r}_{v} = (f32x{n}){{}};")
        code.open(f"for (int q = 0; q < {k}; q++)")
        for v in range(nr):
            code.line(f"const f32x{n} w{v} = load{n}(b + q * {op.b_strides[-2]} + j + {v * n});")
        for r in range(rows):
            code.line(f"const float a{r} = a[(i + {r}) * {op.a_strides[-2]} + q * {op.a_strides[-1]}];")
            for v in range(nr):
                code.line(f"s{r}_{v} += a{r} * w{v};")
        code.close()
        for r in range(rows):
            for v in range(nr):
                lanes = f"{columns} - (j + {v * n})" if columns % n and ends and v == nr - 1 else ""
                code.line(f"part{n}(o + (i + {r}) * {op.y_strides[-2]} + j + {v * n}, s{r}_{v}, {lanes or n});")
        code.close()

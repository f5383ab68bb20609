"""Nests of loops over typed elements, and operations along one axis."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.loops import Access, Cumulate, Loops, Mix, Select
from skerry_compiler.engines.network.tensors import CTYPES, Tensor


def emit_loops(op: Loops, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a nest of loops."""
    code, y = Code(), op.y
    code.line(f"/* {literal(op.label)}: loops over {op.dims} -> {y.h}x{y.w}x{y.c} {y.kind} */")
    code.open(f"static void {name}(void)")
    halo(code, y)
    for i, x in enumerate(op.operands):
        if isinstance(x, Tensor):
            code.line(f"const {x.ctype} *const x{i} = {at(x)} + {x.origin};")
        elif x.size > 1:
            code.line(f"const {CTYPES[str(x.dtype)]} *const x{i} = {tables.add(x, str(x.dtype))};")
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin};")
    if op.base is not None:
        code.line(f"copy_bytes(y, x{op.base}, {y.elements * y.item});")
    nest = _merged(op)
    run = _run(op, nest)
    outer = len(nest.dims) - (nest.folds or (1 if run > 1 else 0))
    for i in range(outer):
        code.open(f"for (int i{i} = 0; i{i} < {nest.dims[i]}; i{i}++)")
    _body(code, op, nest, run, outer)
    for _ in range(outer):
        code.close()
    code.close()
    return code


@dataclasses.dataclass(frozen=True, slots=True)
class Nest:
    """Loops after merging: extents, how many of the last are folds, and the walks of the operands and of y (last)."""

    dims: tuple[int, ...]
    folds: int
    walks: tuple[Access, ...]


def _merged(op: Loops) -> Nest:
    """Return the loops without those of one round, neighbours joined where every operand runs on evenly."""
    walks = [*op.access, op.target]
    dims: list[int] = []
    steps: list[list[int]] = [[] for _ in walks]
    folds, fold_start = 0, len(op.dims) - op.folds
    for i, size in enumerate(op.dims):
        if size == 1:
            continue
        folded = i >= fold_start
        even = all(s and s[-1] == w.strides[i] * size for s, w in zip(steps, walks, strict=True))
        if dims and even and (not folded or folds):
            dims[-1] *= size
            for s, w in zip(steps, walks, strict=True):
                s[-1] = w.strides[i]
        else:
            dims.append(size)
            folds += folded
            for s, w in zip(steps, walks, strict=True):
                s.append(w.strides[i])
    kept = (dataclasses.replace(w, strides=tuple(s)) for w, s in zip(walks, steps, strict=True))
    return Nest(tuple(dims), folds, tuple(kept))


def _run(op: Loops, nest: Nest) -> int:
    """Return how many elements lie one after the other in x0 and in y, if the nest only copies; else 0."""
    x, target = op.operands[0], nest.walks[-1]
    kind = x.kind if isinstance(x, Tensor) else str(x.dtype)
    if op.text != "{0}" or op.folds or not nest.dims or CTYPES[kind] != op.y.ctype:
        return 0
    if not isinstance(x, Tensor) and x.size == 1:
        return 0
    source = nest.walks[0]
    places = {j.by for w in (source, target) for j in w.indices}
    still = all(nest.walks[k].strides[-1] == 0 for k in places)
    return nest.dims[-1] if still and source.strides[-1] == target.strides[-1] == 1 else 0


def _body(code: Code, op: Loops, nest: Nest, run: int, outer: int) -> None:
    """Write what happens in the innermost loops."""
    values = [_element(op, nest, i, f"x{i}", outer if run else len(nest.dims)) for i in range(len(op.operands))]
    goal = _offset(op, nest, nest.walks[-1], outer)
    if run:
        source = _offset(op, nest, nest.walks[0], outer)
        code.line(f"copy_bytes(y + {goal}, x0 + {source}, {run * op.y.item});")
        return
    if op.folds:
        code.line(fill(op.start, values, "0"))
        inner = range(outer, len(nest.dims))
        for i in inner:
            code.open(f"for (int i{i} = 0; i{i} < {nest.dims[i]}; i{i}++)")
        terms = [f"i{i}" + f" * {math.prod(nest.dims[i + 1 :])}" * (i + 1 < len(nest.dims)) for i in inner]
        code.line(fill(op.each, values, f"({' + '.join(terms) or '0'})"))
        for _ in inner:
            code.close()
    if "{y}" in op.text:
        code.line(f"{op.y.ctype} *const o = y + {goal};")
        code.line(f"*o = {fill(op.text, [*values], '0').replace('{y}', '*o')};")
    else:
        code.line(f"y[{goal}] = {fill(op.text, values, '0')};")


def fill(text: str, values: list[str], place: str) -> str:
    """Return a text with {0}, {1} ... and {r} replaced."""
    text = text.replace("{r}", place)
    return re.sub(r"\{(\d+)\}", lambda m: values[int(m[1])], text)


def _element(op: Loops, nest: Nest, number: int, name: str, loops: int) -> str:
    x = op.operands[number]
    if not isinstance(x, Tensor) and x.size == 1:
        return scalar(x.ravel()[0])
    return f"{name}[{_offset(op, nest, nest.walks[number], loops)}]"


def _offset(op: Loops, nest: Nest, walk: Access, loops: int) -> str:
    terms = [f"i{i} * {s}" for i, s in enumerate(walk.strides[:loops]) if s]
    for index in walk.indices:
        inner = _element(op, nest, index.by, f"x{index.by}", loops)
        terms.append(f"fn_index((int64_t){inner}, {index.extent}) * {index.stride}")
    if walk.start:
        terms.append(str(walk.start))
    return " + ".join(terms) or "0"


def scalar(value: np.generic) -> str:
    """Return a C constant of a number of any type."""
    kind = value.dtype.kind
    if kind == "b":
        return str(int(value))
    if kind == "f":
        v = float(value)
        suffix = "f" if value.dtype.itemsize == 4 else ""
        if math.isnan(v):
            return f'__builtin_nan{suffix}("")'
        if math.isinf(v):
            return f"({'-' if v < 0 else ''}__builtin_inf{suffix}())"
        text = f"{v:.9g}" if suffix else f"{v:.17g}"
        return f"({text}{'' if any(c in text for c in '.e') else '.'}{suffix})"
    whole = int(value)
    if whole == -(1 << 63):
        return "INT64_MIN"
    return f"(({CTYPES[str(value.dtype)]}){whole}{'ull' if kind == 'u' else 'll'})"


def _begin(code: Code, op: Cumulate | Select | Mix, name: str, what: str) -> None:
    x, y = op.x, op.y
    code.line(f"/* {literal(op.label)}: {what} along {op.dims} -> {y.h}x{y.w}x{y.c} */")
    code.open(f"static void {name}(void)")
    halo(code, y)
    code.line(f"const {x.ctype} *const x = {at(x)} + {x.origin};")
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin};")


def emit_cumulate(op: Cumulate, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of running sums or products."""
    code = Code()
    before, along, after = op.dims
    _begin(code, op, name, "running product" if op.product else "running sum")
    code.loop("b", before)
    code.loop("a", after)
    code.line(f"{op.y.ctype} total = {int(op.product)};")
    code.open(f"for (int k = 0; k < {along}; k++)")
    place = f"{along - 1} - k" if op.reverse else "k"
    code.line(f"const int i = (b * {along} + {place}) * {after} + a;")
    step = f"total {'*' if op.product else '+'}= x[i];"
    code.line(f"y[i] = total, {step}" if op.exclusive else f"{step} y[i] = total;")
    for _ in range(4):
        code.close()
    return code


def emit_select(op: Select, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of the first elements by size: an insertion into a sorted list."""
    code, x = Code(), op.x
    before, along, after = op.dims
    _begin(code, op, name, f"{'largest' if op.largest else 'smallest'} {op.count}")
    code.loop("b", before)
    code.loop("a", after)
    code.line(f"{x.ctype} best[{op.count}];")
    code.line(f"int32_t place[{op.count}];")
    code.line("int held = 0;")
    code.open(f"for (int k = 0; k < {along}; k++)")
    code.line(f"const {x.ctype} v = x[(b * {along} + k) * {after} + a];")
    order = ">" if op.largest else "<"
    code.line(f"if (held == {op.count} && !(v {order} best[held - 1])) continue;")
    code.line(f"int i = held < {op.count} ? held++ : {op.count - 1};")
    code.line(f"for (; i > 0 && v {order} best[i - 1]; i--) best[i] = best[i - 1], place[i] = place[i - 1];")
    code.line("best[i] = v, place[i] = k;")
    code.close()
    chosen = "place[k]" if op.places else "best[k]"
    code.line(f"for (int k = 0; k < {op.count}; k++) y[(b * {op.count} + k) * {after} + a] = {chosen};")
    for _ in range(3):
        code.close()
    return code


def emit_mix(op: Mix, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of weighted sums along an axis."""
    code = Code()
    before, along, after = op.dims
    out, taps = op.places.shape
    _begin(code, op, name, f"{taps} taps")
    code.line(f"const int32_t *const places = {tables.add(op.places, 'int32')};")
    code.line(f"const float *const shares = {tables.add(op.shares, 'float32')};")
    code.loop("b", before)
    code.open(f"for (int k = 0; k < {out}; k++)")
    code.line(f"float *const q = y + (b * {out} + k) * {after};")
    code.open(f"for (int a = 0; a < {after}; a++)")
    code.line("float total = 0.f;")
    code.open(f"for (int t = 0; t < {taps}; t++)")
    source = f"x[(b * {along} + places[k * {taps} + t]) * {after} + a]"
    code.line(f"total += shares[k * {taps} + t] * {source};")
    code.close()
    code.line("q[a] = total;")
    for _ in range(4):
        code.close()
    return code

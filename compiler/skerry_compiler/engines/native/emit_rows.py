"""Everything that is neither a dense layer nor a forest: plain loops, which the compiler turns into vectors by
itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skerry_compiler.engines.native import exact, ir
from skerry_compiler.engines.native.text import Source, double, number

_COMBINES = {
    "add": "a + b",
    "sub": "a - b",
    "mul": "a * b",
    "div": "a / b",
    "min": "a < b ? a : b",
    "max": "a > b ? a : b",
    "equal": "a == b",
    "less": "a < b",
    "less_or_equal": "a <= b",
    "greater": "a > b",
    "greater_or_equal": "a >= b",
    "and": "a && b",
    "or": "a || b",
}


def _map_expression(op: ir.Map) -> str:
    zero = "0" if op.output.dtype.value.startswith(("INT", "UINT")) else "0.0f"
    return {
        "relu": f"v > {zero} ? v : {zero}",
        "tanh": "skerry_tanh(v)",
        "sigmoid": "skerry_sigmoid(v)",
        "exp": "skerry_exp(v)",
        "neg": "-v",
        "abs": f"v < {zero} ? -v : v",
        "sqrt": "__builtin_sqrtf(v)",
        "floor": "skerry_floor(v)",
        "log": "skerry_log(v)",
        "softplus": "(v > 0.0f ? v : 0.0f) + skerry_log(1.0f + skerry_exp(v > 0.0f ? -v : v))",
        "sign": "(float)((v > 0.0f) - (v < 0.0f))",
        "reciprocal": "1.0f / v",
        "ceil": "-skerry_floor(-v)",
        "cos": "skerry_turn(v, 0)",
        "sin": "skerry_turn(v, 3)",
        "pow": f"skerry_pow(v, {double(op.alpha)})",
        "not": "!v",
        "is_nan": "v != v",
        "leaky": f"v > 0.0f ? v : v * {number(op.alpha)}",
        "clip": f"v < {number(op.alpha)} ? {number(op.alpha)} : v > {number(op.beta)} ? {number(op.beta)} : v",
        "cast": f"({op.output.c_type})v" if op.output.dtype.value != "BOOL" else "v != 0",
    }[op.kind]


def _map(op: ir.Map, name: str, source: Source) -> str:
    if op.kind in ("cos", "sin", "pow") and exact.PRELUDE.strip() not in source.functions:
        source.functions.insert(0, exact.PRELUDE.strip())
    body = f"    const {op.inputs[0].c_type} v = x[i];\n    y[i] = {_map_expression(op)};"
    return f"for (int i = 0; i < {op.output.elements}; i++) {{\n{body}\n}}"


def _affine(op: ir.Affine, name: str, source: Source) -> str:
    shift = source.table(f"{name}_shift", op.shift.astype(np.float32))
    scale = source.table(f"{name}_scale", op.scale.astype(np.float32))
    return _by_row(op, f"for (int i = 0; i < {op.output.width}; i++) y[i] = (x[i] - {shift}[i]) * {scale}[i];")


def _by_row(op: ir.Op, body: str) -> str:
    """Return the code for one row, repeated for every row."""
    rows = op.inputs[0].rows
    if rows == 1:
        return body
    step = op.output.elements // rows
    return f"for (int row = 0; row < {rows}; row++, x += {op.inputs[0].width}, y += {step}) {{\n{body}\n}}"


def _at(value: ir.Value, output: ir.Value) -> str:
    """Return which element of an operand belongs to element i of the output."""
    return "i" if value.elements == output.elements else "0" if value.elements == 1 else f"i % {value.width}"


def _combine(op: ir.Combine, name: str, source: Source) -> str:
    indices = [_at(value, op.output) for value in op.inputs]
    return (
        f"for (int i = 0; i < {op.output.elements}; i++) {{\n"
        f"    const {op.inputs[0].c_type} a = x0[{indices[0]}], b = x1[{indices[1]}];\n"
        f"    y[i] = {_COMBINES[op.kind]};\n}}"
    )


def _select(op: ir.Select, name: str, source: Source) -> str:
    condition, one, two = (_at(value, op.output) for value in op.inputs)
    return f"for (int i = 0; i < {op.output.elements}; i++) y[i] = x0[{condition}] ? x1[{one}] : x2[{two}];"


def _take_rows(op: ir.TakeRows, name: str, source: Source) -> str:
    table = source.table(f"{name}_table", op.table, op.output.c_type)
    last, width = len(op.table) - 1, op.table.shape[1]
    return (
        f"for (int i = 0; i < {op.inputs[0].elements}; i++) {{\n"
        f"    const int64_t at = x[i] < 0 ? 0 : x[i] > {last} ? {last} : x[i];\n"
        f"    for (int c = 0; c < {width}; c++) y[i * {width} + c] = {table}[at * {width} + c];\n}}"
    )


def _take_columns(op: ir.TakeColumns, name: str, source: Source) -> str:
    count = len(op.places)
    if op.places == tuple(range(op.places[0], op.places[0] + count)):
        return _by_row(op, f"for (int i = 0; i < {count}; i++) y[i] = x[{op.places[0]} + i];")
    places = source.table(f"{name}_places", np.asarray(op.places, np.uint32), "uint32_t")
    return _by_row(op, f"for (int i = 0; i < {count}; i++) y[i] = x[{places}[i]];")


def _votes(op: ir.Votes, name: str, source: Source) -> str:
    """Every pair (one, other) votes for one where its score is above 0; the first class with most votes is chosen."""
    count = op.classes
    body = f"""
int votes[{count}] = {{0}}, pair = 0, best = 0;
for (int one = 0; one < {count}; one++)
    for (int other = one + 1; other < {count}; other++) votes[x[pair++] > 0.0f ? one : other]++;
for (int c = 1; c < {count}; c++) best = votes[c] > votes[best] ? c : best;
y[0] = best;
"""
    return _by_row(op, body.strip())


def _softmax(op: ir.Softmax, name: str, source: Source) -> str:
    width = op.output.width
    body = f"""
float most = x[0], sum = 0.0f;
for (int i = 1; i < {width}; i++) most = x[i] > most ? x[i] : most;
for (int i = 0; i < {width}; i++) y[i] = skerry_exp(x[i] - most);
for (int i = 0; i < {width}; i++) sum += y[i];
const float share = 1.0f / sum;
for (int i = 0; i < {width}; i++) y[i] *= share;
"""
    return _by_row(op, body.strip())


def _normalise(op: ir.Normalise, name: str, source: Source) -> str:
    width = op.output.width
    add = {
        "l1": "norm += x[i] < 0.0f ? -x[i] : x[i];",
        "l2": "norm += x[i] * x[i];",
        "max": "norm = x[i] > norm ? x[i] : norm;",
    }[op.kind]
    body = f"""
float norm = {"x[0]" if op.kind == "max" else "0.0f"};
for (int i = 0; i < {width}; i++) {add}
{"norm = __builtin_sqrtf(norm);" if op.kind == "l2" else ""}
if (norm == 0.0f) norm = 1.0f;
for (int i = 0; i < {width}; i++) y[i] = x[i] / norm;
"""
    return _by_row(op, "\n".join(line for line in body.strip().splitlines() if line))


def _reduce(op: ir.Reduce, name: str, source: Source) -> str:
    width = op.inputs[0].width
    folds = {"max": "sum = x[i] > sum ? x[i] : sum;", "min": "sum = x[i] < sum ? x[i] : sum;"}
    folds |= {"sum_of_squares": "sum += x[i] * x[i];", "product": "sum *= x[i];"}
    fold = folds.get(op.kind, "sum += x[i];")
    if op.kind == "log_of_sum":
        most = f"float most = x[0], sum = 0.0f;\nfor (int i = 1; i < {width}; i++) most = x[i] > most ? x[i] : most;\n"
        return _by_row(
            op,
            f"{most}for (int i = 0; i < {width}; i++) sum += skerry_exp(x[i] - most);\ny[0] = most + skerry_log(sum);",
        )
    first = "x[0] * x[0]" if op.kind == "sum_of_squares" else "x[0]"
    divide = f" / {number(width)}" if op.kind == "mean" else ""
    return _by_row(op, f"float sum = {first};\nfor (int i = 1; i < {width}; i++) {fold}\ny[0] = sum{divide};")


def _argmax(op: ir.ArgMax, name: str, source: Source) -> str:
    body = (
        f"int best = 0;\nfor (int i = 1; i < {op.inputs[0].width}; i++) best = x[i] > x[best] ? i : best;\ny[0] = best;"
    )
    return _by_row(op, body)


def _above(op: ir.Above, name: str, source: Source) -> str:
    return f"for (int i = 0; i < {op.output.elements}; i++) y[i] = x[i] > {number(op.limit)};"


def _lookup(op: ir.Lookup, name: str, source: Source) -> str:
    table = source.table(f"{name}_table", op.table, op.output.c_type)
    last = op.table.size - 1
    return (
        f"for (int i = 0; i < {op.output.elements}; i++) {{\n"
        f"    const int64_t at = (int64_t)x[i];\n    y[i] = {table}[at < 0 ? 0 : at > {last} ? {last} : at];\n}}"
    )


def _two_classes(op: ir.TwoClasses, name: str, source: Source) -> str:
    other, one = {
        "complement": ("1.0f - s", "s"),
        "negated": ("-s", "s"),
        "logistic": ("skerry_sigmoid(-s)", "skerry_sigmoid(s)"),
    }[op.kind]
    rows = op.inputs[0].elements
    body = f"    const float s = x[i];\n    y[2 * i] = {other};\n    y[2 * i + 1] = {one};"
    return f"for (int i = 0; i < {rows}; i++) {{\n{body}\n}}"


def _concat(op: ir.Concat, name: str, source: Source) -> str:
    lines, at = [], 0
    for index, value in enumerate(op.inputs):
        to, source_at = f"y[row * {op.output.width} + {at} + i]", f"x{index}[row * {value.width} + i]"
        lines.append(f"    for (int i = 0; i < {value.width}; i++) {to} = {source_at};")
        at += value.width
    return "\n".join([f"for (int row = 0; row < {op.output.rows}; row++) {{", *lines, "}"])


EMITTERS: dict[type[ir.Op], Callable[[Any, str, Source], str]] = {
    ir.Map: _map,
    ir.Affine: _affine,
    ir.Combine: _combine,
    ir.Softmax: _softmax,
    ir.Normalise: _normalise,
    ir.Reduce: _reduce,
    ir.ArgMax: _argmax,
    ir.Above: _above,
    ir.Lookup: _lookup,
    ir.TwoClasses: _two_classes,
    ir.Concat: _concat,
    ir.Select: _select,
    ir.TakeRows: _take_rows,
    ir.TakeColumns: _take_columns,
    ir.Votes: _votes,
}


def emit(op: ir.Op, name: str, source: Source) -> None:
    """Add the function of one operation. Signature: its inputs (x, or x0, x1, ...), then y."""
    several = isinstance(op, (ir.Combine, ir.Concat, ir.Select))
    inputs = [f"const {value.c_type} *restrict x{index if several else ''}" for index, value in enumerate(op.inputs)]
    about = f"{op.output.name}: {type(op).__name__.lower()} of {list(op.inputs[0].shape)}"
    body = EMITTERS[type(op)](op, name, source)
    source.function(name, ", ".join([*inputs, f"{op.output.c_type} *restrict y"]), body, about)

"""Reading what sums up: reductions of every kind and type, and products of tensors in any arrangement."""

from __future__ import annotations

import math

import numpy as np

from skerry_compiler.engines.network.graph import Step
from skerry_compiler.engines.network.loops import Access
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_linear import gemm as gemm_constant
from skerry_compiler.engines.network.read_linear import matmul as matmul_matrices
from skerry_compiler.engines.network.read_linear import product, transposed
from skerry_compiler.engines.network.read_map import binary, mapped, scalar
from skerry_compiler.engines.network.read_pool import reduced
from skerry_compiler.engines.network.read_typed import Side, kind_of, nest, side, steps_of
from skerry_compiler.engines.network.tensors import CTYPES
from skerry_compiler.engines.network.values import Value, identity

# What a fold keeps, does for each element x of type T, and gives; {n} is how many there are.
FOLDS = {
    "ReduceSum": ("T s = 0;", "s += {0};", "s"),
    "ReduceMean": ("T s = 0;", "s += {0};", "s / {n}"),
    "ReduceProd": ("T s = 1;", "s *= {0};", "s"),
    "ReduceMax": ("T s = 0;", "if ({r} == 0 || {0} > s) s = {0};", "s"),
    "ReduceMin": ("T s = 0;", "if ({r} == 0 || {0} < s) s = {0};", "s"),
    "ReduceL1": ("T s = 0;", "s += {0} < 0 ? -{0} : {0};", "s"),
    "ReduceL2": ("double s = 0;", "s += (double){0} * (double){0};", "fn_sqrt(s)"),
    "ReduceSumSquare": ("T s = 0;", "s += {0} * {0};", "s"),
    "ReduceLogSum": ("double s = 0;", "s += {0};", "fn_log(s)"),
    "ReduceLogSumExp": (
        "double s = 0, top = -__builtin_inf();",
        "if ({0} > top) { s = (s > 0 ? s * fn_exp(top - {0}) : 0) + 1; top = {0}; }"
        " else if ({0} > -__builtin_inf()) s += fn_exp({0} - top);",
        "top + fn_log(s)",
    ),
}


def reduction_axes(reader: Reader, node: Node, rank: int) -> list[int] | None:
    """Return the axes of a reduction, None for nothing to do."""
    axes = node.attributes.get("axes")
    if axes is None and node.given(1):
        axes = reader.constant(node, 1).tolist()
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return None
    return sorted(a % rank for a in axes) if axes else list(range(rank))


def reduce_any(reader: Reader, node: Node) -> None:
    """Every Reduce operator, for any type."""
    value = side(reader, node, 0)
    rank = len(value.shape)
    axes = reduction_axes(reader, node, rank)
    if axes is None:
        axes = []
    kind = kind_of(value)
    kept = [a for a in range(rank) if a not in axes]
    own = steps_of(value)
    start, each, text = (t.replace("{n}", str(math.prod(value.shape[a] for a in axes))) for t in FOLDS[node.op_type])
    c = CTYPES[kind]
    folded = tuple(value.shape[a] for a in axes) or (1,)
    walk = Access(tuple([own[a] for a in kept] + ([own[a] for a in axes] or [0])))
    shape = tuple(value.shape[a] for a in kept)
    start = start.replace("T ", c + " ")
    made = nest(reader, node, shape, identity(len(shape)), [value], [walk], f"({c})({text})", kind, folded, start, each)
    if node.attributes.get("keepdims", 1):
        made = reader.layouts.reshaped(made, tuple(1 if a in axes else n for a, n in enumerate(value.shape)))
    reader.view(node, made)


def composed(reader: Reader, node: Node) -> None:
    """ReduceL1, L2, SumSquare and LogSum of float32: steps around a sum."""
    value = reader.value(node, 0)
    axes = reduction_axes(reader, node, len(value.shape))
    if not axes:
        reduce_any(reader, node)
        return
    before = {"ReduceL1": ["abs"], "ReduceL2": ["square"], "ReduceSumSquare": ["square"], "ReduceLogSum": []}
    after = {"ReduceL2": ["sqrt"], "ReduceLogSum": ["log"]}
    if before[node.op_type]:
        value = mapped(reader, node, value, [Step(n) for n in before[node.op_type]], "/terms")
    keep = bool(node.attributes.get("keepdims", 1))
    total = reduced(reader, node, value, axes, keep, "sum")
    if node.op_type in after:
        total.tensor.name += "/sums"
        total = mapped(reader, node, total, [Step(n) for n in after[node.op_type]])
    reader.view(node, total)


def contraction(
    reader: Reader, node: Node, sides: list[Side], labels: list[str], out: str, text: str, kind: str
) -> Value:
    """Append a sum over all labels that are not in `out` of an expression of the sides, whose axes have labels."""
    extent: dict[str, int] = {}
    for s, names in zip(sides, labels, strict=True):
        for name, n in zip(names, s.shape, strict=True):
            extent[name] = max(n, extent.get(name, 1))
    inner = [name for name in dict.fromkeys("".join(labels)) if name not in out]
    walks = []
    for s, names in zip(sides, labels, strict=True):
        own = list(zip(names, s.shape, steps_of(s), strict=True))
        walks.append(
            Access(tuple(sum(t for m, n, t in own if m == name and n > 1) for name in (*out, *inner)))
        )  # fmt: skip
    shape = tuple(extent[name] for name in out)
    folded = tuple(extent[name] for name in inner) or (1,)
    if not inner:
        walks = [Access((*w.strides, 0)) for w in walks]
    c = CTYPES[kind]
    return nest(
        reader, node, shape, identity(len(shape)), sides, walks, f"({c})total", kind, folded, f"{c} total = 0;",
        f"total += {text};",
    )  # fmt: skip


def matmul_any(reader: Reader, node: Node) -> None:
    """MatMul and MatMulInteger of any types and ranks."""
    sides = [side(reader, node, i) for i in (0, 1)]
    kind, text = kind_of(sides[0]), "{0} * {1}"
    lead = max(2, *(len(s.shape) for s in sides)) - 2
    labels = [_matrix_labels(len(s.shape), lead, last) for s, last in zip(sides, ("mk", "kn"), strict=True)]
    if node.op_type == "MatMulInteger":
        kind, factors = "int32", ["(int32_t){0}", "(int32_t){1}"]
        for i in (0, 1):
            if node.given(2 + i):
                zero = side(reader, node, 2 + i)
                factors[i] = f"({factors[i]} - {{{len(sides)}}})"
                sides.append(zero)
                along = labels[i][-2:-1] if i == 0 else labels[i][-1:]
                labels.append("" if math.prod(zero.shape) == 1 else labels[i] if len(zero.shape) > 1 else along)
                if not labels[-1]:
                    sides[-1] = reader.layouts.reshaped(zero, ()) if isinstance(zero, Value) else zero.reshape(())
        text = " * ".join(factors)
    out = "".join(chr(ord("A") + i) for i in range(lead))
    out += ("m" if len(sides[0].shape) > 1 else "") + ("n" if len(sides[1].shape) > 1 else "")
    reader.view(node, contraction(reader, node, sides, labels, out, text, kind))


def matmul(reader: Reader, node: Node) -> None:
    """MatMul of float32; of vectors as loops."""
    of_vectors = min(len(reader.shape(node, 0)), len(reader.shape(node, 1))) < 2
    (matmul_any if of_vectors else matmul_matrices)(reader, node)


def _matrix_labels(rank: int, lead: int, last: str) -> str:
    """Return labels of a matrix product's side: common leading axes A, B ..., counted from the right."""
    return "k" if rank == 1 else "".join(chr(ord("A") + lead - (rank - 2) + i) for i in range(rank - 2)) + last


def gemm(reader: Reader, node: Node) -> None:
    """Gemm; with constant weights and bias as a dense layer."""
    c_constant = not node.given(2) or node.inputs[2] in reader.constants
    fits = c_constant and (not node.given(2) or _is_row(reader, node))
    if node.inputs[1] in reader.constants and node.inputs[0] in reader.values and fits:
        gemm_constant(reader, node)
        return
    a, b = reader.value(node, 0), reader.value(node, 1)
    a = transposed(a) if node.attributes.get("transA", 0) else a
    b = transposed(b) if node.attributes.get("transB", 0) else b
    product(reader, node, a, b)
    total = reader.values[node.outputs[0]]
    steps = [Step("mul", scalar(float(node.attributes[k]))) for k in ("alpha",) if node.attributes.get(k, 1.0) != 1.0]
    total = mapped(reader, node, total, steps) if steps else total
    if node.given(2):
        beta, c = float(node.attributes.get("beta", 1.0)), side(reader, node, 2)
        if beta != 1.0:
            c = mapped(reader, node, c, [Step("mul", scalar(beta))]) if isinstance(c, Value) else c * np.float32(beta)
        total = binary(reader, node, "add", "add", total, c)
    reader.view(node, total)


def _is_row(reader: Reader, node: Node) -> bool:
    """Whether C is one number or one for each column."""
    shape, b = reader.shape(node, 2), reader.shape(node, 1)
    columns = b[0] if node.attributes.get("transB", 0) else b[1]
    return math.prod(shape) == 1 or (shape[-1:] == (columns,) and math.prod(shape) == columns)


def einsum(reader: Reader, node: Node) -> None:
    """Einsum: products of two as matrix products, anything else as loops."""
    sides = [side(reader, node, i) for i in range(len(node.inputs))]
    equation = node.attributes["equation"].replace(" ", "")
    left, arrow, out = equation.partition("->")
    labels = left.split(",")
    spare = [len(s.shape) - len(t.replace("...", "")) for s, t in zip(sides, labels, strict=True)]
    dots = max(spare)
    digits = "".join(chr(ord("0") + i) for i in range(dots))  # stand for the axes of "..."
    labels = [t.replace("...", digits[dots - n :]) for t, n in zip(labels, spare, strict=True)]
    if not arrow:
        every = "".join(labels)
        out = digits + "".join(sorted(c for c in set(every) if every.count(c) == 1 and c.isalpha()))
    else:
        out = out.replace("...", digits)
    kind = kind_of(sides[0])
    simple = len(sides) == 2 and kind == "float32" and all(len(set(t)) == len(t) for t in (*labels, out))
    if simple and _as_product(reader, node, sides, labels, out):
        return
    text = " * ".join(f"{{{i}}}" for i in range(len(sides)))
    reader.view(node, contraction(reader, node, sides, labels, out, text, kind))


def _as_product(reader: Reader, node: Node, sides: list[Side], labels: list[str], out: str) -> bool:
    """Append an Einsum of two as a matrix product; returns whether it is one."""
    one, two = labels
    batch = [c for c in out if c in one and c in two]
    rows, columns = [c for c in out if c in one and c not in two], [c for c in out if c in two and c not in one]
    inner = [c for c in one if c in two and c not in out]
    if (
        not inner
        or len(batch) + len(rows) + len(inner) != len(one)
        or len(batch) + len(columns) + len(inner) != len(two)
    ):
        return False
    size = dict(zip(one + two, [*sides[0].shape, *sides[1].shape], strict=True))
    if any(dict(zip(t, s.shape, strict=True))[c] != size[c] for t, s in zip(labels, sides, strict=True) for c in t):
        return False
    values = []
    for i, order in ((0, [*batch, *rows, *inner]), (1, [*batch, *inner, *columns])):
        value = reader.typed(node, i)
        perm = [labels[i].index(c) for c in order]
        value = Value(value.tensor, tuple(value.shape[p] for p in perm), tuple(perm.index(a) for a in value.order))
        lead = tuple(size[c] for c in batch)
        split = len(batch) + (len(rows) if i == 0 else len(inner))
        matrix = (math.prod(size[c] for c in order[len(batch) : split]), math.prod(size[c] for c in order[split:]))
        values.append(reader.layouts.reshaped(value, (*lead, *matrix)))
    product(reader, node, *values)
    made = reader.values[node.outputs[0]]
    order = [*batch, *rows, *columns]
    made = reader.layouts.reshaped(made, tuple(size[c] for c in order))
    perm = [order.index(c) for c in out]
    made = Value(made.tensor, tuple(made.shape[p] for p in perm), tuple(perm.index(a) for a in made.order))
    reader.view(node, made)
    return True


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"), composed),
    "MatMul": matmul, "ReduceProd": reduce_any, "ReduceLogSumExp": reduce_any, "Gemm": gemm, "Einsum": einsum,
}  # fmt: skip
OTHER: dict[str, Handler] = {
    **dict.fromkeys(FOLDS, reduce_any),
    "MatMul": matmul_any, "MatMulInteger": matmul_any,
}  # fmt: skip

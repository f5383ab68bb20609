"""Reading operators that pick elements: by indices known now or at run time, by size, or by place."""

from __future__ import annotations

import math

import numpy as np

from skerry_compiler.engines.network.graph import Tensor
from skerry_compiler.engines.network.loops import Access, Cumulate, Index, Loops, Select
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_shape import gather as gather_known
from skerry_compiler.engines.network.read_typed import (
    Side,
    binary_text,
    elementwise,
    kind_of,
    nest,
    operand,
    side,
    steps_of,
)
from skerry_compiler.engines.network.tensors import CTYPES
from skerry_compiler.engines.network.values import Value, fold, identity

MOST_CHOSEN = 4096  # a longer list is sorted too slowly by insertion


def gather(reader: Reader, node: Node) -> None:
    """Gather along an axis; by a constant list of few indices as copies of slices."""
    indices = side(reader, node, 1)
    if not isinstance(indices, Value) and indices.ndim < 2 and node.inputs[0] in reader.values and indices.size <= 64:
        gather_known(reader, node)
        return
    data = side(reader, node, 0)
    axis = int(node.attributes.get("axis", 0)) % len(data.shape)
    steps = steps_of(data)
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    before, after, inner = axis, len(data.shape) - axis - 1, len(indices.shape)
    found = Index(1, data.shape[axis], steps[axis])
    walk = Access((*steps[:axis], *(0,) * inner, *steps[axis + 1 :]), 0, (found,))
    by = (*(0,) * before, *steps_of(indices), *(0,) * after)
    reader.view(
        node, nest(reader, node, shape, identity(len(shape)), [data, indices], [walk, by], "{0}", kind_of(data))
    )


def gather_elements(reader: Reader, node: Node) -> None:
    """GatherElements."""
    data, indices = side(reader, node, 0), side(reader, node, 1)
    rank = len(data.shape)
    axis = int(node.attributes.get("axis", 0)) % rank
    steps = steps_of(data)
    walk = Access(
        tuple(0 if a == axis else s for a, s in enumerate(steps)), 0, (Index(1, data.shape[axis], steps[axis]),)
    )
    shape = indices.shape
    value = nest(reader, node, shape, identity(rank), [data, indices], [walk, steps_of(indices)], "{0}", kind_of(data))
    reader.view(node, value)


def gather_nd(reader: Reader, node: Node) -> None:
    """GatherND."""
    data, indices = side(reader, node, 0), side(reader, node, 1)
    batch = int(node.attributes.get("batch_dims", 0))
    depth, steps, own = indices.shape[-1], steps_of(data), steps_of(indices)
    lead, rest = indices.shape[:-1], data.shape[batch + depth :]
    shape = (*lead, *rest)
    found = tuple(Index(1 + k, data.shape[batch + k], steps[batch + k]) for k in range(depth))
    batches = tuple(steps[a] if a < batch else 0 for a in range(len(lead)))
    walks = [Access((*batches, *steps[batch + depth :]), 0, found)]
    walks += [Access((*own[:-1], *(0,) * len(rest)), k * own[-1]) for k in range(depth)]
    sides: list[Side] = [data, *[indices] * depth]
    reader.view(node, nest(reader, node, shape, identity(len(shape)), sides, walks, "{0}", kind_of(data)))


def _scattered(
    reader: Reader, node: Node, sides: list[Side], walks: list[Access], dims: tuple[int, ...], goal: Access, how: str
) -> None:
    """Append the writing of updates (operand 0) into a copy of the data (the last operand)."""
    data = sides[-1]
    value = reader.layouts.ordered(_written(reader, node, data), identity(len(data.shape)))
    kind = kind_of(data)
    if how not in ("none", "add", "mul", "max", "min"):
        raise node.fail(f"reduction {how!r}")
    text = "{0}" if how == "none" else binary_text(how.capitalize(), kind).replace("{1}", "{y}")
    y = Tensor(node.outputs[0], *fold(data.shape), kind=kind)
    reader.add(
        Loops(
            label=node.name, y=y, dims=dims, operands=[operand(s) for s in (*sides[:-1], value)], text=text,
            access=[*walks, Access((0,) * len(dims))], target=goal, base=len(sides) - 1,
        )
    )  # fmt: skip
    reader.give(node, y, data.shape, identity(len(data.shape)))


def _written(reader: Reader, node: Node, data: Side) -> Value:
    return data if isinstance(data, Value) else reader.written(node, data, node.inputs[0])


def scatter_elements(reader: Reader, node: Node) -> None:
    """ScatterElements and Scatter."""
    data, indices, updates = (side(reader, node, i) for i in range(3))
    rank = len(data.shape)
    axis = int(node.attributes.get("axis", 0)) % rank
    natural = [math.prod(data.shape[a + 1 :]) for a in range(rank)]
    goal = Access(
        tuple(0 if a == axis else s for a, s in enumerate(natural)), 0, (Index(1, data.shape[axis], natural[axis]),)
    )
    walks = [Access(steps_of(updates)), Access(steps_of(indices))]
    how = node.attributes.get("reduction", "none")
    _scattered(reader, node, [updates, indices, data], walks, tuple(indices.shape), goal, how)


def scatter_nd(reader: Reader, node: Node) -> None:
    """ScatterND."""
    data, indices, updates = (side(reader, node, i) for i in range(3))
    depth, own = indices.shape[-1], steps_of(indices)
    natural = [math.prod(data.shape[a + 1 :]) for a in range(len(data.shape))]
    lead, rest = len(indices.shape) - 1, len(data.shape) - depth
    goal = Access(
        (*(0,) * lead, *natural[depth:]), 0, tuple(Index(1 + k, data.shape[k], natural[k]) for k in range(depth))
    )
    walks = [Access(steps_of(updates))]
    walks += [Access((*own[:-1], *(0,) * rest), k * own[-1]) for k in range(depth)]
    sides: list[Side] = [updates, *[indices] * depth, data]
    how = node.attributes.get("reduction", "none")
    _scattered(reader, node, sides, walks, tuple(updates.shape), goal, how)


def one_hot(reader: Reader, node: Node) -> None:
    """OneHot of a constant depth; indices out of range are all off."""
    indices = side(reader, node, 0)
    depth = int(reader.constant(node, 1).ravel()[0])
    values = side(reader, node, 2)
    rank = len(indices.shape) + 1
    axis = int(node.attributes.get("axis", -1)) % rank
    shape = (*indices.shape[:axis], depth, *indices.shape[axis:])
    own = steps_of(indices)
    at = Access((*own[:axis], 0, *own[axis:]))
    row = Access(tuple(int(a == axis) for a in range(rank)))
    place = "(int64_t){0}"
    text = f"(({place} < 0 ? {place} + {depth} : {place}) == {{1}} ? {{2}} : {{3}})"
    sides: list[Side] = [indices, np.arange(depth, dtype=np.int64), values, values]
    walks = [at, row, Access((0,) * rank, 1), Access((0,) * rank)]
    reader.view(node, nest(reader, node, shape, identity(rank), sides, walks, text, kind_of(values)))


def arg_extreme(reader: Reader, node: Node) -> None:
    """ArgMax and ArgMin."""
    data = side(reader, node, 0)
    rank = len(data.shape)
    axis = int(node.attributes.get("axis", 0)) % rank
    kept = tuple(a for a in range(rank) if a != axis)
    order = ">" if node.op_type == "ArgMax" else "<"
    order += "=" if node.attributes.get("select_last_index", 0) else ""
    steps = steps_of(data)
    dims = (*(data.shape[a] for a in kept), data.shape[axis])
    walk = Access(tuple(steps[a] for a in (*kept, axis)))
    c = CTYPES[kind_of(data)]
    start, better = f"{c} best = 0; int32_t place = 0;", f"{{r}} == 0 || {{0}} {order} best"
    made = nest(
        reader, node, dims[:-1], identity(rank - 1), [data], [walk], "place", "int64", dims[-1:], start,
        f"if ({better}) best = {{0}}, place = {{r}};",
    )  # fmt: skip
    shape = tuple(1 if a == axis else n for a, n in enumerate(data.shape))
    made = reader.layouts.reshaped(made, shape) if node.attributes.get("keepdims", 1) else made
    reader.view(node, made)


def top_k(reader: Reader, node: Node) -> None:
    """TopK of a constant number; always sorted."""
    value = reader.typed(node, 0)
    count = int(reader.constant(node, 1).ravel()[0]) if node.opset >= 10 else int(node.attributes["k"])
    rank = len(value.shape)
    axis = int(node.attributes.get("axis", -1)) % rank
    if not 0 < count <= MOST_CHOSEN:
        raise node.fail(f"k = {count}; 1 to {MOST_CHOSEN} is supported")
    value = reader.layouts.ordered(value, identity(rank))
    dims = (math.prod(value.shape[:axis]), value.shape[axis], math.prod(value.shape[axis + 1 :]))
    shape = tuple(count if a == axis else n for a, n in enumerate(value.shape))
    for index, kind in enumerate((value.kind, "int64")):
        if len(node.outputs) > index and node.outputs[index]:
            y = Tensor(node.outputs[index], *fold(shape), kind=kind)
            reader.add(
                Select(label=node.name, x=value.tensor, y=y, dims=dims, count=count, places=index == 1,
                       largest=bool(node.attributes.get("largest", 1)))
            )  # fmt: skip
            reader.give(node, y, shape, identity(rank), index)


def cumulate(reader: Reader, node: Node) -> None:
    """CumSum and CumProd along a constant axis."""
    value = reader.typed(node, 0)
    rank = len(value.shape)
    axis = int(reader.constant(node, 1).ravel()[0]) % rank
    value = reader.layouts.ordered(value, identity(rank))
    dims = (math.prod(value.shape[:axis]), value.shape[axis], math.prod(value.shape[axis + 1 :]))
    y = Tensor(node.outputs[0], *fold(value.shape), kind=value.kind)
    reader.add(
        Cumulate(label=node.name, x=value.tensor, y=y, dims=dims, exclusive=bool(node.attributes.get("exclusive", 0)),
                 reverse=bool(node.attributes.get("reverse", 0)), product=node.op_type == "CumProd")
    )  # fmt: skip
    reader.give(node, y, value.shape, identity(rank))


def triangle(reader: Reader, node: Node) -> None:
    """Trilu with a constant diagonal."""
    value = reader.typed(node, 0)
    k = int(reader.constant(node, 1).ravel()[0]) if node.given(1) else 0
    ones = np.ones(value.shape[-2:], bool)
    mask = np.triu(ones, k) if node.attributes.get("upper", 1) else np.tril(ones, k)
    reader.view(node, elementwise(reader, node, [value, mask], "({1} ? {0} : 0)", value.kind))


def reverse_sequence(reader: Reader, node: Node) -> None:
    """ReverseSequence with constant lengths, as a gathering by constant places."""
    data, lengths = side(reader, node, 0), reader.constant(node, 1)
    time, batch = int(node.attributes.get("time_axis", 0)), int(node.attributes.get("batch_axis", 1))
    places = np.tile(np.arange(data.shape[time], dtype=np.int64)[:, None], (1, data.shape[batch]))
    for i, n in enumerate(lengths.tolist()):
        places[:n, i] = places[:n, i][::-1]
    steps, rank = steps_of(data), len(data.shape)
    walk = Access(
        tuple(0 if a == time else s for a, s in enumerate(steps)), 0, (Index(1, data.shape[time], steps[time]),)
    )
    by = Access(tuple(data.shape[batch] if a == time else int(a == batch) for a in range(rank)))
    value = nest(reader, node, data.shape, identity(rank), [data, places], [walk, by], "{0}", kind_of(data))
    reader.view(node, value)


HANDLERS: dict[str, Handler] = {
    "Gather": gather, "GatherElements": gather_elements, "GatherND": gather_nd, "Scatter": scatter_elements,
    "ScatterElements": scatter_elements, "ScatterND": scatter_nd, "OneHot": one_hot, "ArgMax": arg_extreme,
    "ArgMin": arg_extreme, "TopK": top_k, "CumSum": cumulate, "CumProd": cumulate, "Trilu": triangle,
    "ReverseSequence": reverse_sequence,
}  # fmt: skip

"""Reading operators that only move data: views where the memory order allows, copies where not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from skerry_compiler.engines.network.graph import Box, Map, Move, Tensor
from skerry_compiler.engines.network.loops import Access
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_map import align
from skerry_compiler.engines.network.read_typed import nest, spread
from skerry_compiler.engines.network.values import Value, fold, identity

MAX_BOXES = 4096


def form(memory: tuple[int, ...], place: int) -> tuple[tuple[int, int, int], int]:
    """Return h, w, c of a shape in memory order such that the axis at `place` is one of them, and which."""
    before, after = math.prod(memory[:place]), memory[place + 1 :]
    if len(after) == 0:
        return fold(memory), 2
    if len(after) == 1:
        return fold(memory), 1
    if len(after) == 2 and before == 1:
        return fold(memory), 0
    return (before, memory[place], math.prod(after)), 1


def along(
    reader: Reader, node: Node, value: Value, axis: int, pieces: list[tuple[int, int, int, int]], size: int,
    fill: float = 0.0,
) -> Value:  # fmt: skip
    """Return a value whose axis holds pieces (source, target, count, step) of the axis of another, else `fill`."""
    hwc, which = form(value.memory, value.order.index(axis))
    x = reader.layouts.shaped(value.tensor, *hwc)
    target = list(hwc)
    target[which] = size
    y = Tensor(node.outputs[0], target[0], target[1], target[2], kind=value.kind)
    parts = []
    for source, to, count, step in pieces:
        start, goal, extent, steps = [0, 0, 0], [0, 0, 0], list(hwc), [1, 1, 1]
        start[which], goal[which], extent[which], steps[which] = source, to, count, step
        parts.append((x, Box(_three(start), _three(goal), _three(extent), _three(steps))))
    if len(parts) > MAX_BOXES:
        raise node.fail(f"{len(parts)} pieces")
    whole = sum(p[2] for p in pieces) == size
    reader.add(Move(label=node.name, y=y, parts=parts, fill=None if whole else fill))
    shape = tuple(size if a == axis else n for a, n in enumerate(value.shape))
    return Value(y, shape, value.order)


def _three(values: Sequence[int]) -> tuple[int, int, int]:
    return values[0], values[1], values[2]


def concat(reader: Reader, node: Node) -> None:
    """Concat along any axis."""
    values = [reader.typed(node, i) for i in range(len(node.inputs))]
    axis = node.attributes["axis"] % len(values[0].shape)
    reader.view(node, joined(reader, node, values, axis))


def joined(reader: Reader, node: Node, values: list[Value], axis: int) -> Value:
    """Return values one after the other along an axis."""
    if len(values) == 1:
        return values[0]
    rank = len(values[0].shape)
    chief = max(values, key=lambda v: (math.prod(v.shape), v.order != identity(rank)))
    values = [reader.layouts.ordered(v, chief.order) for v in values]
    total = sum(v.shape[axis] for v in values)
    shape = tuple(total if a == axis else n for a, n in enumerate(chief.shape))
    memory = tuple(shape[a] for a in chief.order)
    hwc, which = form(memory, chief.order.index(axis))
    y = Tensor(node.outputs[0], *hwc, kind=chief.kind)
    parts, at = [], 0
    for value in values:
        size = list(hwc)
        size[which] = value.shape[axis]
        x = reader.layouts.shaped(value.tensor, *size)
        goal = [0, 0, 0]
        goal[which] = at
        parts.append((x, Box((0, 0, 0), _three(goal), _three(size))))
        at += value.shape[axis]
    reader.add(Move(label=node.name, y=y, parts=parts))
    return Value(y, shape, chief.order)


def slice_(reader: Reader, node: Node) -> None:
    """Slice with constant bounds."""
    value = reader.typed(node, 0)
    rank = len(value.shape)
    if node.opset < 10:
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        axes, steps = node.attributes.get("axes", range(len(starts))), [1] * len(starts)
    else:
        starts, ends = (reader.constant(node, i).tolist() for i in (1, 2))
        axes = reader.constant(node, 3).tolist() if node.given(3) else range(len(starts))
        steps = reader.constant(node, 4).tolist() if node.given(4) else [1] * len(starts)
    chosen = [range(n) for n in value.shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        chosen[axis] = range(*slice(start, end, step).indices(value.shape[axis]))
    if any(len(c) == 0 for c in chosen):
        raise node.fail("an empty slice")
    if any(c.step < 0 < len(c) - 1 for c in chosen):
        own = value.strides
        walk = Access(
            tuple(own[a] * chosen[a].step for a in value.order), sum(own[a] * chosen[a][0] for a in range(rank))
        )
        shape = [len(c) for c in chosen]
        reader.view(node, nest(reader, node, shape, value.order, [value], [walk], "{0}", value.kind))
        return
    for axis, c in enumerate(chosen):
        if c != range(value.shape[axis]):
            value = along(reader, node, value, axis, [(c[0], 0, len(c), c.step if len(c) > 1 else 1)], len(c))
    reader.view(node, value)


def split(reader: Reader, node: Node) -> None:
    """Split into equal parts or by constant sizes."""
    value = reader.typed(node, 0)
    axis = node.attributes.get("axis", 0) % len(value.shape)
    sizes = node.attributes.get("split")
    if sizes is None and node.given(1):
        sizes = reader.constant(node, 1).tolist()
    if sizes is None:
        each = -(-value.shape[axis] // len(node.outputs))
        sizes = [min(each, value.shape[axis] - i * each) for i in range(len(node.outputs))]
    at = 0
    for index, size in enumerate(sizes):
        part = along(reader, node, value, axis, [(at, 0, size, 1)], size)
        part.tensor.name = node.outputs[index]
        reader.give(node, part.tensor, part.shape, part.order, index)
        at += size


def gather(reader: Reader, node: Node) -> None:
    """Gather by constant indices, a scalar or a list."""
    value = reader.typed(node, 0)
    indices = reader.constant(node, 1)
    axis = node.attributes.get("axis", 0) % len(value.shape)
    if indices.ndim > 1:
        raise node.fail(f"indices of shape {indices.shape}")
    size = value.shape[axis]
    pieces = [(int(i) % size, n, 1, 1) for n, i in enumerate(indices.ravel().tolist())]
    value = along(reader, node, value, axis, pieces, len(pieces))
    if indices.ndim == 0:
        value = reader.layouts.reshaped(value, tuple(n for a, n in enumerate(value.shape) if a != axis))
    reader.view(node, value)


def pad(reader: Reader, node: Node) -> None:
    """Pad by a constant, the edge, reflection or wrapping."""
    value = reader.typed(node, 0)
    rank = len(value.shape)
    mode = node.attributes.get("mode", "constant")
    pads = list(node.attributes.get("pads") or reader.constant(node, 1).tolist())
    axes = reader.constant(node, 3).tolist() if node.given(3) else list(range(rank))
    fill = node.attributes.get("value", 0.0)
    if node.given(2):
        fill = reader.constant(node, 2).item()
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis % rank], after[axis % rank] = int(pads[i]), int(pads[i + len(axes)])
    for axis in range(rank):  # negative padding takes away
        low, high = min(before[axis], 0), min(after[axis], 0)
        if low or high:
            n = value.shape[axis] + low + high
            if n < 1:
                raise node.fail("nothing is left")
            value = along(reader, node, value, axis, [(-low, 0, n, 1)], n)
            before[axis], after[axis] = max(before[axis], 0), max(after[axis], 0)
    if mode == "constant" and math.prod(value.memory[:-3]) == 1:
        value = _padded(reader, node, value, before, after, fill)
    else:
        for axis in range(rank):
            if before[axis] + after[axis]:
                value = _extended(reader, node, value, axis, before[axis], after[axis], mode, fill)
    reader.view(node, value)


def _extended(
    reader: Reader, node: Node, value: Value, axis: int, before: int, after: int, mode: str, fill: float
) -> Value:
    """Pad one axis, beside which a constant is `fill`."""
    n = value.shape[axis]
    pieces = [(0, before, n, 1)]
    if mode != "constant":
        index = np.pad(np.arange(n), (before, after), mode=mode)  # type: ignore[call-overload]
        pieces += [(int(i), t, 1, 1) for t, i in enumerate(index) if not before <= t < before + n]
    return along(reader, node, value, axis, pieces, n + before + after, fill)


def _padded(reader: Reader, node: Node, value: Value, before: list[int], after: list[int], fill: float) -> Value:
    """Pad the three innermost axes at once, so that a convolution may take the border over."""
    inner = [None] * (3 - min(3, len(value.order))) + list(value.order[-3:])
    x = reader.layouts.shaped(value.tensor, *fold(value.memory))
    start = [0 if a is None else before[a] for a in inner]
    extra = [0 if a is None else before[a] + after[a] for a in inner]
    y = Tensor(node.outputs[0], x.h + extra[0], x.w + extra[1], x.c + extra[2], kind=value.kind)
    box = Box((0, 0, 0), _three(start), (x.h, x.w, x.c))
    reader.add(Move(label=node.name, y=y, parts=[(x, box)], fill=fill))
    shape = tuple(n + before[a] + after[a] for a, n in enumerate(value.shape))
    return Value(y, shape, value.order)


def expand(reader: Reader, node: Node) -> None:
    """Expand to a constant shape."""
    value = reader.typed(node, 0)
    want = np.zeros([int(n) for n in reader.constant(node, 1).tolist()], np.int8)
    aligned = align(reader, [value, want]) if value.kind == "float32" and want.size else None
    if aligned is None:
        shape = np.broadcast_shapes(value.shape, want.shape)
        reader.view(
            node, nest(reader, node, shape, identity(len(shape)), [value], [spread(value, shape)], "{0}", value.kind)
        )
        return
    shape, order, hwc, operands = aligned
    assert isinstance(operands[0], Tensor)
    y = reader.add(Map(label=node.name, x=operands[0], y=Tensor(node.outputs[0], *hwc)))
    reader.give(node, y, shape, order)


def tile(reader: Reader, node: Node) -> None:
    """Tile by constant numbers of repeats."""
    value = reader.typed(node, 0)
    for axis, count in enumerate(reader.constant(node, 1).tolist()):
        n = value.shape[axis]
        if count < 1:
            raise node.fail(f"{count} repeats")
        if count > 1:
            value = along(reader, node, value, axis, [(0, i * n, n, 1) for i in range(count)], n * count)
    reader.view(node, value)


def compress(reader: Reader, node: Node) -> None:
    """Compress by a constant condition."""
    value = reader.typed(node, 0)
    chosen = np.flatnonzero(reader.constant(node, 1))
    if "axis" not in node.attributes:
        value = reader.layouts.reshaped(value, (math.prod(value.shape),))
    axis = int(node.attributes.get("axis", 0)) % len(value.shape)
    if len(chosen) == 0 or len(chosen) > MAX_BOXES:
        raise node.fail(f"{len(chosen)} chosen")
    pieces = [(int(i), n, 1, 1) for n, i in enumerate(chosen)]
    reader.view(node, along(reader, node, value, axis, pieces, len(pieces)))


HANDLERS: dict[str, Handler] = {
    "Concat": concat, "Slice": slice_, "Split": split, "Pad": pad, "Expand": expand, "Tile": tile,
    "Compress": compress,
}  # fmt: skip

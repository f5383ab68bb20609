"""Reading operators that only move data: views where the memory order allows, copies where not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from skerry_compiler.engines.network.graph import Box, Map, Move, Tensor
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_map import align
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
    reader: Reader, node: Node, value: Value, axis: int, pieces: list[tuple[int, int, int, int]], size: int
) -> Value:
    """Return a value whose axis holds pieces (source, target, count, step) of the axis of another; the rest is zero."""
    hwc, which = form(value.memory, value.order.index(axis))
    x = reader.layouts.shaped(value.tensor, *hwc)
    target = list(hwc)
    target[which] = size
    y = Tensor(node.outputs[0], target[0], target[1], target[2])
    parts = []
    for source, to, count, step in pieces:
        start, goal, extent, steps = [0, 0, 0], [0, 0, 0], list(hwc), [1, 1, 1]
        start[which], goal[which], extent[which], steps[which] = source, to, count, step
        parts.append((x, Box(_three(start), _three(goal), _three(extent), _three(steps))))
    if len(parts) > MAX_BOXES:
        raise node.fail(f"{len(parts)} pieces")
    fill = None if sum(p[2] for p in pieces) == size else 0.0
    reader.add(Move(label=node.name, y=y, parts=parts, fill=fill))
    shape = tuple(size if a == axis else n for a, n in enumerate(value.shape))
    return Value(y, shape, value.order)


def _three(values: Sequence[int]) -> tuple[int, int, int]:
    return values[0], values[1], values[2]


def concat(reader: Reader, node: Node) -> None:
    """Concat along any axis."""
    values = [reader.value(node, i) for i in range(len(node.inputs))]
    rank = len(values[0].shape)
    axis = node.attributes["axis"] % rank
    chief = max(values, key=lambda v: (math.prod(v.shape), v.order != identity(rank)))
    values = [reader.layouts.ordered(v, chief.order) for v in values]
    total = sum(v.shape[axis] for v in values)
    shape = tuple(total if a == axis else n for a, n in enumerate(chief.shape))
    memory = tuple(shape[a] for a in chief.order)
    hwc, which = form(memory, chief.order.index(axis))
    y = Tensor(node.outputs[0], *hwc)
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
    reader.give(node, y, shape, chief.order)


def slice_(reader: Reader, node: Node) -> None:
    """Slice with constant bounds and positive steps."""
    value = reader.value(node, 0)
    rank = len(value.shape)
    if node.opset < 10:
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        axes, steps = node.attributes.get("axes", range(len(starts))), [1] * len(starts)
    else:
        starts, ends = (reader.constant(node, i).tolist() for i in (1, 2))
        axes = reader.constant(node, 3).tolist() if node.given(3) else range(len(starts))
        steps = reader.constant(node, 4).tolist() if node.given(4) else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis %= rank
        chosen = range(*slice(start, end, step).indices(value.shape[axis]))
        if len(chosen) == 0:
            raise node.fail("an empty slice")
        if chosen == range(value.shape[axis]):
            continue
        pieces = [(chosen[0], 0, len(chosen), step)] if step > 0 else [(i, n, 1, 1) for n, i in enumerate(chosen)]
        value = along(reader, node, value, axis, pieces, len(chosen))
    reader.view(node, value)


def split(reader: Reader, node: Node) -> None:
    """Split into equal parts or by constant sizes."""
    value = reader.value(node, 0)
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
    value = reader.value(node, 0)
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
    value = reader.value(node, 0)
    rank = len(value.shape)
    mode = node.attributes.get("mode", "constant")
    pads = list(node.attributes.get("pads") or reader.constant(node, 1).tolist())
    axes = reader.constant(node, 3).tolist() if node.given(3) else list(range(rank))
    fill = node.attributes.get("value", 0.0)
    if node.given(2):
        fill = float(reader.constant(node, 2).item())
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis % rank], after[axis % rank] = int(pads[i]), int(pads[i + len(axes)])
    if min(before + after) < 0:
        raise node.fail("negative pads")
    if mode == "constant" and all(before[a] + after[a] == 0 for a in value.order[:-3]):
        value = _padded(reader, node, value, before, after, fill)
    else:
        for axis in range(rank):
            if before[axis] + after[axis]:
                n = value.shape[axis]
                index = np.pad(np.arange(n), (before[axis], after[axis]), mode="edge" if mode == "constant" else mode)
                if mode == "constant" and fill != 0.0:
                    raise node.fail(f"padding of {rank} axes by {fill}")
                pieces = [(int(i), t, 1, 1) for t, i in enumerate(index) if not before[axis] <= t < before[axis] + n]
                pieces = [] if mode == "constant" else pieces
                size = n + before[axis] + after[axis]
                value = along(reader, node, value, axis, [(0, before[axis], n, 1), *pieces], size)
    reader.view(node, value)


def _padded(reader: Reader, node: Node, value: Value, before: list[int], after: list[int], fill: float) -> Value:
    """Pad the three innermost axes at once, so that a convolution may take the border over."""
    inner = [None] * (3 - min(3, len(value.order))) + list(value.order[-3:])
    lead = math.prod(value.memory[:-3])
    if lead != 1 and inner[0] is not None and before[inner[0]] + after[inner[0]]:
        raise node.fail("padding of an axis behind a batch")
    x = reader.layouts.shaped(value.tensor, *fold(value.memory))
    start = [0 if a is None else before[a] for a in inner]
    extra = [0 if a is None else before[a] + after[a] for a in inner]
    y = Tensor(node.outputs[0], x.h + extra[0], x.w + extra[1], x.c + extra[2])
    box = Box((0, 0, 0), _three(start), (x.h, x.w, x.c))
    reader.add(Move(label=node.name, y=y, parts=[(x, box)], fill=float(fill)))
    shape = tuple(n + before[a] + after[a] for a, n in enumerate(value.shape))
    return Value(y, shape, value.order)


def reshape(reader: Reader, node: Node) -> None:
    """Reshape to a constant shape."""
    value = reader.value(node, 0)
    want = [int(n) for n in reader.constant(node, 1).tolist()] if node.given(1) else list(node.attributes["shape"])
    if not node.attributes.get("allowzero", 0):
        want = [value.shape[i] if n == 0 else n for i, n in enumerate(want)]
    if -1 in want:
        want[want.index(-1)] = math.prod(value.shape) // max(1, -math.prod(want))
    if math.prod(want) != math.prod(value.shape):
        raise node.fail(f"{value.shape} as {want}")
    reader.view(node, reader.layouts.reshaped(value, tuple(want)))


def flatten(reader: Reader, node: Node) -> None:
    """Flatten."""
    value = reader.value(node, 0)
    axis = node.attributes.get("axis", 1)
    axis = axis + len(value.shape) if axis < 0 else axis
    shape = (math.prod(value.shape[:axis]), math.prod(value.shape[axis:]))
    reader.view(node, reader.layouts.reshaped(value, shape))


def squeeze(reader: Reader, node: Node) -> None:
    """Squeeze."""
    value = reader.value(node, 0)
    axes = node.attributes.get("axes") or (reader.constant(node, 1).tolist() if node.given(1) else None)
    rank = len(value.shape)
    gone = {a % rank for a in axes} if axes is not None else {a for a, n in enumerate(value.shape) if n == 1}
    reader.view(node, reader.layouts.reshaped(value, tuple(n for a, n in enumerate(value.shape) if a not in gone)))


def unsqueeze(reader: Reader, node: Node) -> None:
    """Unsqueeze."""
    value = reader.value(node, 0)
    axes = node.attributes.get("axes") or reader.constant(node, 1).tolist()
    rank = len(value.shape) + len(axes)
    new = {a % rank for a in axes}
    sizes = iter(value.shape)
    reader.view(node, reader.layouts.reshaped(value, tuple(1 if a in new else next(sizes) for a in range(rank))))


def transpose(reader: Reader, node: Node) -> None:
    """Transpose: only the view changes."""
    value = reader.value(node, 0)
    perm = node.attributes.get("perm") or list(reversed(range(len(value.shape))))
    shape = tuple(value.shape[a] for a in perm)
    reader.view(node, Value(value.tensor, shape, tuple(perm.index(a) for a in value.order)))


def expand(reader: Reader, node: Node) -> None:
    """Expand to a constant shape."""
    value = reader.value(node, 0)
    want = np.zeros([int(n) for n in reader.constant(node, 1).tolist()], np.int8)
    shape, order, hwc, operands = align(reader, node, [value, want])
    assert isinstance(operands[0], Tensor)
    y = reader.add(Map(label=node.name, x=operands[0], y=Tensor(node.outputs[0], *hwc)))
    reader.give(node, y, shape, order)


def depth_to_space(reader: Reader, node: Node) -> None:
    """DepthToSpace: a reshape, a transpose and a reshape."""
    value = reader.value(node, 0)
    n, c, h, w = value.shape
    b = node.attributes["blocksize"]
    crd = node.attributes.get("mode", "DCR") == "CRD"
    split_shape = (n, c // b // b, b, b, h, w) if crd else (n, b, b, c // b // b, h, w)
    perm = (0, 1, 4, 2, 5, 3) if crd else (0, 3, 4, 1, 5, 2)
    value = reader.layouts.reshaped(value, split_shape)
    shape = tuple(value.shape[a] for a in perm)
    value = Value(value.tensor, shape, tuple(perm.index(a) for a in value.order))
    reader.view(node, reader.layouts.reshaped(value, (n, c // b // b, h * b, w * b)))


def same(reader: Reader, node: Node) -> None:
    """Operators that change nothing at inference."""
    if node.op_type == "Cast" and node.attributes.get("to") != 1:
        raise node.fail(f"a cast to type {node.attributes.get('to')}")
    reader.view(node, reader.value(node, 0))


HANDLERS: dict[str, Handler] = {
    "Concat": concat, "Slice": slice_, "Split": split, "Gather": gather, "Pad": pad, "Reshape": reshape,
    "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose, "Expand": expand,
    "DepthToSpace": depth_to_space, "Identity": same, "Dropout": same, "Cast": same,
}  # fmt: skip

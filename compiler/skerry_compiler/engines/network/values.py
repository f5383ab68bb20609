"""Values: ONNX tensors seen through the engine's memory order.

A value has a logical shape (ONNX's axes) and `order`, the logical axes from outermost to innermost in memory.
Transposes only exchange `order`; reshapes are free where what becomes one axis lies together in memory; everything else
becomes a Permute.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from skerry_compiler.engines.network.graph import Op, Permute, Reshape, Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A tensor as ONNX sees it."""

    tensor: Tensor
    shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def kind(self) -> str:
        """The type of its elements."""
        return self.tensor.kind

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements from one index to the next on each logical axis, in memory without a halo."""
        out, step = [0] * len(self.shape), 1
        for axis in reversed(self.order):
            out[axis] = step
            step *= self.shape[axis]
        return tuple(out)

    @property
    def memory(self) -> tuple[int, ...]:
        """The shape in memory order."""
        return tuple(self.shape[a] for a in self.order)


def identity(rank: int) -> tuple[int, ...]:
    """Return the order of axes as ONNX has them."""
    return tuple(range(rank))


def channels_last(rank: int) -> tuple[int, ...]:
    """Return the order that puts axis 1 innermost."""
    return (0, *range(2, rank), 1) if rank > 2 else identity(rank)


def significant(shape: tuple[int, ...], order: tuple[int, ...]) -> list[int]:
    """Return the axes in memory order without those of size one."""
    return [a for a in order if shape[a] != 1]


def fold(memory: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the usual h, w, c of a shape in memory order: the last axis, the one before it, all others."""
    memory = (1, 1, *memory)
    return math.prod(memory[:-2]), memory[-2], memory[-1]


def strides(tensor: Tensor, dims: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the element strides of a tensor seen as `dims` in memory order, or None where halos cut an axis."""
    if tensor.dense:
        return tuple(math.prod(dims[i + 1 :]) for i in range(len(dims)))
    groups = [[tensor.c, 1], [tensor.w, tensor.c], [tensor.h, tensor.row]]
    out: list[int] = []
    for size in reversed(dims):
        while len(groups) > 1 and groups[0][0] == 1:
            groups.pop(0)
        left, stride = groups[0]
        if size != 1 and left % size:
            return None
        out.append(stride)
        groups[0] = [left // size, stride * size]
    return tuple(reversed(out))


class Layouts:
    """Makes operations that bring values into the order and the h, w, c that a reader needs. Appends to `ops`."""

    def __init__(self, ops: list[Op]) -> None:
        self.ops = ops

    def ordered(self, value: Value, order: tuple[int, ...]) -> Value:
        """Return the value with this memory order."""
        if significant(value.shape, value.order) == significant(value.shape, order):
            return Value(value.tensor, value.shape, order)
        dims = value.memory
        axes = tuple(value.order.index(a) for a in order)
        h, w, c = fold(tuple(dims[a] for a in axes))
        y = Tensor(value.tensor.name, h, w, c, kind=value.kind)
        self.ops.append(Permute(label="Permute", x=value.tensor, y=y, dims=dims, axes=axes))
        return Value(y, value.shape, order)

    def shaped(self, tensor: Tensor, h: int, w: int, c: int) -> Tensor:
        """Return the same elements as h x w x c."""
        if (tensor.h, tensor.w, tensor.c) == (h, w, c):
            return tensor
        y = Tensor(tensor.name, h, w, c, kind=tensor.kind)
        self.ops.append(Reshape(label="Reshape", x=tensor, y=y))
        return y

    def tensor(self, value: Value, order: tuple[int, ...], hwc: tuple[int, int, int]) -> Tensor:
        """Return the tensor of a value in this order and form."""
        return self.shaped(self.ordered(value, order).tensor, *hwc)

    def reshaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        """Return the value under another logical shape with the same elements in ONNX's order."""
        parts = common(value.shape, shape)
        if parts is None:
            value = self.ordered(value, identity(len(value.shape)))
            return Value(value.tensor, shape, identity(len(shape)))
        sizes, before, after = parts
        memory = [i for a in value.order for i in before[a]]
        owner = {i: axis for axis, group in enumerate(after) for i in group}
        axes = list(dict.fromkeys(owner[i] for i in memory))  # what becomes one axis must lie together, in order
        wanted = tuple(i for axis in axes for i in after[axis])
        finer = self.ordered(Value(value.tensor, tuple(sizes), tuple(memory)), wanted)
        return Value(finer.tensor, shape, (*(i for i, group in enumerate(after) if not group), *axes))


Cut = tuple[list[int], list[list[int]], list[list[int]]]


def common(a: Sequence[int], b: Sequence[int]) -> Cut | None:
    """Return sizes into which two shapes of the same elements both divide, and which of them each axis has; None where
    the shapes cut each other.

    >>> common((6, 4), (2, 12))
    ([2, 3, 4], [[0, 1], [2]], [[0], [1, 2]])
    >>> common((6, 4), (8, 3)) is None
    True
    """
    sizes: list[int] = []
    owners: tuple[list[list[int]], list[list[int]]] = ([], [])
    left = [list(a), list(b)]
    rest = [1, 1]
    while True:
        for side in (0, 1):
            while rest[side] == 1 and left[side]:
                rest[side] = left[side].pop(0)
                owners[side].append([])
        if rest == [1, 1]:
            return sizes, *owners
        if rest[0] % rest[1] and rest[1] % rest[0]:
            return None
        size = min(rest)
        for side in (0, 1):
            owners[side][-1].append(len(sizes))
            rest[side] //= size
        sizes.append(size)

"""The operation that stands for everything rare: a nest of loops over typed elements, with an expression inside.

Broadcasting, integers, comparisons, gathering by indices that are known only at run time, and folds (sums, extremes
with their place) are all the same nest: each operand says how far an element of it lies from the next on every loop.
"""

from __future__ import annotations

import dataclasses

from skerry_compiler.engines.network.graph import Op, Unary
from skerry_compiler.engines.network.tensors import ConstantArray, Tensor

Source = Tensor | ConstantArray


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """A place that another operand holds: operand number `by` counts from 0 to `extent` - 1 (negative ones from the
    end), each `stride` elements apart.
    """

    by: int
    extent: int
    stride: int


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """Where an element lies: `start` + the sum of loop index times stride + what the indices add."""

    strides: tuple[int, ...]
    start: int = 0
    indices: tuple[Index, ...] = ()


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Loops(Op):
    """For each index of `dims`: y[target] = text, where {0}, {1} ... are the elements of `operands`, {y} the old one.

    The last `folds` loops run inside one element of y: `start` declares what they keep, `each` is done for every index
    ({r} counts them), `text` is what comes out. `base` is what y holds before: operand number, or None for nothing.
    """

    dims: tuple[int, ...]
    operands: list[Source]
    access: list[Access]
    target: Access
    text: str
    folds: int = 0
    start: str = ""
    each: str = ""
    base: int | None = None

    @property
    def sources(self) -> list[Tensor]:
        """See Op."""
        return [x for x in self.operands if isinstance(x, Tensor)]

    @property
    def dense(self) -> bool:
        """See Op."""
        return True

    def replace(self, old: Tensor, new: Tensor) -> None:
        """See Op."""
        self.operands = [new if x is old else x for x in self.operands]


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Along(Unary):
    """An operation along the middle axis of x seen as `dims` (before, along, after)."""

    dims: tuple[int, int, int]

    @property
    def dense(self) -> bool:
        """See Op."""
        return True


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Cumulate(Along):
    """Running sums or products: `exclusive` leaves the element itself out, `reverse` starts at the end."""

    exclusive: bool
    reverse: bool
    product: bool = False


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Select(Along):
    """The first `count` elements by size, or where they lie (`places`: y is int64); equal ones in their old order."""

    count: int
    largest: bool
    places: bool


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Mix(Along):
    """Each of y's elements is a weighted sum of some of x's: places i32[out, taps], shares f32[out, taps]."""

    places: ConstantArray
    shares: ConstantArray

"""The engine's own form of a network: a list of operations over tensors whose memory order is decided.

Every tensor is height x width x channels, channels innermost, with a border ("halo") as wide as its widest reader
needs, so that no kernel ever tests for a border. Batch is one; other axes are folded into these three by the reader
(see values.py).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.curve import Curve
from skerry_compiler.engines.network.tensors import ALIGNMENT_BYTES as ALIGNMENT_BYTES
from skerry_compiler.engines.network.tensors import SLACK_BYTES as SLACK_BYTES
from skerry_compiler.engines.network.tensors import Array as Array
from skerry_compiler.engines.network.tensors import ConstantArray as ConstantArray
from skerry_compiler.engines.network.tensors import Operand as Operand
from skerry_compiler.engines.network.tensors import Quant as Quant
from skerry_compiler.engines.network.tensors import Tensor as Tensor


@dataclasses.dataclass(eq=False, slots=True)
class Step:
    """`value = name(value, operand, *values)`. An operand's h, w and c are each that of the output or 1. A "curve"
    stands for several steps (see curves.py).
    """

    name: str
    operand: Operand | None = None
    values: tuple[float, ...] = ()
    curve: Curve | None = None


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Op:
    """One operation that writes `y`, after `steps` on each value. `int8`: it reads and computes on bytes. `way`: the
    order of rows ("forwards" or "backwards") where y lies over what it reads (overlap.py).
    """

    label: str
    y: Tensor
    steps: list[Step] = dataclasses.field(default_factory=list)
    int8: bool = False
    way: str = ""

    @property
    def sources(self) -> list[Tensor]:
        """The tensors that the operation itself reads, without those of its steps."""
        return []

    @property
    def dense(self) -> bool:
        """Whether it reads and writes only tensors without a halo."""
        return False

    @property
    def reads(self) -> list[Tensor]:
        """All tensors it reads."""
        return self.sources + [s.operand for s in self.steps if isinstance(s.operand, Tensor)]

    def replace(self, old: Tensor, new: Tensor) -> None:
        """Read `new` wherever it reads `old`."""
        for field in dataclasses.fields(self):
            if field.name != "y" and getattr(self, field.name) is old:
                setattr(self, field.name, new)
        for step in self.steps:
            if step.operand is old:
                step.operand = new


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Unary(Op):
    """An operation with one source."""

    x: Tensor

    @property
    def sources(self) -> list[Tensor]:
        """See Op."""
        return [self.x]


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Input(Op):
    """Takes input number `index`. `dims`, `strides`: of the caller's elements, of type `given`, in the order of y."""

    index: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    given: str = "float32"


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Constant(Op):
    """Writes values known now: data [h, w, c] of the type of y."""

    data: ConstantArray


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Output(Unary):
    """Gives x to the caller as output number `index`, as elements of type `taken`; y is not used."""

    index: int
    taken: str = "float32"


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Conv(Unary):
    """Convolution: weight f32[kh, kw, ci / groups, co], bias f32[co]; also dense layers (kh = kw = 1). `scale`
    f64[co]: of the weight's bytes, where they are given.
    """

    weight: Array
    bias: Array
    scale: NDArray[np.float64] | None = None
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Depthwise(Conv):
    """Convolution of each channel by itself: weight f32[kh, kw, 1, c]."""


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Pool(Unary):
    """Maximum or mean over windows; `counted`: the mean counts the border as zeros."""

    mean: bool
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]
    counted: bool = False


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Reduce(Unary):
    """Reduction over pixels (axis "hw") or channels (axis "c"): mean, sum, max or min."""

    how: str
    axis: str


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Map(Unary):
    """Only the steps."""


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Softmax(Unary):
    """Over channels; `log`: the logarithm of it."""

    log: bool = False


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Normalise(Unary):
    """(x - mean) / sqrt(variance + epsilon) over the channels of each pixel."""

    epsilon: float


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Resize(Unary):
    """Each output row and column is a mix of two: index of the first, of the second, and the second's share."""

    rows: tuple[tuple[int, int, float], ...]
    columns: tuple[tuple[int, int, float], ...]


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Reshape(Unary):
    """The same elements in the same order under another h, w, c: free unless one side has a halo."""


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Permute(Unary):
    """Axes of the memory order of x exchanged: x seen as `dims`, y has axis i = axis `axes[i]` of x."""

    dims: tuple[int, ...]
    axes: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """A part of a tensor: first row, column and channel, and how many of each; steps between source elements."""

    source: tuple[int, int, int]
    target: tuple[int, int, int]
    size: tuple[int, int, int]
    step: tuple[int, int, int] = (1, 1, 1)


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Move(Op):
    """Copies boxes of tensors into y (concatenation, slices, padding); `fill` goes first where given."""

    parts: list[tuple[Tensor, Box]]
    fill: float | None = None

    @property
    def sources(self) -> list[Tensor]:
        """See Op."""
        return [x for x, _ in self.parts]

    def replace(self, old: Tensor, new: Tensor) -> None:
        """See Op."""
        self.parts = [(new if x is old else x, box) for x, box in self.parts]


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Matmul(Op):
    """Products of two activations, one for each index of `batch`: y[m, n] = sum over k of a[m, k] b[k, n].

    Strides are in elements: of (batch axes..., m, k) in a, (batch axes..., k, n) in b, (batch axes..., m, n) in y.
    """

    a: Tensor
    b: Tensor
    batch: tuple[int, ...]
    size: tuple[int, int, int]
    a_strides: tuple[int, ...]
    b_strides: tuple[int, ...]
    y_strides: tuple[int, ...]

    @property
    def sources(self) -> list[Tensor]:
        """See Op."""
        return [self.a, self.b]


@dataclasses.dataclass(slots=True)
class Network:
    """A whole network: operations in running order; names and shapes of what the caller gives and takes."""

    ops: list[Op]
    inputs: list[tuple[str, tuple[int, ...]]]
    outputs: list[tuple[str, tuple[int, ...]]]

    def readers(self, tensor: Tensor) -> list[Op]:
        """Return the operations that read a tensor."""
        return [op for op in self.ops if any(t is tensor for t in op.reads)]

    def writer(self, tensor: Tensor) -> Op | None:
        """Return the operation that writes a tensor."""
        return next((op for op in self.ops if op.y is tensor), None)

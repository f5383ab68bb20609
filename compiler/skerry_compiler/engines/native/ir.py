"""The native engine's own small language: typed operations on tensors of fixed shape, one output each.

Rows: the last axis of a tensor is a row, everything before it counts rows (`Value.rows`, `Value.width`).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from skerry_contracts.tensor import ITEM_BYTES, DType

C_TYPES: dict[DType, str] = {
    DType.BOOL: "uint8_t",
    DType.UINT8: "uint8_t",
    DType.INT8: "int8_t",
    DType.INT16: "int16_t",
    DType.INT32: "int32_t",
    DType.INT64: "int64_t",
    DType.FP32: "float",
    DType.FP64: "double",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A tensor: name, element type, fixed shape."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many elements it holds."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Extent of the last axis; 1 for a scalar."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """How many rows of that width."""
        return self.elements // self.width

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements."""
        return self.elements * ITEM_BYTES[self.dtype]

    @property
    def c_type(self) -> str:
        """The element type in C."""
        return C_TYPES[self.dtype]


@dataclasses.dataclass(eq=False, slots=True)
class Op:
    """One operation. Subclasses add what they need to know."""

    inputs: tuple[Value, ...]
    output: Value


@dataclasses.dataclass(eq=False, slots=True)
class Dense(Op):
    """y[row, n] = activation(sum over k of x[row, k] * weight[k, n] + bias[n]); activation is "" or "relu"."""

    weight: np.ndarray
    bias: np.ndarray
    activation: str = ""


@dataclasses.dataclass(eq=False, slots=True)
class Affine(Op):
    """y[row, n] = (x[row, n] - shift[n]) * scale[n]."""

    shift: np.ndarray
    scale: np.ndarray


@dataclasses.dataclass(eq=False, slots=True)
class Map(Op):
    """y = kind(x) for every element; `alpha` and `beta` are the kind's parameters; "cast" converts to the output's
    type.
    """

    kind: str
    alpha: float = 0.0
    beta: float = 0.0


@dataclasses.dataclass(eq=False, slots=True)
class Combine(Op):
    """y = a kind b for every element; b has a's shape, or one element, or one row that is used for each."""

    kind: str


@dataclasses.dataclass(eq=False, slots=True)
class Constant(Op):
    """A tensor known at compile time."""

    content: np.ndarray


@dataclasses.dataclass(eq=False, slots=True)
class View(Op):
    """The same bytes under another shape."""


@dataclasses.dataclass(eq=False, slots=True)
class Softmax(Op):
    """Softmax of each row."""


@dataclasses.dataclass(eq=False, slots=True)
class Normalise(Op):
    """Each row divided by its norm: l1, l2 or max; a row whose norm is 0 stays."""

    kind: str


@dataclasses.dataclass(eq=False, slots=True)
class Reduce(Op):
    """One number a row: sum, mean, max or min."""

    kind: str


@dataclasses.dataclass(eq=False, slots=True)
class ArgMax(Op):
    """Index of the first greatest element of each row."""


@dataclasses.dataclass(eq=False, slots=True)
class First(Op):
    """Places of the `count` least elements of each row, or greatest, in their order; of equal ones the first."""

    count: int
    greatest: bool = False


@dataclasses.dataclass(eq=False, slots=True)
class Pick(Op):
    """y[row, n] = x[row, places[row, n]]; inputs are (x, places)."""


@dataclasses.dataclass(eq=False, slots=True)
class Above(Op):
    """1 where x > limit, else 0."""

    limit: float


@dataclasses.dataclass(eq=False, slots=True)
class Lookup(Op):
    """y = table[x] for every element; an index outside is clamped."""

    table: np.ndarray


@dataclasses.dataclass(eq=False, slots=True)
class TakeRows(Op):
    """y[i, :] = table[x[i], :] for every element of x; an index outside is clamped."""

    table: np.ndarray


@dataclasses.dataclass(eq=False, slots=True)
class TakeColumns(Op):
    """y[row, n] = x[row, places[n]]."""

    places: tuple[int, ...]


@dataclasses.dataclass(eq=False, slots=True)
class Select(Op):
    """y = condition ? a : b for every element; inputs are (condition, a, b), each spread as in Combine."""


@dataclasses.dataclass(eq=False, slots=True)
class Kernel(Op):
    """y[row, s] = kind(x[row], support[s]): "rbf" exp(-gamma |x - s|^2), "linear" x.s, "distance" |x - s|^2,
    "absolute" the sum of |x - s|, "greatest" the greatest |x - s|, "poly" (gamma x.s + coef)^degree, "sigmoid"
    tanh(gamma x.s + coef).
    """

    support: np.ndarray
    kind: str
    gamma: float = 1.0
    coef: float = 0.0
    degree: int = 1


@dataclasses.dataclass(eq=False, slots=True)
class Votes(Op):
    """The class that wins most of the pairs (0, 1), (0, 2), ..., (1, 2), ...; a score above 0 is for the first."""

    classes: int


@dataclasses.dataclass(eq=False, slots=True)
class Couple(Op):
    """Probabilities of classes from the scores of all pairs, as `Votes` orders them: each score to a probability by
    sigmoid(-(a s + b)), then those that fit all pairs best (Wu, Lin and Weng 2004, algorithm 2).
    """

    a: np.ndarray
    b: np.ndarray


@dataclasses.dataclass(eq=False, slots=True)
class TwoClasses(Op):
    """One score s a row to two classes: "complement" 1-s, s; "negated" -s, s; "logistic" sigmoid(-s), sigmoid(s)."""

    kind: str


@dataclasses.dataclass(eq=False, slots=True)
class Concat(Op):
    """Inputs side by side along the last axis; all have as many rows."""


@dataclasses.dataclass(eq=False, slots=True)
class Tree:
    """One decision tree as arrays over its nodes; node 0 is the root.

    A split goes to `yes` where x[feature] <= threshold, or where x is no number and `missing` is set, else to `no`. A
    leaf has feature -1 and names its row of values.
    """

    feature: np.ndarray
    threshold: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    missing: np.ndarray
    row: np.ndarray

    @property
    def depth(self) -> int:
        """Splits on the longest way to a leaf."""
        deepest, waiting = 0, [(0, 0)]
        while waiting:
            node, depth = waiting.pop()
            if self.feature[node] < 0:
                deepest = max(deepest, depth)
            else:
                waiting += [(int(self.yes[node]), depth + 1), (int(self.no[node]), depth + 1)]
        return deepest


@dataclasses.dataclass(eq=False, slots=True)
class Forest(Op):
    """y[row, c] = base[c] + sum over trees of values[leaf of the tree, c], added in the trees' order.

    `target` is None where a leaf holds values for all columns; else column target[t] alone gets tree t's values[leaf,
    0].
    """

    trees: tuple[Tree, ...]
    values: np.ndarray
    base: np.ndarray
    target: tuple[int, ...] | None
    divide_by: float = 1.0


@dataclasses.dataclass(eq=False, slots=True)
class Graph:
    """A whole model. Inputs and outputs are in the signature's order."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    ops: list[Op]

    def uses(self) -> dict[str, int]:
        """Return how often each value is read, by operations or as an output."""
        count: dict[str, int] = {}
        for value in [*(each for op in self.ops for each in op.inputs), *self.outputs]:
            count[value.name] = count.get(value.name, 0) + 1
        return count

"""Reading elementwise operators: arithmetic with broadcasting, and activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.graph import Map, Operand, Step, Tensor
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_typed import Side, elementwise, side
from skerry_compiler.engines.network.read_typed import clip as clip_any
from skerry_compiler.engines.network.read_typed import power as power_any
from skerry_compiler.engines.network.values import Value, identity

# What the steps of a binary operator are as expressions, for broadcasting that steps cannot do.
STEP_TEXTS = {
    "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})", "div": "({0} / {1})",
    "min": "({0} < {1} ? {0} : {1})", "max": "({0} > {1} ? {0} : {1})", "prelu": "({0} < 0.f ? {0} * {1} : {0})",
}  # fmt: skip


def padded(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    """Return a shape with ones in front."""
    return (1,) * (rank - len(shape)) + tuple(shape)


def groups(memory: tuple[int, ...], masks: list[tuple[bool, ...]]) -> tuple[int, int, int] | None:
    """Return h, w, c such that every side spans each of them wholly or not at all; None where three do not suffice.

    `memory` is the shape in memory order; each mask says which of its axes a side spans.
    """
    runs: list[list[Any]] = []
    for i, n in enumerate(memory):
        if n == 1:
            continue
        flags = tuple(m[i] for m in masks)
        if runs and runs[-1][0] == flags:
            runs[-1][1] *= n
        else:
            runs.append([flags, n])
    sizes = [1, 1, 1, *(r[1] for r in runs)]
    return (sizes[-3], sizes[-2], sizes[-1]) if len(runs) <= 3 else None


def fits(hwc: tuple[int, int, int], memory: tuple[int, ...], mask: tuple[bool, ...]) -> bool:
    """Whether a side that spans the masked axes spans each of h, w and c wholly or not at all."""
    rest, axes = list(hwc), [(n, m) for n, m in zip(memory, mask, strict=True) if n != 1]
    while rest:
        want, flags = rest.pop(), set()
        while want > 1:
            if not axes or want % axes[-1][0]:
                return False
            n, flag = axes.pop()
            want //= n
            flags.add(flag)
        if len(flags) > 1:
            return False
    return not axes


def align(
    reader: Reader, sides: list[Side]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, int, int], list[Operand]] | None:
    """Bring the sides of an elementwise operator together: (shape, order, (h, w, c), the sides as operands).

    None where they do not fit three axes.
    """
    shape = tuple(np.broadcast_shapes(*(s.shape for s in sides)))
    rank = len(shape)
    values = [reader.layouts.reshaped(s, padded(s.shape, rank)) if isinstance(s, Value) else s for s in sides]
    chief = max(
        (v for v in values if isinstance(v, Value)), key=lambda v: (math.prod(v.shape), v.order != identity(rank))
    )
    order = chief.order
    memory = tuple(shape[a] for a in order)
    masks = [tuple(padded(v.shape, rank)[a] == shape[a] for a in order) for v in values]
    hwc = (chief.tensor.h, chief.tensor.w, chief.tensor.c)
    if math.prod(hwc) != math.prod(shape) or not all(fits(hwc, memory, m) for m in masks):
        found = groups(memory, masks)
        if found is None:  # constants may be spread out in advance
            values = [v if isinstance(v, Value) else np.broadcast_to(v, shape) for v in values]
            masks = [tuple(padded(v.shape, rank)[a] == shape[a] for a in order) for v in values]
            found = groups(memory, masks)
        if found is None:
            return None
        hwc = found
    operands: list[Operand] = []
    for value, mask in zip(values, masks, strict=True):
        if isinstance(value, Value):
            size = _spanned(hwc, memory, mask)
            operands.append(reader.layouts.tensor(value, order, size))
        else:
            array = value.reshape(padded(value.shape, rank)).transpose(order).astype(np.float32)
            operands.append(np.ascontiguousarray(array.reshape(_spanned(hwc, memory, mask))))
    return shape, order, hwc, operands


def _spanned(hwc: tuple[int, int, int], memory: tuple[int, ...], mask: tuple[bool, ...]) -> tuple[int, int, int]:
    """Return how much of h, w and c a side spans: each wholly or one."""
    axes = [(n, m) for n, m in zip(memory, mask, strict=True) if n != 1]
    out = []
    for size in reversed(hwc):
        want, spans = size, True
        while want > 1:
            n, flag = axes.pop()
            want //= n
            spans = spans and flag
        out.append(size if spans else 1)
    return out[2], out[1], out[0]


def binary(reader: Reader, node: Node, name: str, swapped: str, left: Side, right: Side) -> Value:
    """Append `left name right`; `swapped` is the step for a constant or smaller left side."""
    aligned = align(reader, [left, right])
    if aligned is None:
        return elementwise(reader, node, [left, right], STEP_TEXTS[name], "float32")
    shape, order, (h, w, c), (first, second) = aligned
    step, other, start = name, second, first
    if not isinstance(start, Tensor) or (isinstance(other, Tensor) and other.elements > start.elements):
        step, other, start = swapped, first, second
    assert isinstance(start, Tensor)
    y = Tensor(node.outputs[0], h, w, c)
    reader.add(Map(label=node.name, x=start, y=y, steps=[Step(step, other)]))
    return Value(y, shape, order)


def arithmetic(name: str, swapped: str) -> Handler:
    """Return the handler of a binary or variadic operator."""

    def handle(reader: Reader, node: Node) -> None:
        sides = [side(reader, node, i) for i in range(len(node.inputs))]
        total = sides[0]
        for other in sides[1:]:
            if not isinstance(total, Value) and not isinstance(other, Value):
                total = {"add": np.add, "max": np.maximum, "min": np.minimum, "mul": np.multiply}[name](total, other)
            else:
                total = binary(reader, node, name, swapped, total, other)
        if node.op_type == "Mean":
            assert isinstance(total, Value)
            total = mapped(reader, node, total, [Step("mul", np.full((1, 1, 1), 1 / len(sides), np.float32))])
        assert isinstance(total, Value)
        reader.view(node, total)

    return handle


def mapped(reader: Reader, node: Node, value: Value, steps: list[Step], suffix: str = "") -> Value:
    """Append steps on a value; a `suffix` marks what is not the node's output itself."""
    t = value.tensor
    y = reader.add(Map(label=node.name, x=t, y=Tensor(node.outputs[0] + suffix, t.h, t.w, t.c), steps=steps))
    return Value(y, value.shape, value.order)


def scalar(value: float) -> NDArray[np.float32]:
    """Return a constant operand for every element."""
    return np.full((1, 1, 1), value, np.float32)


def unary(make: Callable[[Node], list[Step]]) -> Handler:
    """Return the handler of an operator that is only steps."""

    def handle(reader: Reader, node: Node) -> None:
        reader.view(node, mapped(reader, node, reader.value(node, 0), make(node)))

    return handle


def simple(name: str) -> Handler:
    """Return the handler of an operator that is one step without parameters."""
    return unary(lambda node: [Step(name)])


def clip(reader: Reader, node: Node) -> None:
    """Clip, with bounds as attributes, constants or values."""
    if any(node.given(i) and node.inputs[i] in reader.values for i in (1, 2)):
        clip_any(reader, node)
        return
    low, high = node.attributes.get("min", -math.inf), node.attributes.get("max", math.inf)
    low = float(reader.constant(node, 1).item()) if node.given(1) else low
    high = float(reader.constant(node, 2).item()) if node.given(2) else high
    low, high = max(low, -3.4e38), min(high, 3.4e38)
    reader.view(node, mapped(reader, node, reader.value(node, 0), [Step("clip", values=(float(low), float(high)))]))


def power(reader: Reader, node: Node) -> None:
    """Pow; by a constant 2, 0.5, 1, -1 or 3 without a function."""
    names = {2.0: "square", 0.5: "sqrt", 3.0: "cube", -1.0: "reciprocal", 1.0: "identity"}
    exponent = side(reader, node, 1)
    value = float(exponent.ravel()[0]) if not isinstance(exponent, Value) and exponent.size == 1 else 0.0
    if value not in names or reader.kind(node, 0) != "float32":
        power_any(reader, node)
        return
    reader.view(node, mapped(reader, node, reader.value(node, 0), [Step(names[value])]))


def gelu(node: Node) -> list[Step]:
    """Gelu, exact or by tanh."""
    return [Step("gelu_tanh" if node.attributes.get("approximate", "none") == "tanh" else "gelu")]


def hard_sigmoid(node: Node) -> list[Step]:
    """HardSigmoid."""
    return [Step("hardsigmoid", values=(node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)))]


HANDLERS: dict[str, Handler] = {
    "Add": arithmetic("add", "add"),
    "Sum": arithmetic("add", "add"),
    "Mean": arithmetic("add", "add"),
    "Sub": arithmetic("sub", "rsub"),
    "Mul": arithmetic("mul", "mul"),
    "Div": arithmetic("div", "rdiv"),
    "Min": arithmetic("min", "min"),
    "Max": arithmetic("max", "max"),
    "PRelu": arithmetic("prelu", "slope_of"),
    "Relu": simple("relu"),
    "LeakyRelu": unary(lambda n: [Step("prelu", scalar(n.attributes.get("alpha", 0.01)))]),
    "Clip": clip,
    "Sigmoid": simple("sigmoid"),
    "Tanh": simple("tanh"),
    "HardSigmoid": unary(hard_sigmoid),
    "HardSwish": simple("hardswish"),
    "Gelu": unary(gelu),
    "Mish": simple("mish"),
    "Erf": simple("erf"),
    "Exp": simple("exp"),
    "Log": simple("log"),
    "Sqrt": simple("sqrt"),
    "Reciprocal": simple("reciprocal"),
    "Neg": simple("neg"),
    "Abs": simple("abs"),
    "Softplus": simple("softplus"),
    "Softsign": simple("softsign"),
    "Elu": unary(lambda n: [Step("elu", values=(n.attributes.get("alpha", 1.0),))]),
    "Pow": power,
}

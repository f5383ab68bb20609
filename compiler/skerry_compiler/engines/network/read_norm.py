"""Reading normalisations: of instances, groups, layers, along an axis, and across neighbouring channels."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from skerry_compiler.engines.network.graph import Conv, Normalise, Reduce, Step, Tensor
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_index import arg_extreme
from skerry_compiler.engines.network.read_linear import batch_norm as batch_norm_constant
from skerry_compiler.engines.network.read_map import binary, mapped, scalar
from skerry_compiler.engines.network.read_pool import reduced
from skerry_compiler.engines.network.read_typed import elementwise, side
from skerry_compiler.engines.network.read_window import powers, roots
from skerry_compiler.engines.network.values import Value, identity


def batch_norm(reader: Reader, node: Node) -> None:
    """BatchNormalization at inference, by constants or by values."""
    if node.attributes.get("training_mode", 0) or any(node.outputs[1:]):
        raise node.fail("training")
    if all(name in reader.constants for name in node.inputs[1:5]):
        batch_norm_constant(reader, node)
        return
    raise node.fail("scale, bias, mean and variance must be constants")


def normalised(reader: Reader, node: Node, value: Value, rows: int, epsilon: float) -> Value:
    """Return a value normalised over all but the first `rows` equal parts, in ONNX's order."""
    count = math.prod(value.shape) // rows
    x = reader.layouts.tensor(value, identity(len(value.shape)), (1, rows, count))
    y = Tensor(f"{node.outputs[0]}/normalised", 1, rows, count)
    reader.add(Normalise(label=node.name, x=x, y=y, epsilon=epsilon))
    return Value(y, value.shape, identity(len(value.shape)))


def _scaled(reader: Reader, node: Node, value: Value, scale: int, bias: int, groups: int = 0) -> None:
    """Append the scale and bias of channels (axis 1), given for each channel or for each group of them."""
    shape = (1, value.shape[1], *(1,) * (len(value.shape) - 2))
    for index, name in ((scale, "mul"), (bias, "add")):
        given = side(reader, node, index)
        if isinstance(given, Value):
            given = reader.layouts.reshaped(given, shape)
        else:
            each = value.shape[1] // given.size if groups else 1
            given = np.repeat(given.ravel(), each).reshape(shape)
        value = binary(reader, node, name, name, value, given)
    reader.view(node, value)


def instance_norm(reader: Reader, node: Node) -> None:
    """InstanceNormalization."""
    value = reader.value(node, 0)
    rows = value.shape[0] * value.shape[1]
    made = normalised(reader, node, value, rows, float(node.attributes.get("epsilon", 1e-5)))
    _scaled(reader, node, made, 1, 2)


def group_norm(reader: Reader, node: Node) -> None:
    """GroupNormalization; scale and bias for each group before opset 21, for each channel since."""
    value, groups = reader.value(node, 0), int(node.attributes["num_groups"])
    if value.shape[1] % groups:
        raise node.fail(f"{groups} groups of {value.shape[1]} channels")
    made = normalised(reader, node, value, value.shape[0] * groups, float(node.attributes.get("epsilon", 1e-5)))
    _scaled(reader, node, made, 1, 2, groups if node.opset < 21 else 0)


def layer_norm(reader: Reader, node: Node) -> None:
    """LayerNormalization over the last axes; scale, bias and the outputs of mean and deviation may be anything."""
    value = reader.value(node, 0)
    rank = len(value.shape)
    axis = int(node.attributes.get("axis", -1)) % rank
    epsilon, rows = float(node.attributes.get("epsilon", 1e-5)), math.prod(value.shape[:axis])
    count = math.prod(value.shape[axis:])
    plain = value.order[axis:] == tuple(range(axis, rank))
    order = value.order if plain else identity(rank)
    x = reader.layouts.tensor(value, order, (1, rows, count))
    steps, rest = [], []
    for index, name in ((1, "mul"), (2, "add")):
        if node.given(index):
            given = side(reader, node, index)
            if not isinstance(given, Value) and given.size == count:
                steps.append(Step(name, given.astype(np.float32).reshape(1, 1, count)))
            else:
                rest.append((name, given))
    y = Tensor(node.outputs[0], 1, rows, count)
    early = [s for s in steps if not (rest and rest[0][0] == "mul")]
    reader.add(Normalise(label=node.name, x=x, y=y, epsilon=epsilon, steps=early))
    made = Value(y, value.shape, order)
    if len(early) < len(steps):  # a bias must wait for a scale that is no constant
        rest += [("add", s.operand.reshape(value.shape[axis:])) for s in steps if isinstance(s.operand, np.ndarray)]
    for name, given in rest:
        made = binary(reader, node, name, name, made, given)
    reader.view(node, made)
    _moments(reader, node, x, value.shape[:axis] + (1,) * (rank - axis), order, epsilon)


def _moments(
    reader: Reader, node: Node, x: Tensor, shape: tuple[int, ...], order: tuple[int, ...], epsilon: float
) -> None:
    """Give the mean and the inverse deviation of rows, where they are asked for."""
    if not any(node.outputs[1:]):
        return
    mean, square = (Tensor(f"{node.outputs[0]}/{name}", 1, x.w, 1) for name in ("mean", "square"))
    reader.add(Reduce(label=node.name, x=x, y=mean, how="mean", axis="c"))
    flat = Value(x, (x.w, x.c), identity(2))
    centred = binary(reader, node, "sub", "rsub", flat, Value(mean, (x.w, 1), identity(2)))
    centred = mapped(reader, node, centred, [Step("square")], "/squares")
    reader.add(Reduce(label=node.name, x=centred.tensor, y=square, how="mean", axis="c"))
    steps = [Step("add", scalar(epsilon)), Step("sqrt"), Step("reciprocal")]
    inverse = mapped(reader, node, Value(square, shape, order), steps, "/inverse")
    for index, tensor in ((1, mean), (2, inverse.tensor)):
        if len(node.outputs) > index and node.outputs[index]:
            reader.give(node, tensor, shape, order, index)


def lp_normalization(reader: Reader, node: Node) -> None:
    """LpNormalization: what has no length stays zero."""
    value = reader.value(node, 0)
    axis = int(node.attributes.get("axis", -1)) % len(value.shape)
    p = float(node.attributes.get("p", 2))
    total = reduced(reader, node, powers(reader, node, value, p), [axis], True, "sum")
    total.tensor.name = f"{node.outputs[0]}/sums"
    length = roots(reader, node, total, p)
    reader.view(node, elementwise(reader, node, [value, length], "({1} > 0.f ? {0} / {1} : 0.f)", "float32"))


def global_lp(reader: Reader, node: Node) -> None:
    """GlobalLpPool."""
    value, p = reader.value(node, 0), float(node.attributes.get("p", 2))
    total = reduced(reader, node, powers(reader, node, value, p), list(range(2, len(value.shape))), True, "sum")
    total.tensor.name = f"{node.outputs[0]}/sums"
    reader.view(node, roots(reader, node, total, p))


def lrn(reader: Reader, node: Node) -> None:
    """LRN: the sum over neighbouring channels is a product with a band of ones."""
    value = reader.value(node, 0)
    size, c, rank = int(node.attributes["size"]), value.shape[1], len(value.shape)
    alpha, beta = float(node.attributes.get("alpha", 1e-4)), float(node.attributes.get("beta", 0.75))
    below, above = (size - 1) // 2, size // 2
    channel = np.arange(c)
    apart = channel[:, None] - channel[None, :]  # source less target
    band = ((apart >= -below) & (apart <= above)).astype(np.float32) * np.float32(alpha / size)
    order = (*(a for a in range(rank) if a != 1), 1)
    value = reader.layouts.ordered(value, order)
    x = reader.layouts.shaped(value.tensor, 1, value.tensor.elements // c, c)
    squares = mapped(reader, node, Value(x, (x.w, c), identity(2)), [Step("square")], "/squares")
    sums = Tensor(f"{node.outputs[0]}/sums", 1, x.w, c)
    bias = np.full(c, node.attributes.get("bias", 1.0), np.float32)
    reader.add(Conv(label=node.name, x=squares.tensor, y=sums, weight=band[None, None], bias=bias))
    steps = [Step("log"), Step("mul", scalar(-beta)), Step("exp")]
    factor = mapped(reader, node, Value(sums, (x.w, c), identity(2)), steps, "/factor")
    made = binary(reader, node, "mul", "mul", Value(x, (x.w, c), identity(2)), factor)
    reader.view(node, Value(made.tensor, value.shape, order))


def mean_variance(reader: Reader, node: Node) -> None:
    """MeanVarianceNormalization over any axes."""
    value = reader.value(node, 0)
    rank = len(value.shape)
    axes = sorted(int(a) % rank for a in node.attributes.get("axes", [0, 2, 3]))
    kept = [a for a in range(rank) if a not in axes]
    order = (*kept, *axes)
    turned = reader.layouts.ordered(value, order)
    rows = math.prod(value.shape[a] for a in kept)
    flat = Value(turned.tensor, tuple(value.shape[a] for a in order), identity(rank))
    made = normalised(reader, node, flat, rows, 1e-9)
    reader.view(node, Value(made.tensor, value.shape, order))


def hardmax(reader: Reader, node: Node) -> None:
    """Hardmax: one at the first largest element."""
    rank = len(reader.shape(node, 0))
    axis = int(node.attributes.get("axis", -1 if node.opset >= 13 else 1)) % rank
    if node.opset < 13 and math.prod(reader.shape(node, 0)[axis + 1 :]) != 1:
        raise node.fail("several axes at once; one is supported")
    place = f"{node.outputs[0]}/place"
    arg_extreme(reader, dataclasses.replace(node, op_type="ArgMax", outputs=(place,), attributes={"axis": axis}))
    value, found = reader.value(node, 0), reader.values[place]
    row = np.arange(value.shape[axis], dtype=np.int64)
    row = row.reshape([-1 if a == axis else 1 for a in range(rank)])
    reader.view(node, elementwise(reader, node, [found, row], "({0} == {1} ? 1.f : 0.f)", "float32"))


HANDLERS: dict[str, Handler] = {
    "BatchNormalization": batch_norm, "InstanceNormalization": instance_norm, "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm, "LpNormalization": lp_normalization, "GlobalLpPool": global_lp, "LRN": lrn,
    "MeanVarianceNormalization": mean_variance, "Hardmax": hardmax,
}  # fmt: skip

"""ONNX to TFLite: element by element, reductions, and what moves numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skerry_compiler.tflite.builder import Record
from skerry_compiler.tflite.write import AS_IS, ROWS, TO_PLANES, TO_ROWS, Node, Writer

Handler = Callable[[Writer, Node], None]

UNARY = {
    "Abs": "ABS",
    "Ceil": "CEIL",
    "Cos": "COS",
    "Elu": "ELU",
    "Exp": "EXP",
    "Floor": "FLOOR",
    "HardSwish": "HARD_SWISH",
    "Log": "LOG",
    "Neg": "NEG",
    "Relu": "RELU",
    "Sigmoid": "LOGISTIC",
    "Sin": "SIN",
    "Sqrt": "SQRT",
    "Tanh": "TANH",
}
BINARY = {"Add": "ADD", "Div": "DIV", "Max": "MAXIMUM", "Min": "MINIMUM", "Mul": "MUL", "Pow": "POW", "Sub": "SUB"}
CLIPS = {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): "RELU_0_TO_1", (0.0, np.inf): "RELU"}
MAX_AXES = 4  # of operands that are broadcast


def _unary(writer: Writer, node: Node) -> None:
    if node.kind == "Elu" and node.attributes.get("alpha", 1.0) != 1.0:
        raise node.fail("alpha is not 1")
    layout = writer.layout(node)
    writer.emit(UNARY[node.kind], [writer.get(writer.moving(node), layout)], [writer.give(node.outputs[0], layout)])


def _leaky(writer: Writer, node: Node) -> None:
    layout = writer.layout(node)
    options = Record().number(0, "f", float(node.attributes.get("alpha", 0.01)))
    source = writer.get(writer.moving(node), layout)
    writer.emit("LEAKY_RELU", [source], [writer.give(node.outputs[0], layout)], options)


def _gelu(writer: Writer, node: Node) -> None:
    tanh = node.kind == "FastGelu" or node.attributes.get("approximate", "none") == "tanh"
    if len(node.inputs) > 1:
        raise node.fail("a bias")
    layout = writer.layout(node)
    source = writer.get(writer.moving(node), layout)
    writer.emit("GELU", [source], [writer.give(node.outputs[0], layout)], Record().number(0, "B", int(tanh)))


def _hard_sigmoid(writer: Writer, node: Node) -> None:
    """alpha x + beta, clipped to 0..1."""
    alpha, beta = (float(node.attributes.get(key, default)) for key, default in (("alpha", 0.2), ("beta", 0.5)))
    layout, y = writer.layout(node), node.outputs[0]
    source = writer.get(writer.moving(node), layout)
    scaled, moved = (writer.between(writer.sizes[source], f"{y} {word}") for word in ("scaled", "moved"))
    writer.emit("MUL", [source, writer.store(np.array(alpha, np.float32), f"{y} alpha")], [scaled])
    writer.emit("ADD", [scaled, writer.store(np.array(beta, np.float32), f"{y} beta")], [moved])
    writer.emit("RELU_0_TO_1", [moved], [writer.give(y, layout)])


def _clip(writer: Writer, node: Node) -> None:
    bounds = []
    for place, (key, default) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        given = writer.constant(node, place).reshape(-1)[0] if node.given(place) else node.attributes.get(key, default)
        bounds.append(float(given))
    layout, kind = writer.layout(node), CLIPS.get((bounds[0], bounds[1]))
    source = writer.get(writer.moving(node), layout)
    if kind is not None:
        writer.emit(kind, [source], [writer.give(node.outputs[0], layout)])
        return
    stages = [(word, bound) for word, bound in zip(("MAXIMUM", "MINIMUM"), bounds, strict=True) if np.isfinite(bound)]
    for index, (word, bound) in enumerate(stages):
        last = index == len(stages) - 1
        name = f"{node.outputs[0]} {word.lower()}"
        target = writer.give(node.outputs[0], layout) if last else writer.between(writer.sizes[source], name)
        writer.emit(word, [source, writer.store(np.array(bound, np.float32), f"{name} bound")], [target])
        source = target
    if not stages:
        raise node.fail("no bounds")


def _binary(writer: Writer, node: Node) -> None:
    if len(node.inputs) != 2:
        raise node.fail(f"{len(node.inputs)} operands")
    if any(len(writer.shapes[each]) > MAX_AXES for each in (*node.inputs, *node.outputs)):
        raise node.fail(f"more than {MAX_AXES} axes")
    layout = writer.layout(node)
    operands = [_operand(writer, each, layout) for each in node.inputs]
    writer.emit(BINARY[node.kind], operands, [writer.give(node.outputs[0], layout)])


def _operand(writer: Writer, name: str, layout: str) -> int:
    """Return an operand that is broadcast: a constant of fewer axes is given all four before it moves to rows."""
    content = writer.constants.get(name)
    if layout == AS_IS or content is None or content.ndim == 4:
        return writer.get(name, layout)
    if content.size == 1:
        return writer.store(content.reshape(()), name)
    full = content.reshape((1,) * (4 - content.ndim) + content.shape)
    return writer.store(full.transpose(TO_ROWS), f"{name} rows")


def _prelu(writer: Writer, node: Node) -> None:
    name, slope = writer.moving(node), writer.constant(node, 1).astype(np.float32)
    layout = writer.layout(node)
    if layout == ROWS:
        full = slope.reshape((1,) * (4 - slope.ndim) + slope.shape)
        slope = full.transpose(TO_ROWS)[0]
    writer.emit(
        "PRELU",
        [writer.get(name, layout), writer.store(slope, f"{name} slope")],
        [writer.give(node.outputs[0], layout)],
    )


def _batch_norm(writer: Writer, node: Node) -> None:
    name = writer.moving(node)
    scale, bias, mean, variance = (writer.constant(node, place).astype(np.float64) for place in range(1, 5))
    factor = scale / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    layout = writer.layout(node)
    shape = (-1,) if layout == ROWS else (-1,) + (1,) * (len(writer.shapes[name]) - 2)
    parts = [each.astype(np.float32).reshape(shape) for each in (factor, bias - mean * factor)]
    source = writer.get(name, layout)
    scaled = writer.between(writer.sizes[source], f"{node.outputs[0]} scaled")
    writer.emit("MUL", [source, writer.store(parts[0], f"{name} factor")], [scaled])
    writer.emit("ADD", [scaled, writer.store(parts[1], f"{name} offset")], [writer.give(node.outputs[0], layout)])


def _softmax(writer: Writer, node: Node) -> None:
    name = writer.moving(node)
    rank = len(writer.shapes[name])
    axis = int(node.attributes.get("axis", -1)) % rank
    layout = ROWS if rank == 4 and axis == 1 else AS_IS
    if layout == AS_IS and axis != rank - 1:
        raise node.fail(f"along axis {axis} of {rank}")
    options = Record().number(0, "f", 1.0)
    writer.emit("SOFTMAX", [writer.get(name, layout)], [writer.give(node.outputs[0], layout)], options)


def _reduce(writer: Writer, node: Node) -> None:
    name = writer.moving(node)
    shape = writer.shapes[name]
    given = writer.constant(node, 1) if node.given(1) else node.attributes.get("axes", range(len(shape)))
    axes = sorted({int(each) % len(shape) for each in given})
    keep = bool(node.attributes.get("keepdims", 1))
    rows = len(shape) == 4 and (name, ROWS) in writer.tensors and (keep or axes == [2, 3])
    places = [TO_ROWS.index(each) for each in axes] if rows else axes
    operands = [writer.get(name, ROWS if rows else AS_IS), writer.store(np.array(places, np.int32), f"{name} axes")]
    kind = {"ReduceMean": "MEAN", "ReduceSum": "SUM", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN"}[node.kind]
    options = Record().number(0, "B", int(keep))
    target = writer.give(node.outputs[0], ROWS if rows and keep else AS_IS)
    writer.emit(kind, operands, [target], options)


def _reshape(writer: Writer, node: Node) -> None:
    name, y = writer.moving(node), node.outputs[0]
    shape = writer.store(np.array(writer.shapes[y], np.int32), f"{y} shape")
    writer.emit("RESHAPE", [writer.get(name), shape], [writer.give(y)])


def _transpose(writer: Writer, node: Node) -> None:
    name, y = writer.moving(node), node.outputs[0]
    order = tuple(node.attributes.get("perm", range(len(writer.shapes[name]))[::-1]))
    if order == TO_ROWS and (name, ROWS) in writer.tensors:
        writer.tensors[(y, AS_IS)] = writer.tensors[(name, ROWS)]
    elif order == TO_PLANES:
        writer.tensors[(y, ROWS)] = writer.get(name)
    else:
        writer.tensors[(y, AS_IS)] = writer.transposed(writer.get(name), order, y)


def _identity(writer: Writer, node: Node) -> None:
    name = writer.moving(node)
    for layout in (AS_IS, ROWS):
        if (name, layout) in writer.tensors:
            writer.tensors[(node.outputs[0], layout)] = writer.tensors[(name, layout)]


def _dequantise(writer: Writer, node: Node) -> None:
    """Weights that are stored as integers become the numbers that they stand for."""
    content, scale = (writer.constant(node, place) for place in (0, 1))
    points = writer.constant(node, 2) if node.given(2) else np.zeros((), content.dtype)
    extents = [1] * content.ndim
    if scale.size > 1:
        extents[int(node.attributes.get("axis", 1))] = -1
    scale, points = (each.reshape(extents if each.size > 1 else ()) for each in (scale, points))
    real = (content.astype(np.float32) - points.astype(np.float32)) * scale
    writer.constants[node.outputs[0]] = real.astype(np.float32)
    writer.shapes[node.outputs[0]] = real.shape


def _concat(writer: Writer, node: Node) -> None:
    layout, rank = writer.layout(node), len(writer.shapes[node.outputs[0]])
    axis = int(node.attributes["axis"]) % rank
    options = Record().number(0, "i", TO_ROWS.index(axis) if layout == ROWS else axis)
    parts = [writer.get(each, layout) for each in node.inputs]
    writer.emit("CONCATENATION", parts, [writer.give(node.outputs[0], layout)], options)


def _pad(writer: Writer, node: Node) -> None:
    name = writer.moving(node)
    mode = node.attributes.get("mode", "constant")
    if mode != "constant" or node.given(3):
        raise node.fail(f"mode {mode}, or axes of its own")
    amounts = writer.constant(node, 1) if node.given(1) else np.array(node.attributes["pads"])
    fill = float(writer.constant(node, 2).reshape(-1)[0]) if node.given(2) else float(node.attributes.get("value", 0))
    widths = amounts.reshape(2, -1).T.astype(np.int32)
    if widths.min() < 0 or fill:
        raise node.fail("negative widths, or a value that is not zero")
    layout = writer.layout(node)
    widths = widths[list(TO_ROWS)] if layout == ROWS else widths
    operands = [writer.get(name, layout), writer.store(np.ascontiguousarray(widths), f"{name} pads")]
    writer.emit("PAD", operands, [writer.give(node.outputs[0], layout)])


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), _reduce),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "FastGelu": _gelu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "DequantizeLinear": _dequantise,
    "Identity": _identity,
    "LeakyRelu": _leaky,
    "PRelu": _prelu,
    "Pad": _pad,
    "Softmax": _softmax,
    "Transpose": _transpose,
}

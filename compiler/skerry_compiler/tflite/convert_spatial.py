"""TFLite to ONNX: convolutions, pooling, resizing, dense layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from skerry_compiler.tflite import schema
from skerry_compiler.tflite.convert import PLANES, ROWS, Array, Converter, refuse
from skerry_compiler.tflite.model import Operator

Handler = Callable[[Converter, Operator], None]


def pads(extent: int, kernel: int, stride: int, dilation: int, padding: int) -> tuple[int, int]:
    """Return what TFLite's padding adds before and after one axis: SAME keeps ceil(extent / stride), the odd one goes
    behind.
    """
    if padding == schema.VALID:
        return 0, 0
    reach = (kernel - 1) * dilation + 1
    total = max((-(-extent // stride) - 1) * stride + reach - extent, 0)
    return total // 2, total - total // 2


def _around(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], padding: int
) -> list[int]:
    """Return ONNX's pads: top, left, bottom, right. `shape` is [n, h, w, c]."""
    sides = [pads(shape[1 + axis], kernel[axis], stride[axis], dilation[axis], padding) for axis in (0, 1)]
    return [sides[0][0], sides[1][0], sides[0][1], sides[1][1]]


def _conv(converter: Converter, operator: Operator) -> None:
    options = operator.options
    stride = (options.integer(2), options.integer(1))
    if operator.name == "CONV_2D":
        dilation = (options.integer(5, 1), options.integer(4, 1))
        activation = options.integer(3, 0, "b")
    else:
        dilation = (options.integer(6, 1), options.integer(5, 1))
        activation = options.integer(4, 0, "b")
    x, weight = operator.inputs[:2]
    content = converter.constant(operator, 1)
    channels = converter.shape(x)[3]
    if operator.name == "CONV_2D":
        groups, ordered = channels // content.shape[3], content.transpose(0, 3, 1, 2)
        whole = groups * content.shape[3] == channels
    else:
        groups, ordered = channels, content.transpose(3, 0, 1, 2)
        whole = content.shape[0] == 1 and content.shape[3] % channels == 0
    if not whole or min(stride) < 1 or min(dilation) < 1:
        raise refuse(operator, f"weights {list(content.shape)} do not fit {channels} channels")
    inputs = [converter.get(x, PLANES), converter.weights(weight, ordered, 0, integers=_integers(converter, x))]
    inputs += _bias(converter, operator)
    value = converter.emit(
        "Conv",
        inputs,
        converter.tensor(operator.outputs[0]).name,
        kernel_shape=list(ordered.shape[2:]),
        strides=list(stride),
        dilations=list(dilation),
        group=groups,
        pads=_around(converter.shape(x), ordered.shape[2:], stride, dilation, options.integer(0, 0, "b")),
    )
    converter.give(operator.outputs[0], converter.activation(value, activation, operator), PLANES)


def _integers(converter: Converter, x: int) -> bool:
    """Whether an operator's weights stay integers: only where what they are multiplied with is bytes, too."""
    return converter.tensor(x).kind in (np.int8, np.uint8)


def _bias(converter: Converter, operator: Operator, place: int = 2) -> list[str]:
    """Return the bias as an operand: none, one, or whole numbers that are dequantised in the graph."""
    if not converter.given(operator, place):
        return []
    content = converter.constant(operator, place)
    whole = _integers(converter, operator.inputs[2 if place == 3 else 0])
    return [converter.weights(operator.inputs[place], content, 0, integers=whole)]


def _transpose_conv(converter: Converter, operator: Operator) -> None:
    _, weight, x = operator.inputs[:3]
    options, content = operator.options, converter.constant(operator, 1)
    stride = (options.integer(2), options.integer(1))
    shape, target = converter.shape(x), converter.shape(operator.outputs[0])
    kernel = content.shape[1:3]
    if min(stride) < 1 or content.shape[3] != shape[3]:
        raise refuse(operator, f"weights {list(content.shape)} do not fit {shape[3]} channels")
    over = [(shape[1 + axis] - 1) * stride[axis] + kernel[axis] - target[1 + axis] for axis in (0, 1)]
    before = [max(each, 0) // 2 for each in over]
    after = [max(each, 0) - each // 2 if each > 0 else 0 for each in over]
    value = converter.emit(
        "ConvTranspose",
        [
            converter.get(x, PLANES),
            converter.weights(weight, content.transpose(3, 0, 1, 2), 1, integers=_integers(converter, x)),
            *_bias(converter, operator, 3),
        ],
        converter.tensor(operator.outputs[0]).name,
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=[*before, *after],
        output_padding=[max(-each, 0) for each in over],
    )
    converter.give(operator.outputs[0], converter.activation(value, options.integer(3, 0, "b"), operator), PLANES)


def _pool(converter: Converter, operator: Operator) -> None:
    options, x = operator.options, operator.inputs[0]
    stride, kernel = (options.integer(2), options.integer(1)), (options.integer(4), options.integer(3))
    if min(*stride, *kernel) < 1:
        raise refuse(operator, f"a window of {list(kernel)} every {list(stride)}")
    attributes = {} if operator.name == "MAX_POOL_2D" else {"count_include_pad": 0}
    value = converter.emit(
        "MaxPool" if operator.name == "MAX_POOL_2D" else "AveragePool",
        [converter.get(x, PLANES)],
        converter.tensor(operator.outputs[0]).name,
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=_around(converter.shape(x), kernel, stride, (1, 1), options.integer(0, 0, "b")),
        **attributes,
    )
    converter.give(operator.outputs[0], converter.activation(value, options.integer(5, 0, "b"), operator), PLANES)


def _resize(converter: Converter, operator: Operator) -> None:
    linear = operator.name == "RESIZE_BILINEAR"
    slots = (2, 3) if linear else (0, 1)
    aligned, half_pixel = (operator.options.flag(slot) for slot in slots)
    target = converter.shape(operator.outputs[0])
    near = converter.tensor(operator.outputs[0]).name
    rounding = "round_prefer_ceil" if aligned or half_pixel else "floor"
    sizes = converter.store(np.array([target[0], target[3], target[1], target[2]], np.int64), f"{near}_sizes")
    value = converter.emit(
        "Resize",
        [converter.get(operator.inputs[0], PLANES), "", "", sizes],
        near,
        mode="linear" if linear else "nearest",
        coordinate_transformation_mode="align_corners" if aligned else "half_pixel" if half_pixel else "asymmetric",
        **({} if linear else {"nearest_mode": rounding}),
    )
    converter.give(operator.outputs[0], value, PLANES)


def _blocks(converter: Converter, operator: Operator) -> None:
    kind = "DepthToSpace" if operator.name == "DEPTH_TO_SPACE" else "SpaceToDepth"
    near = converter.tensor(operator.outputs[0]).name
    source = converter.get(operator.inputs[0], PLANES)
    converter.give(
        operator.outputs[0], converter.emit(kind, [source], near, blocksize=operator.options.integer(0)), PLANES
    )


def _dense(converter: Converter, operator: Operator) -> None:
    options, (x, weight), y = operator.options, operator.inputs[:2], operator.outputs[0]
    near = converter.tensor(y).name
    content: Array = converter.constant(operator, 1)
    if options.integer(1, 0, "b") or content.ndim != 2:
        raise refuse(operator, "weights in an order of their own")
    value = converter.get(x)
    rows = int(np.prod(converter.shape(x))) // content.shape[1]
    if converter.shape(x) != (rows, content.shape[1]):
        value = converter.reshaped(value, (rows, content.shape[1]), f"{near}_flat")
    integers = _integers(converter, x)
    inputs = [value, converter.weights(weight, content, 0, integers=integers), *_bias(converter, operator)]
    value = converter.emit("Gemm", inputs, near, transB=1)
    value = converter.activation(value, options.integer(0, 0, "b"), operator)
    if converter.shape(y) != (rows, content.shape[0]):
        value = converter.reshaped(value, converter.shape(y), f"{near}_shaped")
    converter.give(y, value)


def _matmul(converter: Converter, operator: Operator) -> None:
    near = converter.tensor(operator.outputs[0]).name
    operands = []
    for place in (0, 1):
        value = converter.get(operator.inputs[place], ROWS)
        if operator.options.flag(place):
            rank = len(converter.shape(operator.inputs[place]))
            value = converter.emit("Transpose", [value], near, perm=[*range(rank - 2), rank - 1, rank - 2])
        operands.append(value)
    converter.give(operator.outputs[0], converter.emit("MatMul", operands, near))


HANDLERS: dict[str, Handler] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "TRANSPOSE_CONV": _transpose_conv,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "DEPTH_TO_SPACE": _blocks,
    "SPACE_TO_DEPTH": _blocks,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _matmul,
}

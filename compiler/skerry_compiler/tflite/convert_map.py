"""TFLite to ONNX: element by element, reductions, softmax."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper

from skerry_compiler.tflite.convert import PLANES, ROWS, TO_PLANES, Converter, refuse
from skerry_compiler.tflite.model import Operator

Handler = Callable[[Converter, Operator], None]
Emitter = Callable[[Converter, str, str, Operator], str]

NORM_EPSILON = 1e-6  # LiteRT's own


def _plain(kind: str) -> Emitter:
    return lambda converter, value, near, operator: converter.emit(kind, [value], near)


def _clipped(low: float, high: float) -> Emitter:
    return lambda converter, value, near, operator: converter.clip(value, low, high, near)


def _square(converter: Converter, value: str, near: str, operator: Operator) -> str:
    return converter.emit("Mul", [value, value], near)


def _rsqrt(converter: Converter, value: str, near: str, operator: Operator) -> str:
    return converter.emit("Reciprocal", [converter.emit("Sqrt", [value], near)], near)


def _leaky(converter: Converter, value: str, near: str, operator: Operator) -> str:
    return converter.emit("LeakyRelu", [value], near, alpha=float(operator.options.number(0, "f", 0.0)))


def _gelu(converter: Converter, value: str, near: str, operator: Operator) -> str:
    """x/2 (1 + erf(x / sqrt 2)), or its tanh form (Hendrycks and Gimpel, arXiv 1606.08415)."""

    def times(one: str, factor: float) -> str:
        return converter.emit("Mul", [one, converter.store(np.float32(factor), f"{near}_factor")], near)

    if operator.options.flag(0):
        cube = converter.emit("Mul", [converter.emit("Mul", [value, value], near), value], near)
        inner = converter.emit("Add", [value, times(cube, 0.044715)], near)
        bent = converter.emit("Tanh", [times(inner, float(np.sqrt(2 / np.pi)))], near)
    else:
        bent = converter.emit("Erf", [times(value, float(np.sqrt(0.5)))], near)
    one = converter.store(np.float32(1), f"{near}_one")
    return times(converter.emit("Mul", [value, converter.emit("Add", [bent, one], near)], near), 0.5)


UNARY: dict[str, Emitter] = {
    "ABS": _plain("Abs"),
    "CEIL": _plain("Ceil"),
    "COS": _plain("Cos"),
    "ELU": _plain("Elu"),
    "EXP": _plain("Exp"),
    "FLOOR": _plain("Floor"),
    "GELU": _gelu,
    "HARD_SWISH": _plain("HardSwish"),
    "LEAKY_RELU": _leaky,
    "LOG": _plain("Log"),
    "LOGISTIC": _plain("Sigmoid"),
    "NEG": _plain("Neg"),
    "QUANTIZE": lambda converter, value, near, operator: value,
    "RELU": _plain("Relu"),
    "RELU6": _clipped(0.0, 6.0),
    "RELU_0_TO_1": _clipped(0.0, 1.0),
    "RELU_N1_TO_1": _clipped(-1.0, 1.0),
    "ROUND": _plain("Round"),
    "RSQRT": _rsqrt,
    "SIN": _plain("Sin"),
    "SQRT": _plain("Sqrt"),
    "SQUARE": _square,
    "TANH": _plain("Tanh"),
}
BINARY = {
    "ADD": "Add",
    "DIV": "Div",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "MUL": "Mul",
    "POW": "Pow",
    "SQUARED_DIFFERENCE": "Sub",
    "SUB": "Sub",
}
FUSED = ("ADD", "DIV", "MUL", "SUB")
REDUCTIONS = {"MEAN": "ReduceMean", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin", "REDUCE_PROD": "ReduceProd"}


def _unary(converter: Converter, operator: Operator) -> None:
    layout, near = converter.layout(operator), converter.tensor(operator.outputs[0]).name
    value = converter.get(operator.inputs[0], layout)
    converter.give(operator.outputs[0], UNARY[operator.name](converter, value, near, operator), layout)


def _binary(converter: Converter, operator: Operator) -> None:
    layout, near = converter.layout(operator), converter.tensor(operator.outputs[0]).name
    operands = [_operand(converter, index, layout, near) for index in operator.inputs[:2]]
    value = converter.emit(BINARY[operator.name], operands, near)
    if operator.name == "SQUARED_DIFFERENCE":
        value = converter.emit("Mul", [value, value], near)
    if operator.name in FUSED:
        value = converter.activation(value, operator.options.integer(0, 0, "b"), operator)
    converter.give(operator.outputs[0], value, layout)


def _operand(converter: Converter, index: int, layout: str, near: str) -> str:
    """Return an operand that is broadcast: a constant of fewer axes is given all four before it moves to planes."""
    shape = converter.shape(index)
    if layout == ROWS or len(shape) == 4 or not converter.is_constant(index):
        return converter.get(index, layout)
    real = converter.real(index)
    return converter.store(real.reshape((1,) * (4 - real.ndim) + real.shape).transpose(TO_PLANES), near)


def _prelu(converter: Converter, operator: Operator) -> None:
    layout, near = converter.layout(operator), converter.tensor(operator.outputs[0]).name
    if not converter.is_constant(operator.inputs[1]):
        raise refuse(operator, "the slope must be a constant")
    slope, rank = converter.real(operator.inputs[1]), len(converter.shape(operator.inputs[0]))
    slope = slope.reshape((1,) * max(0, 3 - slope.ndim) + slope.shape[-3:])
    if layout == PLANES:
        slope = slope.transpose(2, 0, 1)
    elif rank < 4:
        slope = slope.reshape(slope.shape[4 - rank :])
    value = converter.get(operator.inputs[0], layout)
    value = converter.emit("PRelu", [value, converter.store(slope, f"{near}_slope")], near)
    converter.give(operator.outputs[0], value, layout)


def _dequantize(converter: Converter, operator: Operator) -> None:
    source, target = operator.inputs[0], operator.outputs[0]
    if converter.is_constant(source):
        converter.folded[target] = converter.real(source)
        return
    for layout in (ROWS, PLANES):
        if (source, layout) in converter.values:
            converter.values[(target, layout)] = converter.values[(source, layout)]


def _softmax(converter: Converter, operator: Operator) -> None:
    layout, near = converter.layout(operator), converter.tensor(operator.outputs[0]).name
    value = converter.get(operator.inputs[0], layout)
    beta = float(operator.options.number(0, "f", 1.0)) if operator.name == "SOFTMAX" else 1.0
    if beta != 1.0:
        value = converter.emit("Mul", [value, converter.store(np.float32(beta), f"{near}_beta")], near)
    kind = "Softmax" if operator.name == "SOFTMAX" else "LogSoftmax"
    converter.give(operator.outputs[0], converter.emit(kind, [value], near, axis=1 if layout == PLANES else -1), layout)


def _l2(converter: Converter, operator: Operator) -> None:
    layout, near = converter.layout(operator), converter.tensor(operator.outputs[0]).name
    value = converter.get(operator.inputs[0], layout)
    length = converter.emit("ReduceL2", [value], near, axes=[1 if layout == PLANES else -1], keepdims=1)
    least = converter.store(np.float32(NORM_EPSILON), f"{near}_least")
    length = converter.emit("Max", [length, least], near)
    value = converter.emit("Div", [value, length], near)
    converter.give(
        operator.outputs[0], converter.activation(value, operator.options.integer(0, 0, "b"), operator), layout
    )


def _reduce(converter: Converter, operator: Operator) -> None:
    x, y = operator.inputs[0], operator.outputs[0]
    shape, near = converter.shape(x), converter.tensor(y).name
    axes = sorted({int(each) % max(1, len(shape)) for each in converter.constant(operator, 1).reshape(-1)})
    keep = operator.options.flag(0)
    planes = len(shape) == 4 and (x, PLANES) in converter.values
    inside = planes and (keep or axes in ([1, 2], [1, 2, 3]))  # what is left is the same in both layouts
    layout = PLANES if inside else ROWS
    places = [TO_PLANES.index(each) for each in axes] if inside else axes
    value = converter.get(x, layout)
    if operator.name == "SUM":
        where = converter.store(np.array(places, np.int64), f"{near}_axes")
        value = converter.emit("ReduceSum", [value, where], near, keepdims=int(keep))
    else:
        value = converter.emit(REDUCTIONS[operator.name], [value], near, axes=places, keepdims=int(keep))
    converter.give(y, value, PLANES if inside and keep else ROWS)


def _cast(converter: Converter, operator: Operator) -> None:
    layout, y = converter.layout(operator), operator.outputs[0]
    tensor = converter.tensor(y)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.kind))
    converter.give(y, converter.emit("Cast", [converter.get(operator.inputs[0], layout)], tensor.name, to=kind), layout)


def _arg_max(converter: Converter, operator: Operator) -> None:
    x, y = operator.inputs[0], operator.outputs[0]
    tensor = converter.tensor(y)
    axis = int(converter.constant(operator, 1).reshape(-1)[0])
    value = converter.emit("ArgMax", [converter.get(x)], tensor.name, axis=axis, keepdims=0)
    if tensor.kind is not np.int64:
        value = converter.emit("Cast", [value], tensor.name, to=helper.np_dtype_to_tensor_dtype(np.dtype(tensor.kind)))
    converter.give(y, value)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys((*REDUCTIONS, "SUM"), _reduce),
    "ARG_MAX": _arg_max,
    "CAST": _cast,
    "DEQUANTIZE": _dequantize,
    "L2_NORMALIZATION": _l2,
    "LOG_SOFTMAX": _softmax,
    "PRELU": _prelu,
    "SOFTMAX": _softmax,
}

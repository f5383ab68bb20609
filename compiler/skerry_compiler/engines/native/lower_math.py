"""Lowering of the standard ONNX operators that scikit-learn pipelines and dense networks are made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import NodeProto

from skerry_compiler import graph as graphs
from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.lowering import MAX_CONSTANT_BYTES, CannotError, Lower, Lowering
from skerry_contracts.tensor import DType

MAX_MOVED = 1 << 16
FLOATS = (DType.FP32, DType.FP64)
_MAPS = {"Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Exp": "exp", "Neg": "neg", "Abs": "abs", "Sqrt": "sqrt"}
_COMBINES = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Min": "min", "Max": "max"}
_REDUCES = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "min"}
_REDUCES |= {"ReduceSumSquare": "sum_of_squares", "ReduceProd": "product", "ReduceLogSumExp": "log_of_sum"}


def _float(state: Lowering, name: str) -> ir.Value:
    value = state.value(name)
    if value.dtype is not DType.FP32:
        raise CannotError(f"{value.dtype} where FP32 is needed")
    return value


def _matmul(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x, weight = _float(state, node.input[0]), state.constant(node.input[1])
    if weight.ndim == 1 and x.shape and x.width == len(weight):
        column = state.fresh(node.output[0], DType.FP32, (*x.shape[:-1], 1))
        state.add(ir.Dense((x,), column, weight.astype(np.float32).reshape(-1, 1), np.zeros(1, np.float32)))
        state.add(ir.View((column,), state.out(node, DType.FP32, x.shape[:-1])))
        return
    if weight.ndim != 2 or not x.shape or x.width != weight.shape[0]:
        raise CannotError("only rows times a constant matrix")
    _dense(state, node, x, weight, np.zeros(weight.shape[1], np.float32))


def _gemm(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x, weight = _float(state, node.input[0]), state.constant(node.input[1])
    if attributes.get("transA"):
        raise CannotError("transA")
    weight = (weight.T if attributes.get("transB") else weight).astype(np.float64) * attributes.get("alpha", 1.0)
    bias = np.zeros(1, np.float64)
    later = len(node.input) > 2 and node.input[2] and node.input[2] not in state.constants
    if later:
        if attributes.get("beta", 1.0) != 1.0:
            raise CannotError("beta with a computed bias")
        shape = (*x.shape[:-1], weight.shape[1])
        product = state.fresh(node.output[0], DType.FP32, shape)
        zero = np.zeros(weight.shape[1], np.float32)
        state.add(ir.Dense((x,), product, weight.astype(np.float32), zero))
        other = spread(state, node, _float(state, node.input[2]), shape)
        state.add(ir.Combine((product, other), state.out(node, DType.FP32, shape), "add"))
        return
    if len(node.input) > 2 and node.input[2]:
        bias = state.constant(node.input[2]).astype(np.float64) * attributes.get("beta", 1.0)
    if bias.size not in (1, weight.shape[1]):
        raise CannotError("a bias for each row")
    _dense(state, node, x, weight, np.broadcast_to(bias.reshape(-1), (weight.shape[1],)))


def _dense(state: Lowering, node: NodeProto, x: ir.Value, weight: np.ndarray, bias: np.ndarray) -> None:
    output = state.out(node, DType.FP32, (*x.shape[:-1], weight.shape[1]))
    state.add(ir.Dense((x,), output, weight.astype(np.float32), bias.astype(np.float32)))


def _map(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    if x.dtype is not DType.FP32 and node.op_type not in ("Relu", "Neg", "Abs"):
        raise CannotError(f"{x.dtype} where FP32 is needed")
    state.add(ir.Map((x,), state.out(node, x.dtype, x.shape), _MAPS[node.op_type]))


def _leaky(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = _float(state, node.input[0])
    state.add(ir.Map((x,), state.out(node, x.dtype, x.shape), "leaky", attributes.get("alpha", 0.01)))


def _clip(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = _float(state, node.input[0])
    bounds = [attributes.get("min", -math.inf), attributes.get("max", math.inf)]
    for place, name in enumerate(node.input[1:3]):
        if name:
            bounds[place] = float(state.constant(name).reshape(()))
    state.add(ir.Map((x,), state.out(node, x.dtype, x.shape), "clip", *bounds))


def _cast(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    dtype = graphs.DTYPES.get(attributes["to"])
    if dtype not in ir.C_TYPES:
        raise CannotError("a type that is not for this engine")
    output = state.out(node, dtype, x.shape)
    state.add(ir.View((x,), output) if dtype is x.dtype else ir.Map((x,), output, "cast"))


def _view(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    shape = _new_shape(state, node, x)
    if math.prod(shape) != x.elements:
        raise CannotError("the reshape changes the number of elements")
    state.add(ir.View((x,), state.out(node, x.dtype, shape)))


def _new_shape(state: Lowering, node: NodeProto, x: ir.Value) -> tuple[int, ...]:
    """Return the shape after a reshape; from its constant operand where shape inference stopped before."""
    try:
        return state.typed(node.output[0]).shape
    except CannotError:
        if node.op_type == "Flatten":
            axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
            axis += len(x.shape) if axis < 0 else 0
            return math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
        if node.op_type in ("Squeeze", "Unsqueeze") and len(node.input) > 1:
            axes = [int(each) for each in state.constant(node.input[1]).reshape(-1)]
            return _spread_axes(x, axes) if node.op_type == "Unsqueeze" else _without_axes(x, axes)
        if node.op_type != "Reshape":
            raise
    wanted = [int(extent) for extent in state.constant(node.input[1])]
    shape = [x.shape[place] if extent == 0 else extent for place, extent in enumerate(wanted)]
    rest = math.prod(extent for extent in shape if extent != -1)
    return tuple(x.elements // max(1, rest) if extent == -1 else extent for extent in shape)


def _spread_axes(x: ir.Value, axes: list[int]) -> tuple[int, ...]:
    """Return the shape with new axes of one."""
    rank = len(x.shape) + len(axes)
    new = {each % rank for each in axes}
    rest = iter(x.shape)
    return tuple(1 if place in new else next(rest) for place in range(rank))


def _without_axes(x: ir.Value, axes: list[int]) -> tuple[int, ...]:
    gone = {each % max(1, len(x.shape)) for each in axes}
    return tuple(extent for place, extent in enumerate(x.shape) if place not in gone)


def _same(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    state.add(ir.View((x,), state.out(node, x.dtype, x.shape)))


def _combine(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    if len(node.input) != 2:
        raise CannotError("other than two operands")
    kind = _COMBINES[node.op_type]
    first, second = node.input
    if first in state.constants and second not in state.constants and kind in ("add", "mul"):
        first, second = second, first
    if second in state.constants and _affine(state, node, kind, first, state.constants[second]):
        return
    one, two = state.value(first), state.value(second)
    shape = np.broadcast_shapes(one.shape, two.shape)
    if one.dtype is not two.dtype or one.dtype is DType.BOOL:
        raise CannotError("operands of two types")
    parts = (spread(state, node, one, shape), spread(state, node, two, shape))
    state.add(ir.Combine(parts, state.out(node, one.dtype, shape), kind))


def spread(state: Lowering, node: NodeProto, value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    """Return the value as ir.Combine can use it for a shape: whole, one element, or one row; else a copy that is."""
    row = value.elements == value.width == (shape[-1] if shape else 1)
    if value.elements in (1, math.prod(shape)) or row:
        return value
    if value.name in state.constants:
        content = state.constants[value.name]
        if math.prod(shape) * content.itemsize > MAX_CONSTANT_BYTES:
            raise CannotError("this broadcast")
        return state.row(node, np.ascontiguousarray(np.broadcast_to(content, shape)))
    origin = np.broadcast_to(np.arange(value.elements).reshape(value.shape), shape)
    return moved(state, node, value, origin, state.fresh(node.output[0], value.dtype, shape))


def moved(state: Lowering, node: NodeProto, x: ir.Value, origin: np.ndarray, output: ir.Value) -> ir.Value:
    """Add a copy whose elements come from the places `origin` and return it."""
    if not 0 < origin.size <= MAX_MOVED:
        raise CannotError(f"{origin.size} elements to move, at most {MAX_MOVED}")
    flat = state.add(ir.View((x,), state.fresh(node.output[0], x.dtype, (1, x.elements))))
    places = tuple(int(each) for each in origin.reshape(-1))
    return state.add(ir.TakeColumns((flat,), output, places))


def _affine(state: Lowering, node: NodeProto, kind: str, name: str, constant: np.ndarray) -> bool:
    """Make x + c, x - c, x * c or x / c with a constant row an Affine; return whether it could be."""
    x = state.value(name)
    whole = x.dtype is DType.FP32 and np.broadcast_shapes(x.shape, constant.shape) == x.shape
    if not whole or kind not in ("add", "sub", "mul", "div") or constant.size not in (1, x.width):
        return False
    if constant.size == x.width and x.width > 1 and constant.shape[-1] != x.width:
        return False
    row = np.broadcast_to(constant.astype(np.float64).reshape(-1), (x.width,))
    if kind == "div" and not np.all(row):
        return False
    shift = {"add": -row, "sub": row}.get(kind, np.zeros_like(row))
    scale = {"mul": row, "div": 1 / row if kind == "div" else row}.get(kind, np.ones_like(row))
    state.add(ir.Affine((x,), state.out(node, x.dtype, x.shape), shift, scale))
    return True


def _batch_norm(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = _float(state, node.input[0])
    if len(x.shape) != 2:
        raise CannotError("only on rows of features")
    scale, bias, mean, variance = (state.constant(name).astype(np.float64) for name in node.input[1:5])
    factor = scale / np.sqrt(variance + attributes.get("epsilon", 1e-5))
    if not np.all(factor):
        raise CannotError("a scale of 0")
    state.add(ir.Affine((x,), state.out(node, x.dtype, x.shape), mean - bias / factor, factor))


def _last_axis(x: ir.Value, axis: int) -> None:
    if not x.shape or axis % len(x.shape) != len(x.shape) - 1:
        raise CannotError(f"axis {axis} of {len(x.shape)}: only the last")


def _softmax(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = _float(state, node.input[0])
    _last_axis(x, attributes.get("axis", -1 if len(x.shape) != 2 else 1))
    state.add(ir.Softmax((x,), state.out(node, x.dtype, x.shape)))


def _argmax(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = _float(state, node.input[0])
    _last_axis(x, attributes.get("axis", 0))
    if attributes.get("select_last_index"):
        raise CannotError("select_last_index")
    shape = (*x.shape[:-1], 1) if attributes.get("keepdims", 1) else x.shape[:-1]
    state.add(ir.ArgMax((x,), state.out(node, DType.INT64, shape)))


def _reduce(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = _float(state, node.input[0])
    axes = attributes.get("axes")
    if axes is None and len(node.input) > 1 and node.input[1]:
        axes = state.constant(node.input[1]).tolist()
    if not axes or len(axes) != 1:
        raise CannotError("only over the last axis")
    axis = axes[0] % max(1, len(x.shape))
    shape = tuple(1 if place == axis else extent for place, extent in enumerate(x.shape))
    if not attributes.get("keepdims", 1):
        shape = x.shape[:axis] + x.shape[axis + 1 :]
    if axis != len(x.shape) - 1:
        x = _turned(state, node, x, axis)
    state.add(ir.Reduce((x,), state.out(node, x.dtype, shape), _REDUCES[node.op_type]))


def _turned(state: Lowering, node: NodeProto, x: ir.Value, axis: int) -> ir.Value:
    """Return a copy whose given axis is the last."""
    origin = np.moveaxis(np.arange(x.elements).reshape(x.shape), axis, -1)
    return moved(state, node, x, origin, state.fresh(node.output[0], x.dtype, origin.shape))


def _concat(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    parts = tuple(state.value(name) for name in node.input)
    if len({part.dtype for part in parts}) != 1:
        raise CannotError("parts of two types")
    rank, axis = len(parts[0].shape), attributes["axis"]
    axis += rank if axis < 0 else 0
    if axis != rank - 1:
        if any(math.prod(part.shape[:axis]) != 1 for part in parts):
            raise CannotError(f"axis {axis} of {rank}")
        shape = (*parts[0].shape[:axis], sum(part.shape[axis] for part in parts), *parts[0].shape[axis + 1 :])
        flat = [state.fresh(node.output[0], part.dtype, (1, part.elements)) for part in parts]
        flat = [state.add(ir.View((part,), made)) for part, made in zip(parts, flat, strict=True)]
        joined = state.fresh(node.output[0], parts[0].dtype, (1, math.prod(shape)))
        state.add(ir.View((state.add(ir.Concat(tuple(flat), joined)),), state.out(node, parts[0].dtype, shape)))
        return
    shape = (*parts[0].shape[:-1], sum(part.width for part in parts))
    state.add(ir.Concat(parts, state.out(node, parts[0].dtype, shape)))


OPERATORS: dict[str, Lower] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    **dict.fromkeys(_MAPS, _map),
    **dict.fromkeys(_COMBINES, _combine),
    **dict.fromkeys(_REDUCES, _reduce),
    "LeakyRelu": _leaky,
    "Clip": _clip,
    "Cast": _cast,
    "Identity": _same,
    "Dropout": _same,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _view),
    "BatchNormalization": _batch_norm,
    "Softmax": _softmax,
    "ArgMax": _argmax,
    "Concat": _concat,
}

"""Lowering of comparisons, choices and moves, which preprocessing is made of: imputers, encoders, selected columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import NodeProto

from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.lower_math import FLOATS, moved, spread
from skerry_compiler.engines.native.lowering import CannotError, Lower, Lowering
from skerry_contracts.tensor import DType

_COMPARES = {
    "Equal": "equal",
    "Less": "less",
    "LessOrEqual": "less_or_equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_or_equal",
    "And": "and",
    "Or": "or",
}
MAX_FIRST = 4096
MAX_POWER = 16  # whole powers up to here are products
_MAPS = {"Ceil": "ceil", "Cos": "cos", "Sin": "sin"}
_MAPS |= {"Floor": "floor", "Sign": "sign", "Softplus": "softplus", "Log": "log", "Reciprocal": "reciprocal"}


def _compare(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    one, two = (state.value(name) for name in node.input)
    if one.dtype is not two.dtype:
        raise CannotError("operands of two types")
    shape = np.broadcast_shapes(one.shape, two.shape)
    parts = (spread(state, node, one, shape), spread(state, node, two, shape))
    state.add(ir.Combine(parts, state.out(node, DType.BOOL, shape), _COMPARES[node.op_type]))


def _map(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    if x.dtype is not DType.FP32:
        raise CannotError(f"{x.dtype} where FP32 is needed")
    state.add(ir.Map((x,), state.out(node, x.dtype, x.shape), _MAPS[node.op_type]))


def _predicate(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    wanted, kind = ((DType.BOOL,), "not") if node.op_type == "Not" else (FLOATS, "is_nan")
    if x.dtype not in wanted:
        raise CannotError(f"of {x.dtype}")
    state.add(ir.Map((x,), state.out(node, DType.BOOL, x.shape), kind))


def _where(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    parts = tuple(state.value(name) for name in node.input)
    if parts[1].dtype is not parts[2].dtype:
        raise CannotError("operands of two types")
    shape = np.broadcast_shapes(*(part.shape for part in parts))
    spread_parts = tuple(spread(state, node, part, shape) for part in parts)
    state.add(ir.Select(spread_parts, state.out(node, parts[1].dtype, shape)))


def _power(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x, exponent = state.value(node.input[0]), state.constant(node.input[1])
    if x.dtype is not DType.FP32 or exponent.size != 1:
        raise CannotError("only float32 to one constant power")
    power = float(exponent.reshape(()))
    output = state.out(node, x.dtype, np.broadcast_shapes(x.shape, exponent.shape))
    if power == 2.0:
        state.add(ir.Combine((x, x), output, "mul"))
    elif power == 0.5:
        state.add(ir.Map((x,), output, "sqrt"))
    elif power == int(power) and 1 < power <= MAX_POWER:
        made = x
        for step in range(2, int(power) + 1):
            to = output if step == power else state.fresh(node.output[0], x.dtype, x.shape)
            made = state.add(ir.Combine((made, x), to, "mul"))
    elif power != int(power):
        state.add(ir.Map((x,), output, "pow", power))
    else:
        raise CannotError(f"power {power:g}")


def _sum(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    parts = [state.value(name) for name in node.input]
    if len({part.dtype for part in parts}) != 1 or parts[0].dtype is DType.BOOL:
        raise CannotError("operands of two types")
    total = parts[0]
    for place, part in enumerate(parts[1:], 2):
        shape = np.broadcast_shapes(total.shape, part.shape)
        last = place == len(parts)
        made = state.out(node, total.dtype, shape) if last else state.fresh(node.output[0], total.dtype, shape)
        both = (spread(state, node, total, shape), spread(state, node, part, shape))
        total = state.add(ir.Combine(both, made, "add"))
    if len(parts) == 1:
        state.add(ir.View((total,), state.out(node, total.dtype, total.shape)))


def _mean(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    total = state.value(node.input[0])
    for name in node.input[1:]:
        part = state.value(name)
        shape = np.broadcast_shapes(total.shape, part.shape)
        both = (spread(state, node, total, shape), spread(state, node, part, shape))
        total = state.add(ir.Combine(both, state.fresh(node.output[0], total.dtype, shape), "add"))
    if total.dtype is not DType.FP32:
        raise CannotError(f"{total.dtype} where FP32 is needed")
    share = np.full(total.width, 1 / len(node.input))
    state.add(ir.Affine((total,), state.out(node, total.dtype, total.shape), np.zeros(total.width), share))


def _top(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x, count = state.value(node.input[0]), int(state.constant(node.input[1]).reshape(()))
    axis = attributes.get("axis", -1)
    if x.dtype is not DType.FP32 or not x.shape or axis % len(x.shape) != len(x.shape) - 1:
        raise CannotError("only float32 over the last axis")
    if not 0 < count <= min(x.width, MAX_FIRST):
        raise CannotError(f"{count} of {x.width} elements, at most {MAX_FIRST}")
    shape = (*x.shape[:-1], count)
    greatest = bool(attributes.get("largest", 1))
    places = state.add(ir.First((x,), state.out(node, DType.INT64, shape, 1), count, greatest))
    state.add(ir.Pick((x, places), state.out(node, x.dtype, shape)))


def _gather(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    axis = attributes.get("axis", 0)
    if node.input[0] in state.constants and node.input[1] not in state.constants:
        table, index = state.constants[node.input[0]], state.value(node.input[1])
        if axis % max(1, table.ndim) or index.dtype not in (DType.INT64, DType.INT32) or not table.size:
            raise CannotError("only rows of a table, by whole numbers")
        output = state.out(node, state.value(node.input[0]).dtype, (*index.shape, *table.shape[1:]))
        state.add(ir.TakeRows((index,), output, table.reshape(len(table), -1)))
        return
    x, places = state.value(node.input[0]), state.constant(node.input[1])
    if not x.shape or axis % len(x.shape) != len(x.shape) - 1:
        raise CannotError(f"axis {axis}: only the last")
    _columns(state, node, x, [int(each) for each in places.reshape(-1)], (*x.shape[:-1], *places.shape))


def _columns(state: Lowering, node: NodeProto, x: ir.Value, places: list[int], shape: tuple[int, ...]) -> None:
    places = [each + x.width if each < 0 else each for each in places]
    if not places or not all(0 <= each < x.width for each in places):
        raise CannotError("columns that are not there")
    state.add(ir.TakeColumns((x,), state.out(node, x.dtype, shape), tuple(places)))


def extract(state: Lowering, node: NodeProto) -> None:
    """Columns of a computed tensor (ArrayFeatureExtractor)."""
    x, places = state.value(node.input[0]), state.constant(node.input[1]).reshape(-1)
    shape = (*x.shape[:-1], len(places)) if len(x.shape) > 1 else (1, len(places))
    _columns(state, node, x, [int(each) for each in places], shape)


def _slice(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    given = [state.constant(name).reshape(-1).tolist() if name else None for name in node.input[1:]]
    starts, ends = given[0] or [], given[1] or []
    axes = given[2] if len(given) > 2 and given[2] else list(range(len(starts)))
    steps = given[3] if len(given) > 3 and given[3] else [1] * len(starts)
    kept = [np.arange(extent) for extent in x.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        kept[axis] = kept[axis][slice(start, None if abs(end) >= 1 << 31 and step < 0 else end, step)]
    origin = np.arange(x.elements).reshape(x.shape)[np.ix_(*kept)]
    moved(state, node, x, origin, state.out(node, x.dtype, origin.shape))


def _transpose(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    origin = np.arange(x.elements).reshape(x.shape).transpose(attributes.get("perm"))
    moved(state, node, x, origin, state.out(node, x.dtype, origin.shape))


def _argmin(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    axis = attributes.get("axis", 0)
    last = bool(x.shape) and axis % len(x.shape) == len(x.shape) - 1
    if x.dtype is not DType.FP32 or not last or attributes.get("select_last_index"):
        raise CannotError("only the first over the last axis")
    negated = state.add(ir.Map((x,), state.fresh(node.output[0], x.dtype, x.shape), "neg"))
    shape = (*x.shape[:-1], 1) if attributes.get("keepdims", 1) else x.shape[:-1]
    state.add(ir.ArgMax((negated,), state.out(node, DType.INT64, shape)))


def _imputer(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    values = attributes.get("imputed_value_floats") or []
    if x.dtype is not DType.FP32 or len(values) not in (1, x.width):
        raise CannotError("only float32 columns")
    replaced = attributes.get("replaced_value_float", 0.0)
    missing = state.fresh(node.output[0], DType.BOOL, x.shape)
    if math.isnan(replaced):
        state.add(ir.Map((x,), missing, "is_nan"))
    else:
        limit = state.row(node, np.full(1, replaced, np.float32))
        state.add(ir.Combine((x, limit), missing, "equal"))
    row = state.row(node, np.asarray(values, np.float32))
    state.add(ir.Select((missing, row, x), state.out(node, x.dtype, x.shape)))


def _binarizer(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = state.value(node.input[0])
    if x.dtype is not DType.FP32:
        raise CannotError(f"{x.dtype} where FP32 is needed")
    state.add(ir.Above((x,), state.out(node, x.dtype, x.shape), attributes.get("threshold", 0.0)))


def _one_hot(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x, kinds = state.value(node.input[0]), attributes.get("cats_int64s") or []
    if x.elements != 1 or not kinds or x.dtype not in (DType.INT64, DType.FP32) or not attributes.get("zeros", 1):
        raise CannotError("only one number a row, unknown ones as zeros")
    kind = np.int64 if x.dtype is DType.INT64 else np.float32
    row = state.row(node, np.asarray(kinds, kind))
    shape = (*x.shape, len(kinds))
    same = state.add(ir.Combine((x, row), state.fresh(node.output[0], DType.BOOL, shape), "equal"))
    state.add(ir.Map((same,), state.out(node, DType.FP32, shape), "cast"))


MATH: dict[str, Lower] = {
    **dict.fromkeys(_COMPARES, _compare),
    **dict.fromkeys(_MAPS, _map),
    "Not": _predicate,
    "IsNaN": _predicate,
    "Where": _where,
    "Pow": _power,
    "Sum": _sum,
    "Mean": _mean,
    "TopK": _top,
    "Gather": _gather,
    "Slice": _slice,
    "Transpose": _transpose,
    "ArgMin": _argmin,
}
ML: dict[str, Lower] = {"Imputer": _imputer, "Binarizer": _binarizer, "OneHotEncoder": _one_hot}

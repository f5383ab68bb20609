"""TFLite to ONNX: what moves numbers and changes none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skerry_compiler.tflite.convert import PLANES, ROWS, TO_PLANES, Converter, refuse
from skerry_compiler.tflite.model import Operator

Handler = Callable[[Converter, Operator], None]
_MAX = np.iinfo(np.int64).max
_MIN = np.iinfo(np.int64).min


def _reshape(converter: Converter, operator: Operator) -> None:
    x, y = operator.inputs[0], operator.outputs[0]
    if int(np.prod(converter.shape(x))) != int(np.prod(converter.shape(y))):
        raise refuse(operator, f"{list(converter.shape(x))} becomes {list(converter.shape(y))}")
    converter.give(y, converter.reshaped(converter.get(x), converter.shape(y), converter.tensor(y).name))


def _transpose(converter: Converter, operator: Operator) -> None:
    y, order = operator.outputs[0], [int(each) for each in converter.constant(operator, 1)]
    value = converter.emit("Transpose", [converter.get(operator.inputs[0])], converter.tensor(y).name, perm=order)
    converter.give(y, value)


def _pad(converter: Converter, operator: Operator) -> None:
    layout, y = converter.layout(operator), operator.outputs[0]
    near, widths = converter.tensor(y).name, converter.constant(operator, 1).astype(np.int64)
    if layout == PLANES:
        widths = widths[list(TO_PLANES)]
    amounts = converter.store(np.concatenate([widths[:, 0], widths[:, 1]]), f"{near}_pads")
    inputs = [converter.get(operator.inputs[0], layout), amounts]
    mode = "constant"
    if operator.name == "PADV2":
        converter.constant(operator, 2)
        inputs.append(converter.store(converter.real(operator.inputs[2]).reshape(()), f"{near}_fill"))
    if operator.name == "MIRROR_PAD":
        mode = "reflect"
        if operator.options.integer(0, 0, "b"):
            raise refuse(operator, "the SYMMETRIC mode has no form in ONNX")
    converter.give(y, converter.emit("Pad", inputs, near, mode=mode), layout)


def _concat(converter: Converter, operator: Operator) -> None:
    layout, y = converter.layout(operator), operator.outputs[0]
    axis = operator.options.integer(0) % max(1, len(converter.shape(y)))
    parts = [converter.get(each, layout) for each in operator.inputs]
    place = TO_PLANES.index(axis) if layout == PLANES else axis
    value = converter.emit("Concat", parts, converter.tensor(y).name, axis=place)
    converter.give(y, converter.activation(value, operator.options.integer(1, 0, "b"), operator), layout)


def _split(converter: Converter, operator: Operator) -> None:
    place, x = (0, operator.inputs[1]) if operator.name == "SPLIT" else (2, operator.inputs[0])
    axis = int(converter.constant(operator, place).reshape(-1)[0]) % max(1, len(converter.shape(x)))
    layout = converter.layout(operator) if (x, PLANES) in converter.values else ROWS
    parts = np.array([converter.shape(each)[axis] for each in operator.outputs], np.int64)
    _divide(converter, operator, x, TO_PLANES.index(axis) if layout == PLANES else axis, parts, layout)


def _divide(converter: Converter, operator: Operator, x: int, axis: int, parts: np.ndarray, layout: str) -> None:
    near = converter.tensor(operator.outputs[0]).name
    source, sizes = converter.get(x, layout), converter.store(parts, f"{near}_parts")
    names = [converter.name(converter.tensor(each).name) for each in operator.outputs]
    converter.node("Split", [source, sizes], names, axis=axis)
    for index, name in zip(operator.outputs, names, strict=True):
        shaped = name
        if operator.name == "UNPACK":
            shaped = converter.reshaped(name, converter.shape(index), name)
        converter.give(index, shaped, layout)


def _unpack(converter: Converter, operator: Operator) -> None:
    x = operator.inputs[0]
    axis = operator.options.integer(1) % max(1, len(converter.shape(x)))
    _divide(converter, operator, x, axis, np.ones(len(operator.outputs), np.int64), ROWS)


def _pack(converter: Converter, operator: Operator) -> None:
    y = operator.outputs[0]
    near, shape = converter.tensor(y).name, converter.shape(y)
    axis = operator.options.integer(1) % len(shape)
    single = [*shape[:axis], 1, *shape[axis + 1 :]]
    parts = [converter.reshaped(converter.get(each), single, f"{near}_part") for each in operator.inputs]
    converter.give(y, converter.emit("Concat", parts, near, axis=axis))


def _strided_slice(converter: Converter, operator: Operator) -> None:
    options, y = operator.options, operator.outputs[0]
    begin_mask, end_mask, ellipsis, new_axis, shrink = (options.integer(slot) for slot in range(5))
    if ellipsis or new_axis:
        raise refuse(operator, "ellipses and new axes have no form here")
    begin, end, step = (converter.constant(operator, place).astype(np.int64).copy() for place in (1, 2, 3))
    for axis in range(len(begin)):
        if shrink >> axis & 1:
            end[axis], step[axis] = (begin[axis] + 1) or _MAX, 1
            continue
        if begin_mask >> axis & 1:
            begin[axis] = 0 if step[axis] > 0 else _MAX
        if end_mask >> axis & 1:
            end[axis] = _MAX if step[axis] > 0 else _MIN
    value = _sliced(converter, operator, begin, end, step)
    if shrink:
        value = converter.reshaped(value, converter.shape(y), f"{converter.tensor(y).name}_shaped")
    converter.give(y, value)


def _slice(converter: Converter, operator: Operator) -> None:
    begin, size = (converter.constant(operator, place).astype(np.int64) for place in (1, 2))
    end = np.where(size < 0, _MAX, begin + size)
    converter.give(operator.outputs[0], _sliced(converter, operator, begin, end, np.ones(len(begin), np.int64)))


def _sliced(converter: Converter, operator: Operator, begin: np.ndarray, end: np.ndarray, step: np.ndarray) -> str:
    near = converter.tensor(operator.outputs[0]).name
    axes = np.arange(len(begin), dtype=np.int64)
    stored = [converter.store(each, f"{near}_slice") for each in (begin, end, axes, step)]
    return converter.emit("Slice", [converter.get(operator.inputs[0]), *stored], near)


def _gather(converter: Converter, operator: Operator) -> None:
    x, indices, y = operator.inputs[0], operator.inputs[1], operator.outputs[0]
    if operator.options.integer(1):
        raise refuse(operator, "batch axes have no form here")
    axis = operator.options.integer(0)
    value = converter.emit("Gather", [converter.get(x), converter.get(indices)], converter.tensor(y).name, axis=axis)
    converter.give(y, value)


def _repeat(converter: Converter, operator: Operator) -> None:
    y = operator.outputs[0]
    near, kind = converter.tensor(y).name, "Tile" if operator.name == "TILE" else "Expand"
    counts = converter.constant(operator, 1).astype(np.int64)
    stored = converter.store(counts, f"{near}_counts")
    converter.give(y, converter.emit(kind, [converter.get(operator.inputs[0]), stored], near))


def _shape(converter: Converter, operator: Operator) -> None:
    y = operator.outputs[0]
    converter.folded[y] = np.array(converter.shape(operator.inputs[0]), converter.tensor(y).kind)


HANDLERS: dict[str, Handler] = {
    "BROADCAST_TO": _repeat,
    "CONCATENATION": _concat,
    "EXPAND_DIMS": _reshape,
    "GATHER": _gather,
    "MIRROR_PAD": _pad,
    "PACK": _pack,
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "SHAPE": _shape,
    "SLICE": _slice,
    "SPLIT": _split,
    "SPLIT_V": _split,
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "TILE": _repeat,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
}

"""TFLite to ONNX: the whole graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper

from skerry_compiler.errors import ModelError, UnsupportedError
from skerry_compiler.tflite import convert_map, convert_shape, convert_spatial
from skerry_compiler.tflite.convert import ROWS, Converter
from skerry_compiler.tflite.model import Model, Tensor

OPSET = 17
IR_VERSION = 8
BYTES = (np.int8, np.uint8)
HANDLERS = {**convert_spatial.HANDLERS, **convert_map.HANDLERS, **convert_shape.HANDLERS}
_NAMED = 12  # operators named one by one before "and N more"


def convert(model: Model) -> ModelProto:
    """Return a model as ONNX. Inputs and outputs keep their names, order, types and shapes.

    Raises:
        UnsupportedError: operators without a form in ONNX; every one is named.
        ModelError: a node whose operands cannot be what it needs.
    """
    refuse_operators(model)
    converter = Converter(model)
    inputs = [_input(converter, index) for index in model.inputs]
    reserved = {index: converter.name(model.tensors[index].name or "output") for index in dict.fromkeys(model.outputs)}
    for operator in model.operators:
        try:
            HANDLERS[operator.name](converter, operator)
        except (IndexError, ValueError, ZeroDivisionError) as error:  # operands that no converter would have written
            words = f"node {operator.index} ({operator.name}) is not sound: {str(error)[:120]}"
            raise ModelError(words, hint="is the file damaged? convert it again") from error
    outputs = [_output(converter, index, name) for index, name in reserved.items()]
    graph = helper.make_graph(converter.nodes, "model", inputs, outputs, converter.initializers)
    made: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return made


def refuse_operators(model: Model) -> None:
    """Refuse operators that have no form in ONNX.

    Raises:
        UnsupportedError: names every one with its node.
    """
    unknown = [each for each in model.operators if each.name not in HANDLERS]
    if not unknown:
        return
    first = {each.name: each.index for each in reversed(unknown)}
    counts = Counter(each.name for each in unknown)
    said = [f"{name!r:.60} ({counts[name]} times, first at node {first[name]})" for name in sorted(first)]
    more = f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    raise UnsupportedError(
        f"{len(unknown)} of {len(model.operators)} nodes have no form in ONNX: {', '.join(said[:_NAMED])}{more}",
        hint="convert the model without custom operators and control flow",
    )


def _input(converter: Converter, index: int) -> ValueInfoProto:
    tensor = converter.tensor(index)
    name = converter.name(tensor.name or "input")
    value = name
    if _quantised(tensor):
        scale, zero_point = converter.scale(tensor, shifted=False)
        value = converter.emit("DequantizeLinear", [name, scale, zero_point], f"{name}_real")
        if tensor.kind is np.int8:
            value = converter.rounded(value, tensor)
    converter.values[(index, ROWS)] = value
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(tensor.kind)), tensor.shape)


def _output(converter: Converter, index: int, name: str) -> ValueInfoProto:
    tensor = converter.tensor(index)
    value = converter.get(index)
    if _quantised(tensor):
        converter.node("QuantizeLinear", [value, *converter.scale(tensor, shifted=False)], [name])
    else:
        converter.node("Identity", [value], [name])
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(tensor.kind)), tensor.shape)


def _quantised(tensor: Tensor) -> bool:
    if tensor.quantisation is None or tensor.kind not in BYTES:
        if tensor.quantisation is not None and tensor.kind is np.int16:
            raise UnsupportedError(f"tensor {tensor.name!r:.80} is quantised to 16 bits, which has no form here")
        return False
    if not tensor.quantisation.per_tensor:
        raise UnsupportedError(f"tensor {tensor.name!r:.80} has a scale for each channel")
    return True

"""Nodes whose inputs are all constants are computed while reading, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

IR_VERSION = 10


def computed(
    proto: onnx.NodeProto, known: Mapping[str, NDArray[Any]], opset: int, model: onnx.ModelProto
) -> dict[str, NDArray[Any]]:
    """Return the outputs of a node of constants by name.

    Args:
        proto: the node.
        known: constants by name, the node's inputs among them.
        opset: of the graph around it.
        model: where the node is from.

    Raises:
        ValueError: ONNX Runtime cannot compute it.
    """
    attributes = {each.name: each for each in proto.attribute}
    if proto.op_type == "Constant" and "value" in attributes:
        return {proto.output[0]: numpy_helper.to_array(attributes["value"].t)}
    names = list(dict.fromkeys(n for n in proto.input if n))
    kinds = [helper.np_dtype_to_tensor_dtype(known[n].dtype) for n in names]
    outputs = [n for n in proto.output if n]
    graph = helper.make_graph(
        [proto],
        "constant",
        [helper.make_tensor_value_info(n, k, known[n].shape) for n, k in zip(names, kinds, strict=True)],
        [helper.make_value_info(n, onnx.TypeProto()) for n in outputs],
    )
    opsets = [o for o in model.opset_import if o.domain not in ("", "ai.onnx")]
    opsets.append(helper.make_opsetid("", opset))
    one = helper.make_model(graph, opset_imports=opsets, ir_version=min(model.ir_version, IR_VERSION))
    try:
        session = ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
        results = session.run(None, {n: known[n] for n in names})
    except (RuntimeError, TypeError, ValueError, ort_errors.Fail, ort_errors.InvalidGraph, ort_errors.NotImplemented,
            ort_errors.InvalidArgument) as error:  # fmt: skip
        raise ValueError(str(error)[:200]) from error
    return {name: np.asarray(result) for name, result in zip(outputs, results, strict=True)}

"""One convolution network in the words of every opset, from 1 on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def network(opset: int, batch: str | int = "n") -> onnx.ModelProto:
    """Return Conv, BatchNormalization, Relu, MaxPool, Conv, global average, Reshape, Gemm and Softmax, as an exporter
    of that time wrote them; IR versions as they were, too.
    """
    random = np.random.default_rng(3)
    weights: dict[str, Any] = {
        "w1": random.normal(size=(8, 3, 3, 3)) / 5, "b1": random.normal(size=8), "s": random.uniform(0.5, 2, 8),
        "o": random.normal(size=8), "m": random.normal(size=8), "v": random.uniform(0.5, 2, 8),
        "w2": random.normal(size=(6, 8, 3, 3)) / 8, "d": random.normal(size=(6, 4)), "e": random.normal(size=4),
    }  # fmt: skip
    stored = [numpy_helper.from_array(each.astype(np.float32), name) for name, each in weights.items()]
    norm: dict[str, Any] = {"epsilon": 1e-3} | ({"is_test": 1} if opset < 7 else {})
    norm |= {"spatial": 1} if opset < 9 else {}
    old: dict[str, Any] = {"consumed_inputs": [0, 0, 0, 1, 1]} if opset < 6 else {}
    relu: dict[str, Any] = {"consumed_inputs": [0]} if opset < 6 else {}
    gemm: dict[str, Any] = {"broadcast": 1} if opset < 7 else {}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "s", "o", "m", "v"], ["b"], **norm, **old),
        helper.make_node("Relu", ["b"], ["c"], **relu),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w2"], ["q"], kernel_shape=[3, 3]),
        helper.make_node("GlobalAveragePool", ["q"], ["g"]),
        helper.make_node("Reshape", ["g"], ["f"], shape=[-1, 6])
        if opset < 5
        else helper.make_node("Reshape", ["g", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "d", "e"], ["h"], **gemm),
        helper.make_node("Softmax", ["h"], ["y"], axis=1),
    ]
    if opset >= 5:
        stored.append(numpy_helper.from_array(np.array([-1, 6], np.int64), "shape"))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 12, 10])]
    if opset < 9:  # below IR 4 every initializer is an input as well
        inputs += [helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in stored]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])]
    graph = helper.make_graph(nodes, "net", inputs, outputs, stored)
    version = 3 if opset < 9 else helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version)

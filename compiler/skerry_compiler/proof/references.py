"""The models that a board is proven with: small enough for a microcontroller, together of every kind that the native
engine generates. Their numbers come from a fixed seed, so that their artifacts are the same everywhere.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skerry_contracts.bundle import Signature
from skerry_contracts.tensor import DType, TensorSpec

Floats = NDArray[np.float32]
ROWS, CLASSES = 8, 10


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """A model, rows for it (rows x its input without the batch), and whether it is generated in bytes."""

    name: str
    model: onnx.ModelProto
    rows: Floats
    in_bytes: bool = False

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        shape = (1, *self.rows.shape[1:])
        return Signature((TensorSpec("x", DType.FP32, shape),), (TensorSpec("y", DType.FP32, (1, CLASSES)),))


@functools.cache
def references() -> tuple[Reference, ...]:
    """Return all of them: dense layers, convolutions, and both again in bytes."""
    made = []
    for name, (model, shape) in {"dense": _dense(), "convolutions": _convolutions()}.items():
        rows = np.random.default_rng(7).standard_normal((ROWS, *shape)).astype(np.float32)
        made += [Reference(name, model, rows), Reference(f"{name}-int8", model, rows, in_bytes=True)]
    return tuple(made)


def _dense() -> tuple[onnx.ModelProto, tuple[int, ...]]:
    draw = np.random.default_rng(1)
    weights = {"w1": _weights(draw, 64, 48), "b1": _weights(draw, 48), "w2": _weights(draw, 48, CLASSES)}
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("Softmax", ["c"], ["y"]),
    ]
    return _model(nodes, weights, (64,)), (64,)


def _convolutions() -> tuple[onnx.ModelProto, tuple[int, ...]]:
    draw, shape = np.random.default_rng(2), (3, 16, 16)
    weights = {
        "w1": _weights(draw, 16, 3, 3, 3),
        "w2": _weights(draw, 16, 1, 3, 3),
        "w3": _weights(draw, 24, 16, 1, 1),
        "w4": _weights(draw, 24, CLASSES),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "w3"], ["e"]),
        helper.make_node("HardSwish", ["e"], ["f"]),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("MatMul", ["h", "w4"], ["i"]),
        helper.make_node("Softmax", ["i"], ["y"]),
    ]
    return _model(nodes, weights, shape), shape


def _weights(draw: np.random.Generator, *shape: int) -> Floats:
    fan = float(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
    drawn: Floats = (draw.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)
    return drawn


def _model(nodes: list[onnx.NodeProto], weights: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(each, name) for name, each in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

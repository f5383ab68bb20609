"""Small models to run passes on, and ONNX Runtime as the judge of what they leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skerry_compiler.passes import base
from skerry_compiler.passes.base import Pass
from skerry_compiler.passes.dead_code import DeadCode
from skerry_compiler.passes.fixed_shapes import inferred

Array = NDArray[Any]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int]],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Return a model with the shapes that can be inferred."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(content), name) for name, content in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10)
    return inferred(made)


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """Return a node of one output; inputs by blanks."""
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def session(built: onnx.ModelProto, *, optimised: bool = False) -> onnxruntime.InferenceSession:
    """Return a session that runs the graph as it stands, or as ONNX Runtime rewrites it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(built.SerializeToString(), options, providers=["CPUExecutionProvider"])


def answers(built: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Return what ONNX Runtime gives for a graph as it stands."""
    return [np.asarray(each) for each in session(built).run(None, dict(feeds))]


def after(built: onnx.ModelProto, *passes: Pass) -> onnx.ModelProto:
    """Return a copy of a model after passes and dead-code removal, checked by ONNX."""
    copy = onnx.ModelProto()
    copy.CopyFrom(built)
    made = base.run_all(copy, [*passes, DeadCode()])
    onnx.checker.check_model(made)
    return made


def kinds(built: onnx.ModelProto) -> list[str]:
    """Return the operators in order."""
    return [each.op_type for each in built.graph.node]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Return standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

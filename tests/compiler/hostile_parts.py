"""Models by hand, for tests that make them wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from skerry_compiler import compiling, sandbox
from skerry_compiler.prepared import Prepared
from skerry_compiler.request import Request
from skerry_targets import catalogue

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
OPEN = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])
TRUE = numpy_helper.from_array(np.array(True), "true")


def built(nodes: list[onnx.NodeProto], stored: list[TensorProto] | None = None, **options: Any) -> ModelProto:
    """A model of one input and one output; options: inputs, outputs, opset, ir, functions, imports."""
    inputs, outputs = options.get("inputs", [X]), options.get("outputs", [Y])
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored or [])
    imports = [helper.make_opsetid("", options.get("opset", 17)), *options.get("imports", [])]
    model = helper.make_model(graph, opset_imports=imports, ir_version=options.get("ir", 8))
    model.functions.extend(options.get("functions", []))
    return model


def stored(name: str, values: object, kind: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.array(values, kind), name)


def sandboxed(model: ModelProto | bytes, folder: Path, limits: sandbox.Limits | None = None) -> Prepared:
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    request = Request(path, catalogue.get("x86-64-v3"), "m", "1", 1, time_s=1)
    if limits is None:
        return compiling.prepare(request, folder, wanted=frozenset())
    call = sandbox.call
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "call", lambda module, job, place, _, *more: call(module, job, place, limits, *more))
        return compiling.prepare(request, folder, wanted=frozenset())

"""Build a model with the native engine and run it here, beside ONNX Runtime on the same bytes."""

from __future__ import annotations

import ctypes
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from skerry_compiler.engines.native import build, emit_forest, fuse, lower, source
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.passes import base
from skerry_compiler.passes.constant_fold import ConstantFold
from skerry_compiler.passes.dead_code import DeadCode
from skerry_compiler.passes.fixed_shapes import FixedShapes
from skerry_compiler.passes.plain_form import PlainForm
from skerry_compiler.passes.tensor_outputs import TensorOutputs
from skerry_targets import catalogue

V2 = Machine.of(catalogue.get("x86-64-v2"))
HOST = Machine.of(catalogue.get("host"))
SCALAR = dataclasses.replace(V2, lanes=1, vector_registers=8)  # a processor without vectors, on one that has some
WIDE = dataclasses.replace(V2, lanes=16, vector_registers=32)  # wider than the processor: right, if slow


def simple(
    nodes: list[onnx.NodeProto], shape: list[int], outputs: dict[str, int], **weights: np.ndarray
) -> onnx.ModelProto:
    """Return a model with one float input x."""
    values = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    stored = [numpy_helper.from_array(content, name) for name, content in weights.items()]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], values, stored
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    return base.run_all(model, [PlainForm(), TensorOutputs(), FixedShapes({}), ConstantFold(), DeadCode()])


def text(model: onnx.ModelProto, machine: Machine, form: str = emit_forest.TABLE) -> str:
    return source.generate(fuse.fuse(lower.lower(model)), machine, form).text


def native(
    model: onnx.ModelProto, rows: np.ndarray, machine: Machine, form: str = emit_forest.TABLE
) -> list[np.ndarray]:
    """Return each output over all rows, f[rows, ...]; rows are f32[rows, *input shape]."""
    expected = reference(model, rows[:1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.so"
        path.write_bytes(build.artifact(text(model, machine, form), machine))
        library = ctypes.CDLL(str(path))
    results: list[list[np.ndarray]] = [[] for _ in expected]
    for row in rows:
        held = np.ascontiguousarray(row)
        outputs = [np.zeros_like(each[0]) for each in expected]
        sources = (ctypes.c_void_p * 1)(held.ctypes.data)
        targets = (ctypes.c_void_p * len(outputs))(*(each.ctypes.data for each in outputs))
        assert library.skerry_run(sources, targets) == 0
        for place, each in enumerate(outputs):
            results[place].append(each)
    return [np.stack(each) for each in results]


def reference(model: onnx.ModelProto, rows: np.ndarray) -> list[np.ndarray]:
    """Return ONNX Runtime's outputs, row by row."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers = [session.run(None, {"x": row}) for row in rows]
    return [np.stack(each) for each in zip(*answers, strict=True)]


def agree(
    model: onnx.ModelProto, rows: np.ndarray, machine: Machine, form: str = emit_forest.TABLE, rtol: float = 2e-5
) -> None:
    """Compare every output: whole numbers equal, floats close."""
    model = prepared(model)
    for one, two in zip(native(model, rows, machine, form), reference(model, rows), strict=True):
        assert one.shape == two.shape and one.dtype == two.dtype
        if one.dtype.kind == "f":
            np.testing.assert_allclose(
                one, two, rtol=rtol, atol=rtol * max(1.0, float(np.nanmax(np.abs(two), initial=0.0)))
            )
        else:
            np.testing.assert_array_equal(one, two)

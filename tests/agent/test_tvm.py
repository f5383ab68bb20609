"""TVM through tvm-ffi's C ABI: a library compiled ahead, against ONNX Runtime; needs TVM, which is not locked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry_agent.engines import catalogue, library
from skerry_agent.engines.base import Engine, EngineError, Job, Spec
from skerry_compiler.engines import tvm
from skerry_compiler.engines.candidate import Draft, Failure
from skerry_targets import catalogue as targets

pytestmark = pytest.mark.skipif(
    library.find("tvm") is None or importlib.util.find_spec("tvm") is None,
    reason="TVM is not installed (311 MB, opt-in): pip install skerry[tvm]",
)
PROFILE = targets.get("x86-64-v3")
INPUTS = [Spec("image", "FP32", (1, 3, 8, 8)), Spec("gain", "FP32", (1, 4, 1, 1))]
OUTPUTS = [Spec("map", "FP32", (1, 4, 8, 8)), Spec("mean", "FP32", (1, 4))]


def network(*, single: bool = False) -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Mul", ["r", "gain"], ["map"]),
        helper.make_node("ReduceMean", ["map"], ["mean"], axes=[2, 3], keepdims=0),
    ]
    inputs, outputs = (
        [helper.make_tensor_value_info(each.name, TensorProto.FLOAT, each.shape) for each in specs]
        for specs in (INPUTS, OUTPUTS[:1] if single else OUTPUTS)
    )
    graph = helper.make_graph(nodes[: 3 if single else 4], "net", inputs, outputs, [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tvm") / "0123456789abcdef"  # as a blob is named: without an ending
    path.write_bytes(tvm.library(network(), PROFILE))
    return path


def load(path: Path, outputs: list[Spec] | None = None) -> Engine:
    return catalogue.start(Job("tvm", {"library": str(path)}, INPUTS, outputs or OUTPUTS, {}))


def rows(seed: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=spec.shape).astype(np.float32) for spec in INPUTS]


def test_answers_are_onnx_runtimes(built: Path) -> None:
    engine = load(built)
    session = onnxruntime.InferenceSession(network().SerializeToString(), providers=["CPUExecutionProvider"])
    found = [np.zeros(spec.shape, np.float32) for spec in OUTPUTS]
    held = bytearray(4 * 3 * 64 + 4)
    for seed in range(4):
        feed = rows(seed)
        held[4:] = feed[0].tobytes()  # as a producer may lay it: at no particular address
        engine.run([memoryview(held)[4:], feed[1].data], [each.data for each in found])
        expected = session.run(None, {"image": feed[0], "gain": feed[1]})
        for one, two in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    engine.close()


def test_the_same_bytes_in_another_folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "a folder of a longer name"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert tvm.library(network(), PROFILE) == built.read_bytes()


def test_one_output_and_wrong_ones(tmp_path: Path) -> None:
    path = tmp_path / "single"
    path.write_bytes(tvm.library(network(single=True), PROFILE))
    feed, found = rows(1), np.zeros((1, 4, 8, 8), np.float32)
    load(path, OUTPUTS[:1]).run([each.data for each in feed], [found.data])
    assert np.abs(found).max() > 0
    small = np.zeros((1, 4, 8, 7), np.float32)
    with pytest.raises(EngineError, match="1024 bytes, 896 expected"):
        load(path, [Spec("map", "FP32", (1, 4, 8, 7))]).run([each.data for each in feed], [small.data])
    with pytest.raises(EngineError, match="TVM"):
        wrong = [np.zeros((1, 3, 8, 9), np.float32), feed[1]]
        engine = catalogue.start(
            Job("tvm", {"library": str(path)}, [Spec("image", "FP32", (1, 3, 8, 9)), INPUTS[1]], OUTPUTS[:1], {})
        )
        engine.run([each.data for each in wrong], [found.data])


def test_noise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    for content in (b"", b"noise" * 100, b"\x7fELF" + bytes(60)):
        path.write_bytes(content)
        with pytest.raises(EngineError) as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_the_candidate_and_what_it_refuses() -> None:
    (draft,) = tvm.candidates(network(single=True), PROFILE)
    assert isinstance(draft, Draft) and draft.requires.cpu_features == tuple(sorted(PROFILE.cpu.features))
    strange = network(single=True)
    strange.graph.node[1].op_type, strange.graph.node[1].domain = "Binarizer", "ai.onnx.ml"
    (failure,) = tvm.candidates(strange, PROFILE)
    assert isinstance(failure, Failure) and "Binarizer" in failure.reason

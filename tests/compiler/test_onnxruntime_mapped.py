"""Large weights beside the graph: the same answers as ONNX Runtime's own session, one layout for every writer, damage
refused, and less memory than the graph alone.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from skerry_agent.engines import catalogue as device
from skerry_agent.engines.base import Engine, EngineError, Job, Spec
from skerry_compiler.engines import onnxruntime_mapped as mapped
from skerry_compiler.engines.candidate import Draft, Failure
from skerry_compiler.errors import UnsupportedError
from skerry_compiler.measure import probe_command
from skerry_targets import catalogue, host
from skerry_targets.profile import Profile

WIDE = 1024
SPECS = [Spec("x", "FP32", (1, WIDE))], [Spec("y", "FP32", (1, WIDE))]


def network(*, inside: bool = False) -> onnx.ModelProto:
    """Return two large products with a bias between them; `inside` puts the second into the body of an If."""
    draw = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(draw.normal(size=(WIDE, WIDE)).astype(np.float32) / 32, f"w {each}/é") for each in "ab"
    ]
    weights.append(numpy_helper.from_array(draw.normal(size=WIDE).astype(np.float32), "bias"))
    second = helper.make_node("MatMul", ["h", weights[1].name], ["y"])
    nodes = [helper.make_node("Gemm", ["x", weights[0].name, "bias"], ["h"])]
    if inside:
        branch = helper.make_node("MatMul", ["h", weights[1].name], ["inner"])
        out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, WIDE])
        body = helper.make_graph([branch], "body", [], [out])
        nodes += [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "zero"], ["positive"]),
            helper.make_node("If", ["positive"], ["y"], then_branch=body, else_branch=body),
        ]
        weights.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    else:
        nodes.append(second)
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDE]) for name in "xy"]
    graph = helper.make_graph(nodes, "wide", value[:1], value[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def convolutions() -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    first = numpy_helper.from_array(draw.normal(size=(256, 512, 3, 3)).astype(np.float32) / 64, "first")
    second = numpy_helper.from_array(draw.normal(size=(64, 256, 1, 1)).astype(np.float32) / 16, "second")
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "second"], ["y"]),
    ]
    value = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 512, 4, 4])]
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 4, 4])]
    graph = helper.make_graph(nodes, "convolutions", value, result, [first, second])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def opened(folder: Path, files: dict[str, bytes], specs: tuple[list[Spec], list[Spec]] = SPECS) -> Engine:
    paths = {}
    for role, content in files.items():
        paths[role] = str(folder / role)
        Path(paths[role]).write_bytes(content)
    return device.start(Job("onnxruntime", paths, *specs, {"graph": "none"}))


def drafted(model: onnx.ModelProto, profile: Profile) -> dict[str, Draft | Failure]:
    return {each.id: each for each in mapped.candidates(model, profile)}


@pytest.mark.parametrize("inside", [False, True])
def test_answers_are_the_sessions_own(tmp_path: Path, inside: bool) -> None:
    content = network(inside=inside).SerializeToString()
    graph, weights = mapped.split(content)
    assert len(graph) < 10_000 and mapped.split(content) == (graph, weights)
    loaded = opened(tmp_path, {"model": graph, "weights": weights})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for seed in range(3):
        row = np.random.default_rng(seed).normal(size=(1, WIDE)).astype(np.float32)
        found = np.zeros((1, WIDE), np.float32)
        loaded.run([row.data], [found.data])
        np.testing.assert_allclose(found, session.run(None, {"x": row})[0], rtol=1e-4, atol=1e-5)
    loaded.close()


def test_small_models_keep_one_file() -> None:
    model = network()
    del model.graph.initializer[:]
    with pytest.raises(UnsupportedError, match="less than 4 MB"):
        mapped.split(model.SerializeToString())


def test_boards_get_the_layout_of_their_processor(tmp_path: Path) -> None:
    plain, wide = (drafted(convolutions(), catalogue.get(name)) for name in ("x86-64-v3", "x86-64-v4"))
    assert "ort-mapped" in plain and "ort-mapped-avx512" not in plain
    blocked = wide["ort-mapped-avx512"]
    if "avx512f" not in host.cpu_info().features:
        assert isinstance(blocked, Failure)
        return
    assert "ort-mapped" not in wide and isinstance(blocked, Draft) and blocked.requires.cpu_features == ("avx512f",)
    assert blocked.requires.engine_min == onnxruntime.__version__
    portable = plain["ort-mapped"]
    assert isinstance(portable, Draft) and portable.requires.cpu_features == ()
    domains = [
        {node.domain for node in onnx.ModelProto.FromString(each.files["model"]).graph.node}
        for each in (portable, blocked)
    ]
    assert "com.microsoft.nchwc" not in domains[0] and "com.microsoft.nchwc" in domains[1]
    row = np.random.default_rng(1).normal(size=(1, 512, 4, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(convolutions().SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": row})[0]
    specs = [Spec("x", "FP32", (1, 512, 4, 4))], [Spec("y", "FP32", (1, 64, 4, 4))]
    for each in (portable, blocked):
        found = np.zeros((1, 64, 4, 4), np.float32)
        opened(tmp_path, each.files, specs).run([row.data], [found.data])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_damage_is_refused(tmp_path: Path) -> None:
    graph, weights = mapped.split(network().SerializeToString())
    index = weights[16 : 16 + int.from_bytes(weights[8:16], "little")]
    far = weights.replace(index, index.replace(b" 64\t", b" 65\t"), 1)
    far = far if far != weights else weights.replace(b"\t", b"\n", 1)
    for content in (b"", b"SKERRYW1", weights[:100], weights[:-100], b"x" + weights[1:], far):
        with pytest.raises(EngineError) as caught:
            opened(tmp_path, {"model": graph, "weights": content})
        assert "\n" not in str(caught.value)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_any_index_is_read_or_refused(noise: bytes) -> None:
    from tempfile import TemporaryDirectory

    from skerry_agent.engines.onnxruntime import _Weights

    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        path.write_bytes(b"SKERRYW1" + len(noise).to_bytes(8, "little") + noise + bytes(64))
        try:
            found = _Weights(str(path))
        except EngineError:
            return
        assert all(spec.size_bytes <= path.stat().st_size for spec, _ in found.specs)


def test_weights_are_held_once_not_twice(tmp_path: Path) -> None:
    content = network().SerializeToString()
    graph, weights = mapped.split(content)
    signature = {
        side: [{"name": name, "dtype": "FP32", "shape": [1, WIDE]}]
        for side, name in (("inputs", "x"), ("outputs", "y"))
    }
    peaks = []
    for files in ({"model": content}, {"model": graph, "weights": weights}):
        blobs = {}
        for role, each in files.items():
            (tmp_path / f"{len(each)}").write_bytes(each)
            blobs[role] = {"sha256": f"{len(each)}", "size_bytes": len(each)}
        plain = {"id": "one", "engine": "onnxruntime", "blobs": blobs, "options": {"graph": "none"}}
        (tmp_path / "manifest.json").write_text(json.dumps({"variants": [plain], "signature": signature}))
        (tmp_path / "rows").write_bytes(bytes(4 * WIDE))
        command = probe_command(tmp_path, "one", tmp_path / "rows", None)
        done = subprocess.run(command, input="1\n", capture_output=True, text=True, check=True)
        peaks.append(json.loads(done.stdout.splitlines()[-1])["peak_rss_bytes"])
    assert peaks[1] < peaks[0] - len(weights) // 4  # half of them in truth; the rest is the allocator's noise

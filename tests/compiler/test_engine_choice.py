"""Which engines compete: all that need not be named, or those that a person names; what each drafts for a board."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry_compiler import compiling, foreign, pack, rebuilding
from skerry_compiler.engines import catalogue, openvino
from skerry_compiler.engines.candidate import Draft, Failure
from skerry_compiler.engines.pairs import Pairs
from skerry_compiler.request import Request
from skerry_contracts.evidence import Candidate, Measurement, Verdict
from skerry_targets import catalogue as targets
from skerry_targets.errors import TargetError
from skerry_targets.profile import Profile, chosen_engines

V3, V4 = targets.get("x86-64-v3"), targets.get("x86-64-v4")


def small(domain: str = "", op: str = "Relu") -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    weights = numpy_helper.from_array(draw.normal(size=(6, 3, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node(op, ["c"], ["y"], domain=domain)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 6, 6])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, [weights])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def rows(count: int = 8) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(count, 3, 8, 8)).astype(np.float32)}


def given(profile: Profile, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, Draft | Failure]:
    return {each.id: each for each in openvino.candidates(model, profile, Pairs(model, profile, feeds))}


def test_large_engines_compete_only_by_name() -> None:
    assert chosen_engines(V4, None) == ("native", "onnxruntime", "litert")
    assert chosen_engines(V4, ["openvino", "native"]) == ("native", "openvino")
    for names in (["abacus"], [], [""]):
        with pytest.raises(TargetError) as caught:
            chosen_engines(V4, names)
        assert "openvino" in caught.value.hint


@pytest.mark.parametrize("names", [("native",), ("onnxruntime", "openvino"), ("litert",)])
def test_only_the_chosen_draft(names: tuple[str, ...], tmp_path: Path) -> None:
    model = small()
    material = catalogue.Material(model, V4, rows(), tmp_path / "m.onnx", "onnx", names)
    assert {each.engine for each in catalogue.drafts(material, lambda words: None)} == set(names)


def test_precision_is_always_said_and_asked_of_the_processor() -> None:
    made = given(V4, small(), rows())
    float32, int8 = made["openvino"], made["openvino-int8"]
    assert isinstance(float32, Draft) and isinstance(int8, Draft)
    assert float32.options == {"precision": "f32"} and float32.requires.cpu_features == ()
    assert int8.options == {"precision": "f32"} and int8.requires.cpu_features == ("avx512_vnni",)
    assert "openvino-bf16" not in made
    cpu = dataclasses.replace(V4.cpu, features=(*V4.cpu.features, "avx512_bf16"))
    wide = given(dataclasses.replace(V4, cpu=cpu), small(), rows())["openvino-bf16"]
    assert isinstance(wide, Draft)
    assert wide.options == {"precision": "bf16"} and wide.requires.cpu_features == ("avx512_bf16",)
    assert wide.files == float32.files  # one file on the device, whatever it is computed in
    assert wide.requires.engine_min == V4.engines["openvino"].version_min


def test_what_it_cannot_take_is_said() -> None:
    (failure,) = given(V4, small("ai.onnx.ml", "Binarizer"), rows()).values()
    assert isinstance(failure, Failure) and "ai.onnx.ml" in failure.reason
    without = given(V4, small(), {})["openvino-int8"]
    assert isinstance(without, Failure) and "no calibration data" in without.reason


def test_pairs_are_made_once_and_are_the_same_for_every_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    pairs = Pairs(model, V3, rows())
    before = model.SerializeToString()
    first = pairs.model()
    assert pairs.model() is first and model.SerializeToString() == before
    assert pairs.features() == () and Pairs(model, V4, rows()).features() == ("avx512_vnni",)
    kinds = {node.op_type for node in first.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_a_bundle_remembers_the_choice_and_is_made_again_with_it(tmp_path: Path) -> None:
    source = tmp_path / "small.onnx"
    onnx.save(small(), source)
    request = Request(source, V4, "small", "1", 1, time_s=0.5, engines=("native",))
    made = compiling.compile_model(request, 1_800_000_000.0, lambda words: None)
    assert {each.engine for each in made.manifest.variants} == {"native"}
    assert made.manifest.recipe.options["engines"] == "native"
    assert made.evidence is not None and {each.engine for each in made.evidence.candidates} == {"native"}
    again = rebuilding.request_of(made.manifest, source, None, trust_pickle=False)
    assert again.engines == ("native",)
    assert "engines" not in pack.recipe(dataclasses.replace(request, engines=None), "onnx", ()).options


def test_where_none_passes_the_fastest_that_answers_right_runs_the_original() -> None:
    def told(name: str, verdict: Verdict, cpu_ms: float) -> Candidate:
        return Candidate(name, "any", "fp32", verdict, "", Measurement(1.0, 1.0, 1.0, 1.0, 1, cpu_ms))

    plain, tflite = told("ort-plain", Verdict.SLOWER, 3.0), told("litert-plain", Verdict.SLOWER, 2.0)
    wrong, large = told("ort", Verdict.INACCURATE, 1.0), told("ort-plain", Verdict.TOO_LARGE, 1.0)
    assert foreign.stand_in([plain, wrong, tflite]) == "litert-plain"
    assert foreign.stand_in([wrong, large]) == "ort-plain"
    assert foreign.stand_in([wrong]) == "ort"

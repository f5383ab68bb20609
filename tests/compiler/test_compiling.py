"""Whole compiles: a measured winner, a bundle that opens, the same bytes from the recipe elsewhere, boards that are
not this machine.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.compiler.conftest import Models

from skerry_compiler import compiling, rebuilding, sandbox
from skerry_compiler.compiling import Result
from skerry_compiler.emulators import catalogue as emulators
from skerry_compiler.errors import CompileError, LimitError, UnsupportedError
from skerry_compiler.request import Request
from skerry_contracts import codec, container
from skerry_contracts.evidence import Verdict
from skerry_targets import catalogue


def request(source: Path, target: str = "host", **changes: object) -> Request:
    made = Request(source, catalogue.get(target), "digits", "1.0", 1, time_s=0.5)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]  # fields by name


def compiled(made: Request) -> Result:
    return compiling.compile_model(made, 1_800_000_000.0, lambda words: None)


def container_of(result: Result) -> container.Container:
    file = io.BytesIO()
    container.write_container(file, result.manifest_bytes, result.blobs.items(), codec.encode(result.evidence))
    opened = container.open_container(file)
    opened.verify()
    return opened


@pytest.fixture(scope="module")
def forest(models: Models) -> Result:
    return compiled(request(models.forest, calibration=models.calibration, evaluation=models.evaluation))


def test_a_forest_ships_generated_code_with_evidence(forest: Result) -> None:
    manifest, evidence = forest.manifest, forest.evidence
    assert manifest.variants[0].engine == "native" and manifest.variants[0].requires.libc is None
    assert evidence is not None and evidence.original is not None and evidence.executed_on == "host"
    assert evidence.bundle == codec.digest(forest.manifest_bytes)
    verdicts = {each.id: each.verdict for each in evidence.candidates}
    assert list(verdicts.values()).count(Verdict.CHOSEN) == 1 and {"native-table", "native-branchy", "ort"} <= set(
        verdicts
    )
    chosen = next(each for each in evidence.candidates if each.verdict is Verdict.CHOSEN)
    assert chosen.agreement is not None and chosen.agreement.top1 == 1.0 and chosen.measurement is not None
    assert manifest.contract.accuracy_floor is not None and manifest.contract.accuracy_floor > 0.7
    assert manifest.signature.labels == tuple("0123456789") and manifest.signature.score_output == "probabilities"
    assert manifest.signature.label_output == "label" and manifest.signature.inputs[0].name == "image"
    assert {each.source for each in manifest.baseline} >= {"input:image:0", "input:image:63", "confidence", "label"}
    container_of(forest)


def test_the_recipe_gives_the_same_bytes_in_another_folder(forest: Result, models: Models, tmp_path: Path) -> None:
    for source in (models.forest, models.calibration):
        shutil.copy(source, tmp_path / source.name)
    made = request(tmp_path / models.forest.name, calibration=tmp_path / models.calibration.name)
    opened = container_of(forest)
    again = rebuilding.rebuild(made, opened, lambda words: None)
    assert again.manifest_bytes == forest.manifest_bytes and again.blobs == forest.blobs
    with pytest.raises(CompileError, match="calibration data"):
        rebuilding.rebuild(dataclasses.replace(made, calibration=None), opened, lambda words: None)
    with pytest.raises(CompileError, match="not the model"):
        rebuilding.rebuild(dataclasses.replace(made, source=models.mlp), opened, lambda words: None)


@pytest.mark.parametrize("name", ["mlp.onnx", "mlp.skops"])
def test_a_pipeline_with_text_labels(models: Models, name: str) -> None:
    made = request(models.folder / name, "x86-64-v2", calibration=models.calibration, evaluation=models.evaluation)
    result = compiled(made)
    assert result.manifest.variants[0].engine == "native" and result.manifest.target == "x86-64-v2"
    assert result.manifest.signature.labels == tuple("0123456789")
    assert result.manifest.signature.outputs[0].dtype.value == "INT64"
    assert result.evidence is not None and result.evidence.original_accuracy is not None
    assert result.evidence.original_accuracy > 0.7


@pytest.mark.parametrize("target", ["arm64", "raspberry-pi-4"])
def test_another_machine_is_compiled_and_called_unmeasured(models: Models, target: str) -> None:
    result = compiled(request(models.forest, target, evaluation=models.evaluation))
    assert result.evidence is not None and result.evidence.original is None
    first = result.manifest.variants[0]
    library = result.blobs[first.blobs["library"].sha256]
    assert first.requires.machine == "aarch64" and library[18] == 0xB7
    chosen = next(each for each in result.evidence.candidates if each.verdict is Verdict.CHOSEN)
    assert "unmeasured" in chosen.reason and chosen.measurement is None
    if emulators.available(catalogue.get(target)):
        assert result.evidence.executed_on == "qemu-aarch64-static"
        assert chosen.agreement is not None and chosen.agreement.top1 == 1.0


def test_a_microcontroller_gets_few_bytes(models: Models, tmp_path: Path) -> None:
    """Without ONNX Runtime; a forest in the small form, a network in bytes where the objective is size."""
    result = compiled(request(models.forest, "cortex-m4", evaluation=models.evaluation))
    first = result.manifest.variants[0]
    assert first.id == "native-small" and first.requires.os == "none" and first.requires.machine == "thumb"
    if not emulators.available(catalogue.get("cortex-m4")):
        pytest.skip("needs qemu-system-arm")
    assert result.evidence is not None and result.evidence.executed_on == "qemu-system-arm"
    chosen = next(each for each in result.evidence.candidates if each.verdict is Verdict.CHOSEN)
    assert chosen.agreement is not None and chosen.agreement.top1 == 1.0
    rows = np.random.default_rng(1).normal(size=(40, 32)).astype(np.float32)
    np.savez(tmp_path / "cal.npz", image=rows)
    path = network(tmp_path / "m.onnx", *["Relu"] * 6)
    model = onnx.load(path)
    for stored in model.graph.initializer:  # so that values stay as large as they are
        stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored) / 6, stored.name))
    onnx.save(model, path)
    made = compiled(request(path, "cortex-m4", calibration=tmp_path / "cal.npz", objective="size", time_s=5.0))
    assert made.manifest.variants[0].precision == "int8"


def network(path: Path, *operators: str) -> Path:
    """Save a network whose layers are joined by operators."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.normal(size=(32, 32)).astype(np.float32), f"w{i}") for i in range(len(operators))
    ]
    nodes, last = [], "image"
    for index, operator in enumerate(operators):
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [f"m{index}"]))
        nodes.append(helper.make_node(operator, [f"m{index}"], [f"o{index}"]))
        last = f"o{index}"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 32]) for name in ("image", last)]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_what_generated_code_cannot_say_runs_on_onnx_runtime(tmp_path: Path) -> None:
    np.savez(tmp_path / "cal.npz", image=np.random.default_rng(1).normal(size=(40, 32)).astype(np.float32))
    path = network(tmp_path / "m.onnx", "Relu")
    model = onnx.load(path)  # then determinants of two squares
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([-1, 2, 4, 4]), "squares"))
    model.graph.node.append(helper.make_node("Reshape", ["o0", "squares"], ["s"]))
    model.graph.node.append(helper.make_node("Det", ["s"], ["d"], name="area"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("d", TensorProto.FLOAT, ["n", 2]))
    onnx.save(model, path)
    result = compiled(request(path, calibration=tmp_path / "cal.npz"))
    assert result.manifest.variants[0].engine == "onnxruntime" and result.evidence is not None
    native = next(each for each in result.evidence.candidates if each.id == "native-network")
    assert native.verdict is Verdict.FAILED and "Det" in native.reason and "area" in native.reason
    assert any(each.precision == "int8" for each in result.evidence.candidates)
    container_of(result)


def test_a_profile_without_room_is_refused(models: Models) -> None:
    small = dataclasses.replace(catalogue.get("host").budget, artifact_bytes=10)
    profile = dataclasses.replace(catalogue.get("host"), budget=small)
    with pytest.raises(LimitError, match="allows 10") as caught:
        compiled(request(models.forest, profile=profile))
    assert "is the nearest with room" in caught.value.hint


def test_a_model_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["big"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1] if name == "x" else None) for name in "xy"]
    big = numpy_helper.from_array(np.array([40_000, 40_000], np.int64), "big")
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [big])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "bomb.onnx"
    )
    with pytest.raises(CompileError) as caught:
        compiled(request(tmp_path / "bomb.onnx"))
    assert "\n" not in str(caught.value)


def test_the_sandbox_ends_what_takes_too_long_and_passes_errors_on(models: Models, tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="reading took more than"):
        sandbox.call("skerry_compiler.prepare", {}, tmp_path, sandbox.Limits(time_s=0), "reading")
    with pytest.raises(CompileError):
        sandbox.call("skerry_compiler.prepare", {}, tmp_path, sandbox.Limits(), "reading")
    (tmp_path / "m.onnx").write_bytes(
        models.forest.read_bytes().replace(b"TreeEnsembleClassifier", b"TreeEnsembleClassifyer")
    )
    with pytest.raises(UnsupportedError, match="nearest TreeEnsembleClassifier"):
        compiled(request(tmp_path / "m.onnx"))

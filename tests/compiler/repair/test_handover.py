"""What a trainer gets for retraining: QDQ ONNX that runs and agrees with the candidate, JSON that says everything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.compiler.network.conftest import model, random, reference
from tests.compiler.repair.nets import material, network, node, rows, signature, workshop
from tests.compiler.repair.test_search import FAST, hard

from skerry_compiler import cli
from skerry_compiler.errors import CompileError
from skerry_compiler.repair import handover, offers
from skerry_compiler.repair.recipe import Recipe, parse
from skerry_compiler.repair.search import Search
from skerry_compiler.repair.simulate import rounded_weight

WORDS = ["--target", "host", "--model", "m", "--version", "1", "--release", "1", "--budget", "2", "--quiet"]


@pytest.fixture(scope="module")
def searched() -> Search:
    proto = hard()
    search = Search(workshop(proto, 10), signature(proto), FAST, lambda: 1e9, lambda _: None)
    for recipe in (Recipe("minmax"), Recipe("p99.99", leave=(6, 7), cle=True), Recipe("mse", skip=2, other=(4,))):
        search.score(recipe)
    return search


def test_the_onnx_runs_and_gives_the_candidate_s_answers(searched: Search) -> None:
    made = handover.made(searched)
    proto = onnx.load_from_string(made.onnx)
    onnx.checker.check_model(proto, full_check=True)
    recipe = parse(made.plain["candidate"])
    assert recipe is not None
    shop = searched.workshop
    for place, (expected,) in enumerate(shop.answers(recipe, shop.everything, (0, 1))):
        (found,) = reference(proto, shop.rows[place])
        span = float(max(expected.max(), 0) - min(expected.min(), 0))
        np.testing.assert_allclose(found, expected, atol=0.05 * span)


def test_the_json_says_all_layers_scales_and_errors(searched: Search) -> None:
    made = handover.made(searched)
    plain = json.loads(json.dumps(made.plain))
    assert plain["format"] == handover.FORM
    proto = onnx.load_from_string(made.onnx)
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in proto.graph.initializer}
    nodes = {each.name: each for each in proto.graph.node}
    assert [each["number"] for each in plain["layers"]] == list(range(len(searched.workshop.order)))
    for layer in plain["layers"]:
        assert (layer["error"] is not None) == layer["bytes"] == ("weight" in layer)
        if layer["bytes"]:
            name = nodes[layer["name"]].input[1].removesuffix("/real")
            np.testing.assert_allclose(stored[f"{name}/scale"], layer["weight"]["scales"], rtol=1e-6)
            assert stored[f"{name}/byte"].dtype == np.int8
            again, _ = rounded_weight(stored[f"{name}/byte"] * np.float32(1), layer["weight"]["axis"])
            np.testing.assert_array_equal(again, stored[f"{name}/byte"])
    for name, quant in plain["activations"].items():
        assert stored[f"{name}/real/scale"] == np.float32(quant["scale"]) and 0 <= quant["zero_point"] <= 255
    assert plain["train"] and set(plain["train"]) <= {each["name"] for each in plain["layers"] if each["bytes"]}


def test_the_layers_to_train_make_most_of_the_error() -> None:
    assert handover.to_train({"a": 1.0, "b": 7.0, "c": 2.0}) == ["b", "c"]
    assert handover.to_train({"a": 1.0}) == ["a"] and handover.to_train({}) == []
    assert handover.to_train({"b": 0.0, "a": 0.0}) == ["a"]


def test_drafts_from_names_are_those_of_the_search() -> None:
    """What a bundle's recipe asks for is made without searching, and is the same."""
    proto = network(["separable", "residual"], "gemm", 2, softmax=True)
    feeds = {"x": np.concatenate([row["x"] for row in rows(8, 3)])}
    first = offers.offers(material(proto, feeds), signature(proto), lambda _: None)
    assert first.drafts and any(note.startswith("repair:") and "tried" in note for note in first.notes)
    names = frozenset(each.id for each in first.drafts)
    again = offers.offers(material(proto, feeds, wanted=names | {"ort"}), signature(proto), lambda _: None)
    assert not again.notes
    by_id = {each.id: each for each in first.drafts}
    assert {each.id for each in again.drafts} == names
    assert all((each.c_text, each.files) == (by_id[each.id].c_text, by_id[each.id].files) for each in again.drafts)


def test_without_rows_or_time_this_is_said() -> None:
    proto = network(["separable"], "gemm", 2)
    none = offers.offers(material(proto, {}), signature(proto), lambda _: None)
    assert not none.drafts and "at least 2 calibration rows" in none.notes[0]
    feeds = {"x": np.concatenate([row["x"] for row in rows(8, 3)])}
    late = offers.offers(material(proto, feeds, time_s=0.0), signature(proto), lambda _: None)
    assert [each.id for each in late.drafts] == ["native-int8-minmax"]
    assert any("1 recipes tried by cross-validation on calibration rows until the time was up" in n for n in late.notes)


def test_no_hand_over_says_why() -> None:
    proto = network(["separable"], "gemm", 2)
    with pytest.raises(CompileError, match="at least 2 calibration rows"):
        offers.offers(material(proto, {}), signature(proto), lambda _: None, retrain=True)
    feeds = {"x": np.concatenate([row["x"] for row in rows(8, 3)])}
    late = offers.offers(material(proto, feeds, time_s=0.0), signature(proto), lambda _: None, retrain=True)
    assert late.handover is not None and late.handover.plain["train"]
    layerless = model([node("Relu", ["x"], ["y"])], {"x": [1, 3, 8, 8]})
    with pytest.raises(CompileError, match="no layer"):
        offers.offers(material(layerless, feeds), signature(layerless), lambda _: None, retrain=True)


def test_rows_that_the_model_refuses_end_the_search_and_not_the_compile() -> None:
    """A Gather whose indices come from floats: some calibration rows point outside."""
    nodes = [
        node("Cast", ["x"], ["i"], to=onnx.TensorProto.INT64), node("Gather", ["t", "i"], ["e"]),
        node("MatMul", ["e", "w"], ["y"]),
    ]  # fmt: skip
    proto = model(nodes, {"x": [1, 4]}, {"t": random(5, 6), "w": random(6, 3)})
    feeds = {"x": np.array([[0, 1, 2, 3], [0, 9, 9, 9]], np.float32)}
    found = offers.offers(material(proto, feeds), signature(proto), lambda _: None)
    assert not found.drafts and len(found.notes) == 1 and found.notes[0].startswith("repair: ")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    onnx.save(network(["separable", "residual"], "gemm", 2, softmax=True), tmp_path / "model.onnx")
    np.savez(tmp_path / "cal.npz", x=np.concatenate([row["x"] for row in rows(8, 3)]))
    np.savez(tmp_path / "one.npz", x=rows(1)[0]["x"])
    return tmp_path


def compiled(files: Path, *words: str) -> int:
    return cli.main(["compile", str(files / "model.onnx"), *WORDS, *words, "-o", str(files / "b.skerry")])


def test_the_command_writes_both_files(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = files / "retrain.json"
    words = ["--calibration", str(files / "cal.npz"), "--budget", "6", "--qat-handover", str(target)]
    assert compiled(files, *words) == 0
    plain = json.loads(target.read_text())
    assert plain["format"] == handover.FORM and plain["model"] == "retrain.onnx" and plain["layers"]
    proto = onnx.load(files / "retrain.onnx")
    assert any(each.op_type == "QuantizeLinear" for each in proto.graph.node)
    assert reference(proto, rows(1)[0])[0].shape == (1, 5)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--qat-handover", "q.json"], "at least 2 calibration rows"),
        (["--qat-handover", "q.json", "--calibration", "one.npz"], "at least 2 calibration rows"),
        (["--qat-handover", "q.onnx", "--calibration", "cal.npz"], "q.onnx"),
        (["--qat-handover", "none/q.json", "--calibration", "cal.npz"], "no folder none"),
    ],
)
def test_the_command_says_in_one_line_what_is_missing(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(files)
    capsys.readouterr()
    assert compiled(files, *words) in (1, 2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "skerry" in error and said in error
    assert not (files / "b.skerry").exists() and not (files / "q.json").exists()

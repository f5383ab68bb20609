"""`skerry compile --threads`: what it leaves in the bundle, and by what candidates are judged."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry_compiler import cli, files
from skerry_compiler.bench import runnable
from skerry_compiler.engines.threads import recorded
from skerry_compiler.errors import CompileError
from skerry_compiler.measure import Samples

WORDS = ["--target", "host", "--model", "net", "--version", "1.0", "--release", "3", "--budget", "1"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution large enough to share, a product that is not."""
    generator = np.random.default_rng(0)
    weights = {"w": generator.standard_normal((32, 16, 3, 3)) / 12, "v": generator.standard_normal((32, 4)) / 6}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(each.astype(np.float32), name) for name, each in weights.items()],
    )
    path = tmp_path_factory.mktemp("threads") / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, object]:
    capsys.readouterr()
    assert cli.main([*map(str, words)]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_the_bundle_says_how_many_and_is_judged_by_the_clock(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "net.skerry"
    assert cli.main(["compile", str(network), *WORDS, "--threads", "3", "-o", str(bundle)]) == 0
    shown = told(capsys, "bundle", "show", bundle, "--json")
    manifest, evidence = shown["manifest"], shown["evidence"]
    assert isinstance(manifest, dict) and isinstance(evidence, dict)
    assert manifest["recipe"]["options"]["threads"] == "3"
    assert {each["options"]["threads"] for each in manifest["variants"]} == {"3"}
    (note,) = [each for each in evidence["notes"] if "beside the original" in each]
    assert "on up to 3 threads each" in note and note.endswith("times are by the clock")
    cores = len(os.sched_getaffinity(0))
    assert (f"({cores}, as many cores as there are here)" in note) == (cores < 3)
    measured = [each["measurement"] for each in evidence["candidates"] if each.get("measurement")]
    assert measured and all(each.get("cpu_ms") is None for each in measured)
    assert told(capsys, "bundle", "verify", bundle, "--rebuild", network, "--json")["rebuilt"] is True
    found = told(capsys, "bench", bundle, "--against", network, "--json")
    assert isinstance(found["original"], dict) and found["original"]["cpu_ms"] is None
    assert isinstance(found["ratio"], dict) and found["ratio"]["latency"] > 0


@pytest.mark.parametrize("wrong", ["0", "-1", "65", "1000", str(1 << 80)])
def test_numbers_that_make_no_sense_are_refused_in_one_line(
    network: Path, wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compile", str(network), *WORDS, "--threads", wrong, "-o", str(tmp_path / "b.skerry")]) == 2
    said = capsys.readouterr().err
    assert said == f"skerry: error: --threads {wrong}: whole numbers from 1 to 64 are expected\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["x", "", "2.5"])
def test_words_are_refused_in_one_line(network: Path, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["compile", str(network), *WORDS, "--threads", wrong, "-o", "b.skerry"])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and "--threads" in said and said.count("\n") == 1


@pytest.mark.parametrize("wrong", ["0", "65", "1000", "x", "", "²", "-1"])
def test_a_recipe_with_a_strange_number_is_refused(wrong: str) -> None:
    assert recorded({}) == 1 and recorded({"threads": "64"}) == 64
    with pytest.raises(CompileError, match="the recipe is for"):
        recorded({"threads": wrong})


def test_shared_inferences_are_timed_by_the_clock_and_others_by_the_processor() -> None:
    alone, shared = Samples(False, [5.0, 4.0], [9, 8], [10, 11]), Samples(True, [5.0, 4.0], [9, 8], [10, 11])
    assert (alone.best_ns, shared.best_ns) == (4.0, 8)
    assert alone.measurement(1, 1.0, 1).cpu_ms == pytest.approx(4e-6) and shared.measurement(1, 1.0, 1).cpu_ms is None


@pytest.mark.parametrize("engine", ["native", "onnxruntime", "litert"])
def test_a_bundle_of_any_engine_that_is_here_can_be_benched(engine: str, network: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "net.skerry"
    assert cli.main(["compile", str(network), *WORDS, "-o", str(bundle)]) == 0
    with files.opened(bundle) as opened:
        manifest = opened.manifest
    first = manifest.variants[0]
    alone = dataclasses.replace(first, engine=engine, requires=dataclasses.replace(first.requires, engine_min=None))
    assert runnable(dataclasses.replace(manifest, variants=(alone,))) == alone
    absent = dataclasses.replace(alone, engine="abacus")
    with pytest.raises(CompileError, match="abacus"):
        runnable(dataclasses.replace(manifest, variants=(absent,)))

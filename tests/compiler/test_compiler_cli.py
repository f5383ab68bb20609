"""`skerry compile|bench|run|bundle` as a person types it: what it prints, and one line for everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.compiler.conftest import Models

from skerry_compiler import cli

WORDS = ["--target", "host", "--model", "digits", "--version", "1.0", "--release", "3", "--budget", "0.5"]


@pytest.fixture(scope="module")
def bundle(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "digits.skerry"
    data = ["--calibration", str(models.calibration), "--evaluation", str(models.evaluation)]
    assert cli.main(["compile", str(models.mlp), *WORDS, *data, "-o", str(path)]) == 0
    return path


def answer(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, object]:
    capsys.readouterr()
    assert cli.main([*map(str, words)]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path | int, code: int = 1) -> str:
    capsys.readouterr()
    assert cli.main([*map(str, words)]) == code
    lines = capsys.readouterr().err.splitlines()
    error = lines.pop()
    assert error.startswith("skerry: error: ") and all(each.startswith("[") for each in lines)
    return error


def test_show_and_verify(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "bundle", "show", bundle, "--json")
    assert found["model"] == "digits" and found["release"] == 3 and found["executed_on"] == "host"
    assert answer(capsys, "bundle", "verify", bundle, "--json")["whole"] is True
    assert cli.main(["bundle", "show", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "native" in out and "times as fast" in out and "accuracy" in out


def test_bench_has_the_promised_form(bundle: Path, models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "bench", bundle, "--against", models.mlp, "--json")
    for side in ("original", "bundle"):
        figures = found[side]
        assert isinstance(figures, dict) and {"latency_ms", "rss_mb", "cold_start_ms", "size_bytes"} <= set(figures)
        assert set(figures["latency_ms"]) == {"p50", "p95"}
    assert isinstance(found["ratio"], dict) and set(found["ratio"]) == {"latency", "memory", "cold_start"}
    assert isinstance(found["agreement"], dict) and found["agreement"]["top1"] == 1.0
    assert (
        cli.main(
            [
                "bench",
                str(bundle),
                "--against",
                str(models.folder / "mlp.skops"),
                "--evaluation",
                str(models.evaluation),
            ]
        )
        == 0
    )
    assert "times as fast" in capsys.readouterr().out
    assert "other inputs or outputs" not in refused(capsys, "bench", bundle, "--against", models.folder / "none.onnx")


def test_run_answers_every_row(bundle: Path, models: Models, tmp_path: Path) -> None:
    assert cli.main(["run", str(bundle), "--input", str(models.evaluation), "--output", str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as outputs, np.load(models.evaluation) as inputs:
        assert outputs["probabilities"].shape == (200, 10) and outputs["label"].shape == (200,)
        assert float(np.mean(outputs["label"] == inputs["labels"])) > 0.7


def test_rebuild_from_the_recipe(
    bundle: Path, models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.skerry"
    words: list[str | Path] = [
        "compile",
        models.mlp,
        "--recipe",
        bundle,
        "--calibration",
        models.calibration,
        "-o",
        again,
        "--json",
    ]
    assert answer(capsys, *words)["identical"] is True
    assert "no file" in refused(capsys, "bundle", "verify", bundle, "--rebuild", "none.onnx")
    assert "not the model" in refused(capsys, "bundle", "verify", bundle, "--rebuild", models.forest)
    assert "calibration data" in refused(capsys, "bundle", "verify", bundle, "--rebuild", models.mlp)
    assert again.read_bytes() == bundle.read_bytes()


def test_a_flipped_byte_is_refused(
    bundle: Path, models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(bundle.read_bytes())
    for at in (100, len(content) // 2, len(content) - 400):
        damaged = bytearray(content)
        damaged[at] ^= 1
        path = tmp_path / "damaged.skerry"
        path.write_bytes(damaged)
        assert "damaged.skerry" in refused(capsys, "bundle", "verify", path)
    path.write_bytes(content[: len(content) // 3])
    assert "cut short" in refused(capsys, "run", path, "--input", models.evaluation, "--output", tmp_path / "o.npz")


def test_bad_input_is_one_line_and_writes_nothing(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.skerry"
    (tmp_path / "text.onnx").write_text("not a model at all, but text\n" * 10)
    (tmp_path / "cut.onnx").write_bytes(models.forest.read_bytes()[:5000])
    np.savez(tmp_path / "shape.npz", image=np.zeros((4, 63), np.float32))
    np.savez(tmp_path / "empty.npz", image=np.zeros((0, 64), np.float32))
    rows = np.zeros((4, 64), np.float32)
    rows[1:3, 5] = np.nan
    np.savez(tmp_path / "nan.npz", image=rows)
    np.savez(tmp_path / "keys.npz", picture=rows, other=rows)
    compile_: list[str | Path] = ["compile", models.forest, *WORDS, "-o", out]

    def source(path: Path) -> list[str | Path]:
        return ["compile", path, *WORDS, "-o", out]

    assert "not an ONNX model" in refused(capsys, *source(tmp_path / "text.onnx"), code=3)
    assert "cut short" in refused(capsys, *source(tmp_path / "cut.onnx"), code=3)
    assert "no file" in refused(capsys, *source(tmp_path / "none.onnx"))
    assert "pickle" in refused(capsys, *source(models.folder / "forest.joblib"), code=3)
    assert "[rows, 64] expected" in refused(capsys, *compile_, "--calibration", tmp_path / "shape.npz", code=5)
    assert "has no rows" in refused(capsys, *compile_, "--calibration", tmp_path / "empty.npz", code=5)
    assert "has no rows" in refused(capsys, *compile_, "--evaluation", tmp_path / "empty.npz", code=5)
    assert "cannot read" in refused(capsys, *compile_, "--evaluation", tmp_path / "none.npz", code=5)
    assert "is NaN on 2 of 4 rows" in refused(
        capsys, *source(models.mlp), "--calibration", tmp_path / "nan.npz", code=5
    )
    for budget in ("-4", "nan", "soon", "", "99h"):
        assert "--budget" in refused(capsys, *compile_, "--budget", budget, code=2)
    assert "did you mean 'x86-64-v3'" in refused(capsys, *compile_[:2], "--target", "x86-64v3", *WORDS[2:], "-o", out)
    assert "lower-case" in refused(
        capsys, *compile_[:2], *WORDS[:2], "--model", "Di Gits", *WORDS[4:], "-o", out, code=2
    )
    assert "no input" in refused(capsys, *compile_, "--shape", "other=1,64", code=3)
    for shape in ("image=a,b", "image", "=1,64", "image=1,-64", "image=1,0", f"image=1,{1 << 63}"):
        assert "--shape" in refused(capsys, *compile_, "--shape", shape, code=2)
    assert "no array for the input 'image'" in refused(
        capsys, *compile_, "--calibration", tmp_path / "keys.npz", code=5
    )
    assert not out.exists()


def test_wrong_usage_is_code_2(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--release" in refused(capsys, "compile", models.forest, *WORDS, "--release", 1 << 80, "-o", "x", code=2)
    words: list[list[str]] = [["compile"], ["compile", str(models.forest), "-o", "x"], ["bundle"], ["bench", "x"]]
    for each in (*words, ["compile", str(models.forest), *WORDS, "-o", "x", "--objective", "beauty"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(each)
        said = capsys.readouterr().err
        assert caught.value.code == 2 and said.startswith("skerry: error: ") and said.count("\n") == 1
    with pytest.raises(SystemExit):
        cli.main(words[1])
    assert "--target, --model, --version, --release" in capsys.readouterr().err


def test_an_output_that_cannot_be_is_refused_before_any_work(
    models: Models, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(models.forest.read_bytes())
    (tmp_path / "other.onnx").hardlink_to(model)
    before, good = model.read_bytes(), tmp_path / "good.skerry"
    compile_: list[str | Path] = ["compile", model, *WORDS, "-o"]
    assert "no folder" in refused(capsys, *compile_, tmp_path / "no" / "folder.skerry")
    assert "it is a folder" in refused(capsys, *compile_, tmp_path)
    for lost in (model, tmp_path / "other.onnx", tmp_path / ".." / tmp_path.name / "model.onnx"):
        assert "would be lost" in refused(capsys, *compile_, lost)
    assert "would be lost" in refused(capsys, *compile_, good, "--report", good)
    assert "would be lost" in refused(capsys, *compile_, good, "--qat-handover", tmp_path / "model.json")
    assert "no folder" in refused(capsys, *compile_, good, "--report", tmp_path / "no" / "page.html")
    assert "would be lost" in refused(capsys, "bundle", "show", bundle, "--html", bundle)
    rows: list[str | Path] = ["run", bundle, "--input", models.evaluation, "--output"]
    assert "would be lost" in refused(capsys, *rows, models.evaluation)
    assert model.read_bytes() == before and sorted(each.name for each in tmp_path.iterdir()) == [
        "model.onnx",
        "other.onnx",
    ]


def test_a_refused_compile_leaves_the_bundle_that_was_there(
    models: Models, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "digits.skerry"
    there.write_bytes(bundle.read_bytes())
    (tmp_path / "cut.onnx").write_bytes(models.forest.read_bytes()[:500])
    refused(capsys, "compile", tmp_path / "cut.onnx", *WORDS, "-o", there, code=3)
    assert there.read_bytes() == bundle.read_bytes()


def test_what_nothing_can_build_says_why(models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words: list[str | Path] = ["compile", models.forest, *WORDS, "--engines", "openvino", "-o", tmp_path / "b.skerry"]
    said = refused(capsys, *words, code=4)
    assert "no candidate could be built: openvino: OpenVINO reads no operators of ai.onnx.ml" in said
    assert "--engines" in said and list(tmp_path.iterdir()) == []


def test_a_report_is_a_page(bundle: Path, models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    found = answer(capsys, "bundle", "show", bundle, "--html", page, "--json")
    assert isinstance(found["bundle"], str) and found["bundle"] in page.read_text()
    data: list[str | Path] = ["--against", models.mlp, "--evaluation", models.evaluation]
    assert "ratio" in answer(capsys, "bench", bundle, *data, "--html", page, "--json")
    assert page.read_text().startswith("<!doctype html>") and "as fast" in page.read_text()

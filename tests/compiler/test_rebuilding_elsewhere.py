"""Bundles made again by another user, in another folder, time zone and language, with other seeds and threads: the same
bytes. More of them are a figure of `benchmarks/compiler_rebuild.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import compiler_rebuild
from tests.compiler.conftest import Models

from skerry_compiler import cli


def made(models: Models, name: str, target: str, folder: Path) -> compiler_rebuild.Made:
    data = (models.calibration, models.evaluation)
    return compiler_rebuild.compiled(name, folder, models.folder / name, data, target, "1s")


@pytest.mark.parametrize(("name", "target"), [("mlp.skops", "host"), ("forest.onnx", "raspberry-pi-4")])
def test_the_same_bytes_elsewhere(models: Models, name: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "else where").mkdir()
    bundle = made(models, name, target, tmp_path / "here")
    assert compiler_rebuild.rebuilt(bundle, tmp_path / "else where") is None


def test_verify_proves_it_and_says_what_is_not_the_same(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = made(models, "forest.onnx", "x86-64-v3", tmp_path)
    words = ["bundle", "verify", str(bundle.bundle), "--rebuild", str(models.forest), "--quiet", "--json"]
    assert cli.main([*words, "--calibration", str(models.calibration)]) == 0
    assert json.loads(capsys.readouterr().out)["rebuilt"] is True
    assert cli.main(words) == 1 and "calibration data is not what the recipe names" in capsys.readouterr().err
    words[4] = str(models.mlp)
    assert cli.main([*words, "--calibration", str(models.calibration)]) == 1
    assert "is not the model" in capsys.readouterr().err

"""A small share of `benchmarks/compiler_fuzz.py`: damaged files of every kind are read or refused, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import compiler_fuzz

FILES = 60


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[compiler_fuzz.Kind]:
    return compiler_fuzz.kinds(tmp_path_factory.mktemp("sound"))


def test_sound_files_are_read(kinds: list[compiler_fuzz.Kind], tmp_path: Path) -> None:
    assert {kind.name for kind in kinds} >= {"onnx", "tflite", "npz", "ubjson", "lightgbm", "xgboost"}
    for kind in kinds:
        for content in kind.sound:
            path = tmp_path / f"sound{kind.suffix}"
            path.write_bytes(content)
            kind.read(path)


def test_damaged_files_are_read_or_refused(kinds: list[compiler_fuzz.Kind], tmp_path: Path) -> None:
    for kind in kinds:
        done, defects = compiler_fuzz.fuzz(kind, FILES, 60, 1, tmp_path)
        assert done > 0 and not defects, f"{kind.name}: {defects}"

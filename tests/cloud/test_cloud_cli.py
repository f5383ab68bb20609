from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.cloud.world import BUNDLE, digits, manifest, sample

from skerry_cloud.cli import main
from skerry_cloud.services import open_services

PROJECT = """
model = "digits"
dataset = "digits.npz"
input_name = "image"
[train]
trainer = "logistic"
augment_copies = 0
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    split = digits()
    (tmp_path / "projects").mkdir()
    (tmp_path / "projects" / "digits.toml").write_text(PROJECT)
    labels = np.array([str(i) for i in range(8)])
    np.savez(tmp_path / "projects" / "digits.npz", x=split.train_x, y=split.train_y, labels=labels)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(words) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


@pytest.mark.parametrize(
    "words",
    [("label", "jobs"), ("monitor", "show"), ("pipeline", "list"), ("registry", "list"), ("monitor", "run", "digits")],
)
def test_reading_commands_answer_in_text_and_json(
    root: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(capsys, *words, "--root", str(root)).strip()
    assert isinstance(json.loads(run(capsys, *words, "--root", str(root), "--json")), dict)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("label", "show", "none"), "no labelling job 'none'"),
        (("pipeline", "show", "none"), "no pipeline 'none'"),
        (("pipeline", "approve", "none"), "no pipeline 'none'"),
        (("pipeline", "run", "faces"), "no project for the model 'faces'"),
        (("train", "faces"), "no project for the model 'faces'"),
        (("lineage", "cam-1/00000001-0a0b0c0d/1"), "was not kept"),
        (("lineage", "nonsense"), "is not <device>/<boot_id>/<counter>"),
    ],
)
def test_a_refusal_is_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], why: str
) -> None:
    said = run(capsys, *words, "--root", str(root), code=1)
    assert said.startswith("skerry: error: ") and why in said and said.count("\n") == 1


def test_a_model_is_trained_once_and_its_files_can_be_compiled(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "digits", "--root", str(root), "-o", str(root / "out"), "--json")
    first = json.loads(run(capsys, *words))
    assert first["gate"]["passed"] and first["gate"]["accuracy"] > 0.9
    assert json.loads(run(capsys, *words))["run"] == first["run"]
    with np.load(first["files"]["evaluation"]) as evaluation:
        assert evaluation["image"].shape[1:] == (64,) and set(evaluation["labels"]) <= {str(i) for i in range(8)}
    services = open_services(root, writer=True)
    services.lake.append_samples([("cam-1", sample(1, np.zeros(64)))])
    services.registry.add_bundle(BUNDLE, manifest(source=first["onnx"]))
    services.close()
    traced = json.loads(run(capsys, "lineage", "cam-1/00000001-0a0b0c0d/1", "--root", str(root), "--json"))
    assert traced["run"] == first["run"] and len(traced["datasets"]) == 1
    assert first["run"] in run(capsys, "lineage", "cam-1/00000001-0a0b0c0d/1", "--root", str(root))
    created = json.loads(run(capsys, "pipeline", "run", "digits", "--root", str(root), "--json"))
    assert created["id"] in run(capsys, "pipeline", "list", "--root", str(root))
    run(capsys, "pipeline", "approve", created["id"], "--root", str(root))
    assert "is running" in run(capsys, "pipeline", "run", "digits", "--root", str(root), code=1)


def test_a_key_file_or_a_port_that_is_taken_is_said_before_anything_starts(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ("serve", "--root", str(root), "--fleet", "http://127.0.0.1:1", "--key", str(root / "none"))
        assert "cannot listen" in run(capsys, *words, "--port", port, code=1)
    assert "cannot read the key file" in run(capsys, *words, "--port", "0", code=1)


def test_usage_errors_end_with_two() -> None:
    for words in ([], ["dance"], ["label"], ["serve"]):
        ended = subprocess.run([sys.executable, "-m", "skerry", "cloud", *words], capture_output=True, text=True)
        assert ended.returncode == 2 and ended.stderr.startswith("usage:")

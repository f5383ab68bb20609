"""`skerry cloud serve` as a process, with a fleet on a real socket: it syncs, watches, and stops and starts again."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.cloud.fleet_double import KEY, Fleet, serving
from tests.cloud.world import BUNDLE, digits, manifest, noisy, sample

from skerry_cloud import evaluate
from skerry_cloud.config import load_project
from skerry_cloud.pipelines import modelling
from skerry_cloud.services import open_services
from skerry_contracts import codec

DRIFT = "digits/data-drift"
PROJECT = """
model = "digits"
dataset = "digits.npz"
input_name = "image"
[train]
trainer = "logistic"
augment_copies = 0
[monitor]
window = 50
calibration_repeats = 199
[labels]
budget = 20
audit = 5
rounds = 1
pool_wait_s = 0.0
"""


def until(true: Callable[[], bool], what: str, deadline_s: float = 120.0) -> None:
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def page(url: str) -> str:
    return httpx.get(url, trust_env=False).text


@contextlib.contextmanager
def cloud(root: Path, url: str) -> Iterator[str]:
    words = [
        "serve",
        "--root",
        str(root),
        "--fleet",
        url,
        "--key",
        str(root / "key"),
        "--port",
        "0",
        "--interval",
        "0.1",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "skerry", "cloud", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0 and "Traceback" not in said, said
        finally:
            process.kill()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    split = digits()
    (tmp_path / "projects").mkdir()
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "projects" / "digits.toml").write_text(PROJECT)
    labels = np.array([str(i) for i in range(8)])
    np.savez(tmp_path / "projects" / "digits.npz", x=split.train_x, y=split.train_y, labels=labels)
    return tmp_path


def test_drift_is_noticed_told_and_labels_are_asked_for_across_a_restart(root: Path) -> None:
    split, generator, fleet = digits(), np.random.default_rng(0), Fleet()
    services = open_services(root)
    project = load_project(root / "projects" / "digits.toml")
    made = modelling.train(services, project, "hand", modelling.first_dataset(services, project))
    model = services.registry.files.read(made["onnx"])
    services.close()
    labels = tuple(str(i) for i in range(8))
    fleet.bundles[BUNDLE] = {"id": BUNDLE, "manifest": codec.to_plain(manifest(labels, source=made["onnx"]))}
    known = split.stream_x[split.stream_y < 8]

    def send(first: int, x: np.ndarray) -> None:
        scores = evaluate.answers(model, x).scores
        for i in range(len(x)):
            fleet.send("cam-1", sample(first + i, x[i], scores[i]))

    with serving(fleet) as url:
        send(0, known[:55])
        with cloud(root, url) as address:
            until(lambda: DRIFT in fleet.drift, "no verdict was told")
            assert fleet.drift[DRIFT]["drifting"] is False
            assert "data-drift" in page(address)
        fleet.down = 3
        send(1000, noisy(known[60:115], generator, 0.2))
        with cloud(root, url) as address:
            until(lambda: fleet.drift[DRIFT]["drifting"] is True, "the drift was not noticed")
            until(lambda: "-labels" in page(f"{address}/label"), "no labelling job was made")
    listed = subprocess.run(
        [sys.executable, "-m", "skerry", "cloud", "pipeline", "list", "--root", str(root), "--json"],
        capture_output=True,
    )
    (pipeline,) = json.loads(listed.stdout)["pipelines"]
    assert pipeline["state"] == "running" and pipeline["step"] == "label-0"
    assert pipeline["cause"]["monitor"] == "data-drift"

"""The whole walk on real parts: real training, real compiler, real Parquet; the fleet's routes on a real socket."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cloud.fleet_double import KEY, Fleet, serving
from tests.cloud.world import digits, noisy, sample

from skerry_cloud import evaluate
from skerry_cloud.fleet_client import FleetClient
from skerry_cloud.pipelines.engine import Executor, Log, State
from skerry_cloud.pipelines.walk import walk
from skerry_cloud.services import Services, open_services
from skerry_contracts import codec
from skerry_contracts.bundle import Manifest
from skerry_contracts.sample import Kept

PROJECT = """
model = "digits"
dataset = "digits.npz"
input_name = "image"
approval = "auto"
cooldown_s = 0.0

[train]
trainer = "logistic"
augment_copies = 2
image_shape = [8, 8]
clip = [0.0, 1.0]

[gate]
min_accuracy = 0.6
max_regression = 0.2

[labels]
workforce = "simulated"
oracle = "oracle.jsonl"
budget = 90
audit = 20
rounds = 2
votes = 2
max_votes = 3
worker_accuracy = 0.95
pool_wait_s = 0.0

[rollout]
waves = [100]
soak_s = 0.0

[[targets]]
profile = "host"
budget_s = 0.3
"""


def prepare(root: Path) -> None:
    """Write the project, its first dataset (eight classes) and the oracle."""
    split = digits()
    (root / "projects").mkdir(parents=True)
    (root / "projects" / "digits.toml").write_text(PROJECT)
    labels = np.array([str(i) for i in range(8)])
    np.savez(root / "projects" / "digits.npz", x=split.train_x, y=split.train_y, labels=labels)


def send_samples(root: Path, fleet: Fleet, bundle: str, model: bytes, count: int = 260) -> None:
    """Let a device see noisy images of all ten classes, and the oracle what they really are."""
    split, generator = digits(), np.random.default_rng(1)
    rows = generator.permutation(len(split.stream_x))[:count]
    x = noisy(split.stream_x[rows], generator)
    scores = evaluate.answers(model, x).scores
    with (root / "projects" / "oracle.jsonl").open("w") as oracle:
        for i in range(count):
            kept = Kept.RANDOM if i % 2 else Kept.UNCERTAIN
            sent = sample(i, x[i], scores[i], kept=kept, bundle=bundle)
            fleet.send("cam-1", sent)
            truth = str(split.stream_y[rows[i]])
            oracle.write(json.dumps({"prediction_id": sent.prediction, "label": truth}) + "\n")


def run(services: Services, pipeline: str, cause: dict[str, Any]) -> Log:
    log = Log(services.database, services.now)
    log.create(pipeline, "digits", cause)
    Executor(log, lambda each, step: walk(services, log, each, step), services.stopping).run(pipeline)
    return log


@dataclasses.dataclass
class Stand:
    """A root after the first model, with samples waiting; copies of it are equal."""

    root: Path
    fleet: Fleet
    bundle: str


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    root, fleet = tmp_path_factory.mktemp("stand") / "cloud", Fleet()
    prepare(root)
    with serving(fleet) as url:
        services = open_services(root, client=FleetClient(url, KEY), writer=True)
        log = run(services, "digits-first", {"kind": "first"})
        ended = log.get("digits-first")
        assert ended.state is State.DONE, ended.detail
        bundle = ended.detail["bundles"]["host"]
        manifest = codec.from_plain(Manifest, fleet.bundles[bundle]["manifest"])
        assert manifest.signature.labels == tuple(str(i) for i in range(8)) and manifest.release == 1
        run_row = services.registry.run_of_bundle(bundle)
        assert run_row is not None
        send_samples(root, fleet, bundle, services.registry.files.read(run_row["onnx"]))
        from skerry_cloud import sync

        sync.pull(services.fleet(), services.lake)
        services.close()
    return Stand(root, fleet, bundle)


def copy(stand: Stand, to: Path) -> tuple[Path, Fleet]:
    subprocess.run(["cp", "-r", str(stand.root), str(to)], check=True)
    fleet = Fleet()
    fleet.models, fleet.bundles = list(stand.fleet.models), dict(stand.fleet.bundles)
    return to, fleet


def outcome(root: Path) -> dict[str, Any]:
    """What a pipeline has left, by content."""
    services = open_services(root)
    log = Log(services.database, services.now)
    ended = log.get("digits-alarm")
    assert ended.state is State.DONE, (ended.detail, ended.step)
    results = {each["step"]: each["result"] for each in log.steps("digits-alarm")}
    counts = {
        table: services.database.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]
        for table in ("dataset", "run", "rollout", "label_job", "label_item", "vote", "pipeline", "bundle")
    }
    assert [each["ended_s"] is not None for each in log.steps("digits-alarm")] == [True] * len(results)
    manifest = services.registry.manifest(ended.detail["bundles"]["host"])
    assert manifest is not None and manifest.signature.labels == tuple(str(i) for i in range(10))
    assert manifest.release == 2
    services.close()
    return {
        "dataset": results["dataset"]["dataset"],
        "model": results["train"]["onnx"],
        "gate": results["gate"],
        "ledger": results["label-2"],
        "counts": counts,
        "work_left": sorted(path.name for path in (root / "work").iterdir()),
    }


def drive(root: Path, url: str, *words: str) -> list[str]:
    command = [sys.executable, "-m", "tests.cloud.pipeline_process", str(root), url, "digits-alarm", *words]
    house = Path(__file__).parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=house, env=environment)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout.split()


@pytest.mark.slow
def test_a_pipeline_killed_at_every_step_boundary_does_everything_once(stand: Stand, tmp_path: Path) -> None:
    outcomes, boundaries = [], []
    for name, words in (("whole", ["--whole"]), ("killed", [])):
        root, fleet = copy(stand, tmp_path / name)
        services = open_services(root)
        cause = {"kind": "alarm", "monitor": "data-drift", "bundle": stand.bundle, "since_s": 0.0}
        Log(services.database, services.now).create("digits-alarm", "digits", cause)
        services.close()
        with serving(fleet) as url:
            boundaries = drive(root, url, *words)
        outcomes.append(outcome(root))
        assert len(fleet.rollouts) == 1 and len(set(fleet.uploads)) == 1 and len(fleet.keys) == 1
    steps = {each.split(":")[0] for each in boundaries}
    assert len(boundaries) == 3 * len(steps) and len(steps) == 14, boundaries
    assert outcomes[0] == outcomes[1]

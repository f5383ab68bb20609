"""A training job: one child process with a time limit, a seed and a dataset by content; what it leaves is registered
by content.

The child (`python -m skerry_cloud.train_worker`) reads `job.json` in its folder and leaves `model.onnx`,
`model.skops` and `metrics.json` there. Equal dataset, settings and seed give an equal model, so a job that is run
twice has done its work once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from skerry_cloud.config import TrainConfig
from skerry_cloud.errors import CommandError
from skerry_contracts import codec

# One thread a job: results do not depend on how many cores the machine has, and two jobs do not fight.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


@dataclasses.dataclass(frozen=True, slots=True)
class Trained:
    """What a job left: files, and figures (`accuracy`, `accuracy_first`, `accuracy_new`, `evaluated`, `rows`,
    `noise`, `seconds`).
    """

    onnx: Path
    skops: Path
    metrics: dict[str, Any]


def train(folder: Path, dataset: Path, dataset_sha256: str, input_name: str, config: TrainConfig) -> Trained:
    """Run one training job in `folder`.

    Raises:
        CommandError: the child failed, or ran longer than `max_runtime_s`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = {
        "dataset": str(dataset),
        "dataset_sha256": dataset_sha256,
        "input_name": input_name,
        "train": codec.to_plain(config),
    }
    (folder / "job.json").write_bytes(codec.canonical_json(job))
    words = [sys.executable, "-m", "skerry_cloud.train_worker", str(folder)]
    run_child(words, timeout_s=config.max_runtime_s, what="training", environment=_ENVIRONMENT)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return Trained(folder / "model.onnx", folder / "model.skops", metrics)


def run_child(words: list[str], *, timeout_s: float, what: str, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; past its time the whole process group is killed.

    Raises:
        CommandError: it failed (its last line is in the message) or ran out of time.
    """
    child = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (environment or {}),
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise CommandError(
            f"{what} ran longer than {timeout_s:g} s and was stopped", hint="raise max_runtime_s"
        ) from error
    if child.returncode != 0:
        said = [line for line in err.splitlines() if line.strip()]
        last = said[-1].removeprefix("skerry: error: ") if said else "it said nothing"
        raise CommandError(
            f"{what} failed with {child.returncode}: {last}", hint="the command's own words say what is wrong"
        )
    return out

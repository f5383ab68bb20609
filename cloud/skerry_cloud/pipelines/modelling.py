"""The steps that make a model: plan, dataset, train, gate. Each leaves its result registered under the pipeline's id,
once.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_cloud import datasets, evaluate
from skerry_cloud import train as training
from skerry_cloud.config import ProjectConfig
from skerry_cloud.errors import DataError
from skerry_cloud.files import fresh_folder, write_durably
from skerry_cloud.lake.batch import SampleQuery
from skerry_cloud.services import Services
from skerry_contracts import codec
from skerry_contracts.sample import Kept

Json = dict[str, Any]
Array = npt.NDArray[Any]
CALIBRATION_ROWS = 1000


def load_dataset(services: Services, sha256: str) -> datasets.Dataset:
    """Return a registered dataset."""
    return datasets.from_bytes(services.registry.files.read(sha256))


def plan_first(services: Services, project: ProjectConfig) -> Json:
    """Return what a first model starts from: nothing but its release number."""
    return {"release": _next_release(services, project), "run": None, "dataset": None}


def first_dataset(services: Services, project: ProjectConfig) -> Json:
    """Register the project's own dataset.

    Raises:
        DataError: the file does not hold one.
    """
    dataset = datasets.load_first(Path(project.dataset), project.train.seed)
    detail = {"labels": list(dataset.labels), "source": Path(project.dataset).name}
    sha256 = services.registry.add_dataset(
        datasets.to_bytes(dataset), model=project.model, rows=len(dataset.x), detail=detail
    )
    return {"dataset": sha256, "rows": len(dataset.x), "labels": list(dataset.labels)}


def plan(services: Services, project: ProjectConfig, cause: Json) -> Json:
    """Return what a retraining starts from: the deployed run, its dataset and bundle, since when samples count, the
    new release.

    Raises:
        NotFoundError: no model was trained yet.
        DataError: no device has sent a sample of it.
    """
    deployed = services.registry.deployed_run(project.model)
    row = services.database.row("SELECT bundle FROM sample WHERE model = ? ORDER BY id DESC LIMIT 1", (project.model,))
    if row is None:
        raise DataError(
            f"no device has sent a sample of {project.model}", hint="roll a first bundle out, then try again"
        )
    return {
        "run": deployed["id"],
        "onnx": deployed["onnx"],
        "dataset": deployed["dataset"],
        "bundle": cause.get("bundle", row["bundle"]),
        "since_s": cause.get("since_s"),
        "release": _next_release(services, project),
    }


def retrain_dataset(services: Services, project: ProjectConfig, pipeline: str, plan: Json) -> Json:
    """Register the dataset of the deployed model and what was labelled since: the audit to judge by, the rest to
    train on.

    Raises:
        DataError: nothing was labelled.
    """
    job = f"{pipeline}-labels"
    known = services.database.row("SELECT sha256, rows FROM dataset WHERE job = ?", (job,))
    if known is not None:
        services.jobs.close(job)
        return {"dataset": known["sha256"], "rows": known["rows"], **services.jobs.ledger(job)}
    base = load_dataset(services, plan["dataset"])
    items = services.jobs.labelled(job)
    if not items:
        raise DataError("no item of the labelling job got a label")
    batch = services.lake.by_prediction([prediction for prediction, _, _ in items])
    rows = next(iter(batch.inputs.values())).reshape(len(items), *base.x.shape[1:]).astype(np.float32)
    dataset, purposes = combine(base, rows, [(label, purpose) for _, label, purpose in items])
    dataset = dataclasses.replace(dataset, reference=_reference(services, project, plan, base))
    listed = [(prediction, label, purpose) for (prediction, label, _), purpose in zip(items, purposes, strict=True)]
    sha256 = services.registry.add_dataset(
        datasets.to_bytes(dataset),
        model=project.model,
        rows=len(dataset.x),
        parent=plan["dataset"],
        job=job,
        items=listed,
        detail={"labels": list(dataset.labels), "reference_rows": len(dataset.reference)},
    )
    services.jobs.close(job)
    return {"dataset": sha256, "rows": len(dataset.x), **services.jobs.ledger(job)}


def combine(base: datasets.Dataset, rows: Array, items: list[tuple[str, str]]) -> tuple[datasets.Dataset, list[str]]:
    """Return base and labelled rows f32[n, ...] with (label, purpose) together, and each row's purpose in the end.

    A class that only the audit has seen could not be trained: its rows change sides.
    """
    trained = set(base.labels) | {label for label, purpose in items if purpose == "train"}
    purposes = ["audit" if purpose == "audit" and label in trained else "train" for label, purpose in items]
    labels = (*base.labels, *sorted({label for label, _ in items} - set(base.labels)))
    y = np.array([labels.index(label) for label, _ in items], np.int64)
    audit = np.array([purpose == "audit" for purpose in purposes])
    fresh, held = (~audit).sum(), audit.sum()
    dataset = datasets.Dataset(
        x=np.concatenate([base.x, rows[~audit]]),
        y=np.concatenate([base.y, y[~audit]]),
        x_evaluation=np.concatenate([base.x_evaluation, rows[audit]]),
        y_evaluation=np.concatenate([base.y_evaluation, y[audit]]),
        reference=base.reference,
        labels=labels,
        origin=np.concatenate([base.origin, np.ones(fresh, np.int8)]),
        origin_evaluation=np.concatenate([base.origin_evaluation, np.ones(held, np.int8)]),
    )
    return dataset, purposes


def train(services: Services, project: ProjectConfig, pipeline: str, dataset: Json) -> Json:
    """Train on a dataset and register the run; a run that is registered is not trained again.

    Raises:
        CommandError: the training failed or ran too long.
    """
    run = f"{pipeline}-run"
    known = services.database.row("SELECT onnx FROM run WHERE id = ?", (run,))
    if known is not None:
        return {"run": run, "onnx": known["onnx"]}
    folder = fresh_folder(services.root / "work", run)
    path = services.registry.files.path(dataset["dataset"])
    trained = training.train(folder, path, dataset["dataset"], project.input_name, project.train)
    detail = {"trainer": project.train.trainer, "seed": project.train.seed, "parameters": project.train.parameters}
    onnx = services.registry.add_run(
        run,
        model=project.model,
        dataset=dataset["dataset"],
        onnx=trained.onnx,
        skops=trained.skops,
        detail=detail | {"metrics": trained.metrics},
    )
    shutil.rmtree(folder, ignore_errors=True)
    return {"run": run, "onnx": onnx, **trained.metrics}


def gate(services: Services, project: ProjectConfig, plan: Json, dataset: Json, run: Json) -> Json:
    """Return the gates' verdict on a run, beside the deployed model where there is one."""
    files = services.registry.files
    deployed = files.read(plan["onnx"]) if plan["run"] is not None else None
    result = evaluate.gate(files.read(run["onnx"]), deployed, load_dataset(services, dataset["dataset"]), project.gate)
    return dataclasses.asdict(result)


def run_name(project: ProjectConfig, dataset: str) -> str:
    """Return the name of a training by hand: of its data and settings, so that equal trainings are one."""
    settings = codec.canonical_json([codec.to_plain(project.train), project.input_name])
    return f"{project.model}-{dataset[:12]}-{codec.digest(settings)[:8]}"


def export(services: Services, project: ProjectConfig, dataset: str, onnx: str, folder: Path) -> dict[str, str]:
    """Write a model with its calibration and evaluation data as `skerry compile` wants them; return the paths."""
    found = load_dataset(services, dataset)
    evaluation = {
        project.input_name: _flat(found.x_evaluation),
        "labels": np.array(found.labels)[found.y_evaluation],
    }
    files = {
        "model.onnx": services.registry.files.read(onnx),
        # The reference: what the world looks like is also the baseline that devices count against.
        "calibration.npz": _npz({project.input_name: _flat(found.reference[:CALIBRATION_ROWS])}),
        "evaluation.npz": _npz(evaluation),
    }
    for name, data in files.items():
        write_durably(folder / name, data)
    return {name.split(".")[0]: str(folder / name) for name in files}


def _npz(arrays: dict[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # mypy takes the arrays for the flag behind them
    return buffer.getvalue()


def _flat(x: Array) -> Array:
    return np.ascontiguousarray(x.reshape(len(x), -1), np.float32)


def _reference(services: Services, project: ProjectConfig, plan: Json, base: datasets.Dataset) -> Array:
    """Return what the world looks like now: the random-kept inputs since the alarm's window (the base's where too few
    came).
    """
    since_s = plan["since_s"]
    query = SampleQuery(
        project.model, (plan["bundle"],), (Kept.RANDOM,), since_s=since_s, limit=datasets.REFERENCE_ROWS, newest=True
    )
    batch = services.lake.samples(query).finite().distinct()
    if len(batch) < 2 * min(project.monitor.window, 50):
        return base.reference
    rows = next(iter(batch.inputs.values()))
    return rows.reshape(len(rows), *base.reference.shape[1:]).astype(np.float32)


def _next_release(services: Services, project: ProjectConfig) -> int:
    at_fleet = services.client.newest_release(project.model) if services.client is not None else 0
    return max(services.registry.next_release(project.model), at_fleet + 1)

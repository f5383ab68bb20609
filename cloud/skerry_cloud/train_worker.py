"""The child of a training job: reads `job.json`, fits, judges, leaves an ONNX model, a skops archive and figures."""

from __future__ import annotations

import hashlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_cloud import augment, datasets, trainers
from skerry_cloud.config import TrainConfig
from skerry_cloud.errors import CloudError, DataError
from skerry_contracts import codec

Array = npt.NDArray[Any]


def main(folder: Path) -> None:
    """Do the job in `folder`.

    Raises:
        DataError: the dataset is not the one that was ordered, or does not fit.
    """
    started_s = time.monotonic()
    job = json.loads((folder / "job.json").read_text("utf-8"))
    config = codec.from_plain(TrainConfig, job["train"])
    data = Path(job["dataset"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != job["dataset_sha256"]:
        raise DataError("the dataset is not the one that was ordered")
    dataset = datasets.from_bytes(data)
    x, y, noise = prepare(dataset, config)
    estimator = trainers.make(config.trainer, config.parameters, config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an iteration limit is a setting here, not a surprise
        # Classes by name: the model file then says itself what its scores mean, and the compiler reads it there.
        estimator.fit(x.reshape(len(x), -1), np.array(dataset.labels)[y])
    (folder / "model.onnx").write_bytes(to_onnx(estimator, job["input_name"], dataset))
    _keep_skops(folder / "model.skops", estimator)
    metrics = judge(estimator, dataset) | {"rows": len(x), "noise": noise, "seconds": time.monotonic() - started_s}
    # Last and whole: the job is done when this file is there.
    (folder / "metrics.json").write_text(json.dumps(metrics, sort_keys=True), "utf-8")


def prepare(dataset: datasets.Dataset, config: TrainConfig) -> tuple[Array, Array, float]:
    """Return the rows to fit, their labels, and the noise that was added (standard deviation).

    Rows of the first data get the devices' noise; rows from devices have it already, so their copies get half of it.
    """
    first, fresh = dataset.origin == 0, dataset.origin != 0
    noise = config.augment_noise
    if noise is None:
        known = fresh.any() and first.any()
        noise = augment.estimate_noise(dataset.x[first], dataset.reference, config.clip) if known else 0.0
    shared: dict[str, Any] = {
        "generator": np.random.default_rng(config.seed),
        "shift_pixels": config.shift_pixels,
        "image_shape": config.image_shape,
        "clip": config.clip,
    }
    copies = config.augment_copies
    flat = dataset.x.reshape(len(dataset.x), -1).astype(np.float32)
    parts = [augment.augment(flat[first], dataset.y[first], copies=copies, noise=noise, **shared)]
    if fresh.any():
        more = copies * config.label_weight
        parts.append(augment.augment(flat[fresh], dataset.y[fresh], copies=more, noise=noise / 2, **shared))
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]), float(noise)


def judge(estimator: Any, dataset: datasets.Dataset) -> dict[str, Any]:
    """Return accuracy on all evaluation rows, on the first data's, and on the devices' (None where there are none)."""
    scores = estimator.predict_proba(dataset.x_evaluation.reshape(len(dataset.x_evaluation), -1))
    right = estimator.classes_[scores.argmax(axis=1)] == np.array(dataset.labels)[dataset.y_evaluation]
    fresh = dataset.origin_evaluation != 0
    return {
        "accuracy": float(right.mean()),
        "accuracy_first": float(right[~fresh].mean()) if (~fresh).any() else None,
        "accuracy_new": float(right[fresh].mean()) if fresh.any() else None,
        "evaluated": len(right),
    }


def to_onnx(estimator: Any, input_name: str, dataset: datasets.Dataset) -> bytes:
    """Return the model as ONNX: input f32[n, d], outputs `label` text[n] and `probabilities` f32[n, k].

    The class names, in the order of the scores, go along as metadata `labels` (JSON).
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    names = [str(each) for each in estimator.classes_]
    width = int(np.prod(dataset.x.shape[1:]))
    model = convert_sklearn(
        estimator,
        name="skerry",
        initial_types=[(input_name, FloatTensorType([None, width]))],
        options={id(estimator): {"zipmap": False}},
        target_opset=17,
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = "labels", json.dumps(names)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _keep_skops(path: Path, estimator: Any) -> None:
    import skops.io

    skops.io.dump(estimator, path)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except CloudError as error:
        sys.stderr.write(f"skerry: error: {error} ({error.hint})\n")
        sys.exit(1)

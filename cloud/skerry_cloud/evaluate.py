"""Judging a model by what it answers, through ONNX Runtime: the file that is compiled is the one that is judged."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_cloud.config import GateConfig
from skerry_cloud.datasets import Dataset
from skerry_cloud.errors import DataError

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Answers:
    """A model's answers to n rows: `labels` text[n], `confidence` f64[n] (the best score), `scores` f32[n, k],
    `names` text[k].
    """

    labels: tuple[str, ...]
    confidence: npt.NDArray[np.float64]
    scores: Array
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class GateResult:
    """Whether a candidate may go on, the reasons why not, and every figure that was looked at (shares, None: no such
    rows).
    """

    passed: bool
    reasons: tuple[str, ...]
    accuracy: float
    accuracy_first: float | None
    accuracy_new: float | None
    deployed_accuracy_first: float | None
    deployed_accuracy_new: float | None


def answers(model: bytes, x: Array) -> Answers:
    """Return what an ONNX classifier with our outputs (`label`, `probabilities`) answers to x f32[n, ...].

    Raises:
        DataError: no such model, or x does not fit it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        flat = np.ascontiguousarray(x.reshape(len(x), -1), np.float32)
        scores = session.run(["probabilities"], {session.get_inputs()[0].name: flat})[0]
        names = tuple(json.loads(session.get_modelmeta().custom_metadata_map["labels"]))
    except _errors() as error:
        raise DataError(
            f"the model gives no answer: {str(error).splitlines()[0]}", hint="was it made by `cloud train`?"
        ) from error
    best = scores.argmax(axis=1)
    confidence = scores.max(axis=1).astype(np.float64)
    return Answers(tuple(names[i] for i in best.tolist()), confidence, scores, names)


def _errors() -> tuple[type[Exception], ...]:
    """Return what a wrong model or wrong rows raise: ONNX Runtime's own errors have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
    return (KeyError, ValueError, RuntimeError, *(getattr(state, name) for name in names))


def accuracy(found: Answers, truth: tuple[str, ...], rows: npt.NDArray[np.bool_]) -> float | None:
    """Return the share of right answers among the chosen rows; None where none is chosen."""
    if not rows.any():
        return None
    right = [a == b for a, b, chosen in zip(found.labels, truth, rows.tolist(), strict=True) if chosen]
    return sum(right) / len(right)


def gate(candidate: bytes, deployed: bytes | None, dataset: Dataset, config: GateConfig) -> GateResult:
    """Hold a candidate against the gates, side by side with the deployed model on the same rows.

    Rows of classes that the deployed model does not know count as its errors, since on the devices they are.
    """
    truth = tuple(dataset.labels[i] for i in dataset.y_evaluation.tolist())
    fresh = dataset.origin_evaluation != 0
    new = answers(candidate, dataset.x_evaluation)
    old = answers(deployed, dataset.x_evaluation) if deployed is not None else None
    overall = accuracy(new, truth, np.ones(len(truth), bool)) or 0.0
    first, recent = accuracy(new, truth, ~fresh), accuracy(new, truth, fresh)
    old_first = accuracy(old, truth, ~fresh) if old else None
    old_recent = accuracy(old, truth, fresh) if old else None
    reasons = []
    if overall < config.min_accuracy:
        reasons.append(f"accuracy {overall:.3f} is below {config.min_accuracy:.3f}")
    if first is not None and old_first is not None and first < old_first - config.max_regression:
        reasons.append(f"accuracy on the first data fell from {old_first:.3f} to {first:.3f}")
    if recent is not None and old_recent is not None and recent < old_recent + config.min_gain:
        reasons.append(f"on the devices' rows {recent:.3f} does not beat the deployed model's {old_recent:.3f}")
    return GateResult(not reasons, tuple(reasons), overall, first, recent, old_first, old_recent)

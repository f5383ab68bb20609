"""A converted estimator's answers in ONNX Runtime beside scikit-learn's own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from onnx import ModelProto

from skerry_compiler.errors import ModelError

MAX_PROBABILITY_ERROR = 1e-3
MIN_SAME_LABELS = 0.995
UNDECIDED = 1e-5  # of the greatest score: there float32 may fall on the other side


def check(estimator: Any, model: ModelProto, rows: np.ndarray) -> None:
    """Compare ONNX Runtime's answers on the converted model with scikit-learn's own.

    Raises:
        ModelError: labels or values differ by more than the limits above, or either refuses the rows.
    """
    answers = _converted(model, rows)
    if not hasattr(estimator, "predict"):
        _values(np.asarray(_asked(estimator, "transform", rows), np.float64), answers[0], len(rows))
        return
    expected = np.asarray(_asked(estimator, "predict", rows))
    if isinstance(getattr(estimator, "classes_", None), list):
        _labels(expected.astype(np.int64), answers[0])
    elif hasattr(estimator, "classes_"):
        # Truth values become numbers, as skl2onnx has them.
        _labels(expected.astype(np.int64) if expected.dtype == np.bool_ else expected, answers[0])
        if hasattr(estimator, "predict_proba"):
            _values(np.asarray(_asked(estimator, "predict_proba", rows)), answers[1], len(rows))
    elif _is_outlier_detector(estimator):
        scores = np.abs(np.asarray(_asked(estimator, "decision_function", rows), np.float64)).reshape(-1)
        decided = scores > UNDECIDED * max(1e-30, float(scores.max(initial=0.0)))
        _labels(expected.reshape(-1)[decided], np.asarray(answers[0]).reshape(-1)[decided])
    elif expected.dtype.kind in "iu" and hasattr(estimator, "labels_"):
        _labels(expected, answers[0])
    else:
        _values(expected, answers[0], len(rows))


def _converted(model: ModelProto, rows: np.ndarray) -> list[np.ndarray]:
    """Return ONNX Runtime's outputs."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: rows})
    except (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, RuntimeError) as error:
        raise ModelError(f"the converted model does not run: {' '.join(str(error).split())[:200]}") from error
    return found


def _asked(estimator: Any, method: str, rows: np.ndarray) -> Any:
    """Return what the estimator itself answers.

    Raises:
        ModelError: it refuses the rows.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            answer = getattr(estimator, method)(rows)
        except ValueError as error:
            said = " ".join(str(error).split())[:160]
            raise ModelError(
                f"the estimator itself refuses the rows it was tried on: {said}",
                hint="give rows that it takes with --calibration",
            ) from error
    return answer.toarray() if hasattr(answer, "toarray") else answer


def _is_outlier_detector(estimator: Any) -> bool:
    from sklearn.base import is_outlier_detector

    return bool(is_outlier_detector(estimator)) and hasattr(estimator, "decision_function")


def _labels(expected: np.ndarray, found: np.ndarray) -> None:
    one, two = np.asarray(found).reshape(-1).astype(str), expected.reshape(-1).astype(str)
    if expected.dtype.kind == "f":
        two = expected.reshape(-1).astype(np.int64).astype(str)
    if len(one) != len(two):
        raise ModelError(f"the converted model gives {len(one)} labels where scikit-learn gives {len(two)}")
    same = float(np.mean(one == two)) if len(one) else 1.0
    if same < MIN_SAME_LABELS:
        raise ModelError(
            f"the converted model gives other labels than scikit-learn on {1 - same:.1%} of {len(one)} rows"
        )


def _values(expected: np.ndarray, found: np.ndarray, rows: int) -> None:
    one, two = np.asarray(expected, np.float64).reshape(rows, -1), np.asarray(found, np.float64).reshape(rows, -1)
    if one.shape != two.shape:
        raise ModelError(f"the converted model gives {two.shape[1]} values where scikit-learn gives {one.shape[1]}")
    there = ~(np.isnan(one) & np.isnan(two))
    worst = float(np.max(np.abs(one - two), where=there, initial=0.0))
    limit = MAX_PROBABILITY_ERROR * max(1.0, float(np.nanmax(np.abs(one), initial=0.0)))
    if not worst <= limit:
        raise ModelError(f"the converted model is off by {worst:.2g} from scikit-learn (at most {limit:.2g})")

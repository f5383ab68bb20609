"""How far a candidate's answers are from the original's, and how often they are right."""

from __future__ import annotations

import numpy as np

from skerry_contracts.bundle import Signature
from skerry_contracts.evidence import Agreement

Outputs = tuple[np.ndarray, ...]


def compare(signature: Signature, expected: Outputs, found: Outputs, labels: np.ndarray | None) -> Agreement:
    """Return the agreement of two sets of outputs over the same rows.

    Args:
        signature: of the model.
        expected: the original's outputs; each tensor's first extent counts rows.
        found: the candidate's.
        labels: the true classes, one a row, or None.
    """
    compared = _compared(signature)
    if compared:
        one, two = (_flat(outputs, compared) for outputs in (expected, found))
        cosine, max_abs = _worst_cosine(one, two), _max_abs(one, two)
    else:
        cosine, max_abs = 1.0, 0.0
    chosen = classes(signature, expected), classes(signature, found)
    top1 = 1.0 if chosen[0] is None or chosen[1] is None else float(np.mean(chosen[0] == chosen[1]))
    return Agreement(cosine, max_abs, top1, accuracy(signature, found, labels))


def accuracy(signature: Signature, outputs: Outputs, labels: np.ndarray | None) -> float | None:
    """Return the share of rows whose class is the true one; None without labels or classes."""
    chosen = classes(signature, outputs)
    if labels is None or chosen is None:
        return None
    return float(np.mean(chosen == np.array([str(each) for each in labels.tolist()])))


def classes(signature: Signature, outputs: Outputs) -> np.ndarray | None:
    """Return each row's class by name: the best score's, else what the label output says; None for no classifier."""
    names = [spec.name for spec in signature.outputs]
    if signature.score_output is not None:
        scores = outputs[names.index(signature.score_output)]
        best = np.argmax(scores.reshape(len(scores), -1), axis=1)
        return np.array([signature.labels[each] for each in best])
    if signature.label_output is not None:
        values = outputs[names.index(signature.label_output)].reshape(-1)
        return np.array([str(int(each)) for each in values])
    return None


def _compared(signature: Signature) -> list[int]:
    """Return the places of the outputs whose numbers are compared: the floats, and where there are none the whole
    numbers, but for a chosen class, which is no quantity.
    """
    held = [(place, spec) for place, spec in enumerate(signature.outputs) if spec.size_bytes]
    floats = [place for place, spec in held if spec.dtype.value.startswith("FP")]
    return floats or [place for place, spec in held if spec.name != signature.label_output]


def range_of(signature: Signature, outputs: Outputs) -> float:
    """Return the largest absolute value of the float outputs; where there are none, of those in bytes, which stand for
    floats; 1 without either.
    """
    kinds = ("FP",) if any(spec.dtype.value.startswith("FP") for spec in signature.outputs) else ("INT8", "UINT8")
    parts = [
        float(np.max(np.abs(content[np.isfinite(content)].astype(np.float64)), initial=0.0))
        for spec, content in zip(signature.outputs, outputs, strict=True)
        if spec.dtype.value.startswith(kinds)
    ]
    return max(parts, default=1.0) or 1.0


def _flat(outputs: Outputs, places: list[int]) -> np.ndarray:
    """Return the float outputs as f64[rows, elements]."""
    return np.concatenate(
        [outputs[place].reshape(len(outputs[place]), -1).astype(np.float64) for place in places], axis=1
    )


def _worst_cosine(one: np.ndarray, two: np.ndarray) -> float:
    """Return the smallest cosine of a row; 1 for two rows of zeros, 0 where one has a value that is no number."""
    both_zero = (np.abs(one).max(axis=1) == 0) & (np.abs(two).max(axis=1) == 0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
        cosine = np.where(both_zero, 1.0, np.sum(one * two, axis=1) / lengths)
    return float(np.min(np.clip(np.nan_to_num(cosine, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)))


def _max_abs(one: np.ndarray, two: np.ndarray) -> float:
    """Return the largest absolute difference; where both have the same value that is no number, none."""
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    with np.errstate(invalid="ignore"):
        differences = np.where(same, 0.0, np.abs(one - two))
    return float(np.max(np.nan_to_num(differences, nan=np.finfo(np.float64).max, posinf=np.finfo(np.float64).max)))

"""The monitoring baseline: what the calibration data looks like, in bins that devices count into.

Bins follow the data (deciles) where inputs are few; larger inputs are counted by mean and standard deviation of the
whole. Confidence and label are those of the original model on the same rows.
"""

from __future__ import annotations

import numpy as np

from skerry_compiler import agreement, data
from skerry_contracts.bundle import Baseline, Signature

MAX_ELEMENTS = 256
DECILES = np.arange(1, 10) / 10
CONFIDENCE_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def baseline(signature: Signature, rows: data.Rows, outputs: agreement.Outputs | None) -> tuple[Baseline, ...]:
    """Return the histograms of calibration rows, and of the original's outputs on them where they are given."""
    found: list[Baseline] = []
    for spec, tensor in zip(signature.inputs, rows.tensors, strict=True):
        flat = tensor.reshape(len(tensor), -1).astype(np.float64)
        if spec.elements <= MAX_ELEMENTS:
            found += [_deciles(f"input:{spec.name}:{index}", flat[:, index]) for index in range(spec.elements)]
        else:
            found.append(_deciles(f"input:{spec.name}:mean", flat.mean(axis=1)))
            found.append(_deciles(f"input:{spec.name}:std", flat.std(axis=1)))
    if outputs is not None and signature.score_output is not None:
        place = [spec.name for spec in signature.outputs].index(signature.score_output)
        scores = outputs[place].reshape(len(rows), -1).astype(np.float64)
        found.append(_counted("confidence", CONFIDENCE_EDGES, scores.max(axis=1)))
        edges = tuple(index + 0.5 for index in range(scores.shape[1] - 1))
        if edges:
            found.append(_counted("label", edges, np.argmax(scores, axis=1).astype(np.float64)))
    return tuple(found)


def _deciles(source: str, values: np.ndarray) -> Baseline:
    """Return a histogram with the deciles for edges; equal ones are one, and edges are short numbers."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return _counted(source, (0.0,), finite)
    edges = sorted({float(f"{each:.6g}") for each in np.quantile(finite, DECILES, method="lower")})
    return _counted(source, tuple(edges), finite)


def _counted(source: str, edges: tuple[float, ...], values: np.ndarray) -> Baseline:
    """Return the histogram: bin i holds edges[i-1] <= value < edges[i], as skerry_contracts.sketch.bin_of says."""
    bins = np.searchsorted(np.asarray(edges), values, side="right")
    return Baseline(source, edges, tuple(int(each) for each in np.bincount(bins, minlength=len(edges) + 1)))

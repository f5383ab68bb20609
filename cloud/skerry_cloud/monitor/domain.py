"""Has the input changed? A classifier tries to tell the window from the reference; if it can, they differ.

The score is the area under the ROC curve of leave-one-out predictions. What score still is chance is not looked up
but measured: windows drawn from the reference itself are scored the same way, and the threshold is the order
statistic of theirs that gives the wanted rate of false alarms. The idea: Lopez-Paz & Oquab, "Revisiting classifier
two-sample tests", ICLR 2017.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from skerry_cloud.errors import DataError

Array = npt.NDArray[Any]
MIN_WINDOW = 20
RIDGE = 1.0
LINEAR_SHARE = 0.3


def hat_matrix(reference: Array, rows: Array) -> Array:
    """Return H f64[n, n] of kernel ridge regression on rows f32[n, d]: fitted values are H y, whatever the labels y.

    The kernel adds a Gaussian one (sees new clusters, as of a new class) and a linear one on standardised values and
    their squares (sees shifts and noise). Measured on digits with two new classes in a window of 100: power 0.33,
    with the linear part alone 0.16.
    """
    flat = reference.reshape(len(reference), -1).astype(np.float64)
    x = rows.reshape(len(rows), -1).astype(np.float64)
    spread = flat.std(axis=0)
    # A value that never moved in the reference (a border pixel) gets a floor, or its first stir would be infinite.
    scale = np.maximum(spread, max(1e-9, 0.1 * float(spread.mean())))
    z = np.clip((x - flat.mean(axis=0)) / scale, -8.0, 8.0)
    both = np.concatenate([z, np.minimum(z * z, 16.0)], axis=1)
    squares = (x * x).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * x @ x.T, 0.0)
    median = float(np.median(distances))
    kernel = np.exp(-distances / (median if median > 0 else 1.0))
    kernel += LINEAR_SHARE * (both - both.mean(axis=0)) @ both.T / both.shape[1]
    kernel -= kernel.mean(axis=0)
    kernel -= kernel.mean(axis=1)[:, None]
    kernel = (kernel + kernel.T) / 2
    ridge = RIDGE * max(float(np.trace(kernel)) / len(x), 1e-12)
    hat: Array = np.linalg.solve(kernel + ridge * np.eye(len(x)), kernel)
    return hat


def separability(hat: Array, in_window: npt.NDArray[np.bool_]) -> float:
    """Return how well the rows of the window are told from the others: 0.5 chance, 1 perfectly.

    Leave-one-out predictions come from one fit: (H y - h y) / (1 - h) with h the diagonal of H (Allen's PRESS).
    """
    y = in_window.astype(np.float64) - in_window.mean()
    own = np.diag(hat)
    ranks = rankdata((hat @ y - own * y) / np.maximum(1.0 - own, 1e-9))
    w, others = int(in_window.sum()), int((~in_window).sum())
    return float((ranks[in_window].sum() - w * (w + 1) / 2) / (w * others))


@dataclasses.dataclass(frozen=True, slots=True)
class DomainTest:
    """A calibrated test: `reference` f32[r, ...] to compare windows of `window` rows with; alarm above `threshold`."""

    reference: Array
    window: int
    threshold: float
    false_alarm_rate: float
    repeats: int

    def score(self, window: Array) -> float:
        """Return the separability of a window of exactly `window` rows.

        Raises:
            DataError: other rows than the test was calibrated for.
        """
        if len(window) != self.window or window.shape[1:] != self.reference.shape[1:]:
            raise DataError(f"the test is calibrated for {self.window} rows like the reference's")
        in_window = np.arange(len(self.reference) + len(window)) >= len(self.reference)
        return separability(hat_matrix(self.reference, np.concatenate([self.reference, window])), in_window)


def calibrate(reference: Array, window: int, false_alarm_rate: float, repeats: int, seed: int) -> DomainTest:
    """Return the test for windows of `window` rows (half the reference's at most) at a rate of false alarms per window.

    With m repeats the threshold is the k-th largest null score, k = floor(rate * (m + 1)): the order statistic that a
    further null window exceeds with probability k / (m + 1). One fit serves all repeats, since H does not depend on
    which rows are the window.

    Raises:
        DataError: too few reference rows, or too few repeats for so small a rate.
    """
    window = min(window, len(reference) // 2)
    if window < MIN_WINDOW:
        raise DataError(f"{len(reference)} reference rows are too few", hint=f"at least {2 * MIN_WINDOW} are needed")
    rank = math.floor(false_alarm_rate * (repeats + 1))
    if rank < 1:
        least = math.ceil(1 / false_alarm_rate) - 1
        raise DataError(
            f"{repeats} repeats cannot show a rate of {false_alarm_rate:g}", hint=f"at least {least} are needed"
        )
    generator = np.random.default_rng(seed)
    hat = hat_matrix(reference, reference)
    scores = np.empty(repeats)
    for i in range(repeats):
        scores[i] = separability(hat, generator.permutation(len(reference)) < window)
    # The test compares with as many rows as the calibration did, so that null and test scores have one distribution.
    kept = generator.permutation(len(reference))[window:]
    return DomainTest(reference[kept], window, float(np.sort(scores)[-rank]), false_alarm_rate, repeats)

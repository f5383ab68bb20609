"""Has a feature's distribution changed? The fleet's merged histograms against the bundle's baseline, without any raw
data.

Score of a feature: Jensen-Shannon divergence, weighted by the two counts, which is the G statistic of homogeneity
over 2 n ln 2 (Lin, "Divergence measures based on the Shannon entropy", 1991). What is still chance depends on counts
and bins, so each feature is standardised by its own parametric bootstrap (both sides multinomial from the pooled
shares), and the threshold is the quantile of the bootstrap's greatest standardised score over all features. Features
are drawn independently; real ones go together, which makes the greatest smaller: the stated rate of false alarms is
kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_cloud.errors import DataError
from skerry_contracts.bundle import Baseline
from skerry_contracts.sketch import Histogram

Array = npt.NDArray[Any]
MIN_COUNT = 50


@dataclasses.dataclass(frozen=True, slots=True)
class HistogramScore:
    """Of one comparison: the greatest standardised score, its feature, the threshold, and each feature's divergence
    in bits.
    """

    feature: str
    score: float
    threshold: float
    predictions: int
    divergence_bits: dict[str, float]


def divergence(left: Array, right: Array) -> Array:
    """Return the weighted Jensen-Shannon divergence in bits of counts [..., k] and [..., k]; weights are the total
    counts.

    >>> float(divergence(np.array([5, 0]), np.array([0, 5])))
    1.0
    """
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    total_left, total_right = left.sum(-1), right.sum(-1)
    total = total_left + total_right
    both = left + right
    own = _entropy(left) * total_left + _entropy(right) * total_right
    result: Array = np.maximum(_entropy(both) - own / np.maximum(total, 1.0), 0.0)
    return result


def compare(
    baselines: Sequence[Baseline], merged: Mapping[str, Histogram], *, false_alarm_rate: float, repeats: int, seed: int
) -> HistogramScore:
    """Compare what devices counted with what the bundle's maker counted, over all features both know.

    A stream repeats itself (the same scene, the same few machines), so its effective size is unknown; it is taken to
    be at most the baseline's, or every stream would drift at last.

    Raises:
        DataError: no common feature, or too few predictions for any.
    """
    pairs = []
    for baseline in baselines:
        counted = merged.get(baseline.source)
        if counted is None or len(counted.counts) != len(baseline.counts):
            continue
        base, seen = np.array(baseline.counts, np.float64), np.array(counted.counts, np.float64)
        if base.sum() < MIN_COUNT or seen.sum() < MIN_COUNT:
            continue
        seen *= min(1.0, base.sum() / seen.sum())
        pairs.append((baseline.source, base, seen))
    if not pairs:
        raise DataError("too few predictions counted, or no feature in common with the baseline")
    generator = np.random.default_rng(seed)
    best = np.full(repeats, -np.inf)
    scores: dict[str, float] = {}
    bits: dict[str, float] = {}
    for source, base, seen in pairs:
        null = _null(base, seen, repeats, generator)
        mean, spread = float(null.mean()), float(max(null.std(), 1e-12))
        bits[source] = float(divergence(base, seen))
        scores[source] = (bits[source] - mean) / spread if null.std() > 0 else (0.0 if bits[source] <= mean else 1e6)
        best = np.maximum(best, (null - mean) / spread)
    feature = max(scores, key=lambda source: scores[source])
    threshold = float(np.quantile(best, 1 - false_alarm_rate, method="higher"))
    predictions = max(sum(merged[source].counts) for source, _, _ in pairs)
    return HistogramScore(feature, scores[feature], threshold, predictions, bits)


def _null(base: Array, seen: Array, repeats: int, generator: np.random.Generator) -> Array:
    """Return divergences f64[repeats] of two samples of the pooled shares, of the same sizes."""
    pooled = (base + seen) / (base.sum() + seen.sum())
    left = generator.multinomial(round(base.sum()), pooled, repeats)
    right = generator.multinomial(max(1, round(seen.sum())), pooled, repeats)
    return divergence(left, right)


def _entropy(counts: Array) -> Array:
    """Return the entropy in bits of counts [..., k] along the last axis; 0 where there is nothing."""
    share = counts / np.maximum(counts.sum(-1, keepdims=True), 1e-300)
    terms = np.where(share > 0, -share * np.log2(np.where(share > 0, share, 1.0)), 0.0)
    result: Array = terms.sum(-1)
    return result

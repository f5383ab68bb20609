"""Which inputs are unlike those before: their distance in a fixed random projection, in spreads of what was seen.

The score is Mahalanobis' distance (1936) with a diagonal covariance over the projection's numbers, whose mean and
variance forget what is more than some 4000 predictions old. The threshold follows by stochastic approximation (Robbins
and Monro, 1951) so that, in the long run, just the asked share is above it (less where fewer are farther than average):
the first of a new kind are novel, the thousandth is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from skerry_agent.projection import Projection
from skerry_contracts.tensor import Tensor, TensorSpec

DIMENSIONS = 16
WARM_UP = 64
MEMORY = 4096
STEP = 0.1
FARTHEST = 1e4  # squared spreads that one number may count at most


class Novelty:
    """The memory of one model's inputs. Nothing is novel during the first `WARM_UP` predictions."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._projections = {spec.name: Projection(spec, DIMENSIONS) for spec in specs if spec.elements}
        dimensions = sum(each.dimensions for each in self._projections.values())
        self._mean = [0.0] * dimensions
        self._variance = [0.0] * dimensions
        self._seen = 0
        self._threshold = 0.0  # the logarithm of a distance; 0: as far as inputs are on average

    def is_novel(self, tensors: Iterable[Tensor], rate: float) -> bool:
        """Take one prediction's tensors; return whether they are among the farthest (a share of `rate` of all)."""
        named = {tensor.name: tensor for tensor in tensors}
        point: list[float] = []
        for name, projection in self._projections.items():
            found = projection.apply(named[name]) if name in named else None
            if found is None:
                return False
            point += found
        if not point:
            return False
        score = math.log(self._distance(point) + 1e-9)
        self._learn(point)
        if self._seen <= WARM_UP:
            self._threshold = max(self._threshold, score) if self._seen > WARM_UP // 2 else 0.0
            return False
        novel = score > self._threshold
        self._threshold = max(0.0, self._threshold + STEP * (novel - rate))
        return novel

    def _distance(self, point: Sequence[float]) -> float:
        total = 0.0
        for value, mean, variance in zip(point, self._mean, self._variance, strict=True):
            square = (value - mean) ** 2
            if square > 1e-12 * mean * mean:  # what rounding alone makes is no distance
                total += min(square / variance, FARTHEST) if variance > 0 else FARTHEST
        return total / len(point)

    def _learn(self, point: Sequence[float]) -> None:
        self._seen += 1
        share = max(1 / self._seen, 1 / MEMORY)
        for i, value in enumerate(point):
            delta = value - self._mean[i]
            self._mean[i] += share * delta
            self._variance[i] = (1 - share) * (self._variance[i] + share * delta * delta)

"""Mergeable statistics: computed on devices, added up anywhere, in any order, with the same result.

Histograms count into the bins of the bundle's baseline, so two sketches of one bundle always fit. Moments are merged
by the pairwise formula of Chan, Golub and LeVeque (1979). Quantiles and frequent labels have modules of their own.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from skerry_contracts import names
from skerry_contracts.errors import MismatchError
from skerry_contracts.frequent import Frequent
from skerry_contracts.quantiles import Quantiles

LARGEST = 1e140  # the squares of many of these still have a finite sum


@dataclasses.dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in the bins of the baseline with the same `source`; what is no number is counted in `missing`."""

    source: str
    counts: tuple[int, ...]
    missing: int = 0

    def __post_init__(self) -> None:
        if self.missing < 0 or any(count < 0 for count in self.counts):
            raise MismatchError("counts", "none negative")


@dataclasses.dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean, sum of squared differences from the mean, least and greatest of a stream of numbers."""

    source: str
    count: int
    mean: float
    m2: float
    least: float
    greatest: float

    @property
    def variance(self) -> float:
        """The sample variance; 0 for fewer than two values."""
        return self.m2 / (self.count - 1) if self.count > 1 else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Sketch:
    """What one device saw of one bundle's predictions in one window of its own time. `quantiles` and `frequent` are
    there where the sampling policy asks for them.
    """

    boot_id: str
    seq: int
    start_s: float
    end_s: float
    model: str
    bundle: str
    variant: str
    predictions: int
    histograms: tuple[Histogram, ...]
    moments: tuple[Moments, ...] = ()
    quantiles: tuple[Quantiles, ...] | None = None
    frequent: tuple[Frequent, ...] | None = None

    def __post_init__(self) -> None:
        names.boot_id(self.boot_id)
        names.sha256(self.bundle, "bundle")


class RunningMoments:
    """Welford's method (1962): count, mean, m2 and range of a stream, one value at a time."""

    __slots__ = ("count", "greatest", "least", "m2", "mean")

    def __init__(self) -> None:
        self.count, self.mean, self.m2 = 0, 0.0, 0.0
        self.least, self.greatest = math.inf, -math.inf

    def add(self, value: float) -> None:
        """Take one value; what is no number, or so large that its square is none, is left out."""
        if not abs(value) <= LARGEST:
            return
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self.m2 += delta * (value - self.mean)
        self.least = min(self.least, value)
        self.greatest = max(self.greatest, value)

    def record(self, source: str) -> Moments:
        """Return the moments as a contract's record (zeros where nothing was seen)."""
        if self.count == 0:
            return Moments(source, 0, 0.0, 0.0, 0.0, 0.0)
        return Moments(source, self.count, self.mean, self.m2, self.least, self.greatest)


def bin_of(edges: Sequence[float], value: float) -> int:
    """Return the index of the bin that holds a value; bin i holds edges[i-1] <= value < edges[i].

    >>> bin_of((0.0, 1.0), -1.0), bin_of((0.0, 1.0), 0.0), bin_of((0.0, 1.0), 1.0)
    (0, 1, 2)
    """
    return bisect_right(edges, value)


def merge_histograms(parts: Iterable[Histogram]) -> Histogram:
    """Return the sum of histograms of one source.

    Raises:
        MismatchError: none given, or of different sources or bins.
    """
    parts = list(parts)
    if not parts:
        raise MismatchError("histograms", "none to merge")
    if len({(part.source, len(part.counts)) for part in parts}) != 1:
        raise MismatchError("histograms", "of different sources or bins")
    counts = tuple(sum(column) for column in zip(*(part.counts for part in parts), strict=True))
    return Histogram(parts[0].source, counts, sum(part.missing for part in parts))


def merge_moments(left: Moments, right: Moments) -> Moments:
    """Return the moments of both streams together.

    Raises:
        MismatchError: of different sources.
    """
    if left.source != right.source:
        raise MismatchError("moments", f"{left.source} and {right.source} do not add up")
    if left.count == 0 or right.count == 0:
        return left if right.count == 0 else right
    count = left.count + right.count
    delta = right.mean - left.mean
    mean = left.mean + delta * right.count / count
    m2 = left.m2 + right.m2 + delta * delta * left.count * right.count / count
    return Moments(left.source, count, mean, m2, min(left.least, right.least), max(left.greatest, right.greatest))


def add_to_moments(moments: Moments, value: float) -> Moments:
    """Return the moments with one value more; a value that is no number changes nothing."""
    if not math.isfinite(value):
        return moments
    return merge_moments(moments, Moments(moments.source, 1, value, 0.0, value, value))

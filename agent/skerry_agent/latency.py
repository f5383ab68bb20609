"""Latencies in a fixed histogram: percentiles to within 3 percent, 3 kB for a model, however many inferences.

Bins grow by 5 percent from 1 µs to 100 s (the idea of HDR histograms, without their library).
"""

from __future__ import annotations

import math
from array import array

_GROWTH = math.log(1.05)
_LEAST_NS = 1000
_BINS = 380


class LatencyHistogram:
    """Counts latencies given in nanoseconds and answers percentiles in milliseconds.

    >>> histogram = LatencyHistogram()
    >>> for _ in range(99):
    ...     histogram.add(1_000_000)
    >>> histogram.add(50_000_000)
    >>> abs(histogram.percentile_ms(0.5) - 1) < 0.03, abs(histogram.percentile_ms(1.0) - 50) < 1.5
    (True, True)
    """

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BINS))
        self.count = 0

    def add(self, elapsed_ns: int) -> None:
        """Count one latency."""
        place = int(math.log(elapsed_ns / _LEAST_NS) / _GROWTH) if elapsed_ns > _LEAST_NS else 0
        self._counts[min(place, _BINS - 1)] += 1
        self.count += 1

    def percentile_ms(self, share: float) -> float:
        """Return the latency that this share (0 to 1) of inferences did not exceed; 0 where nothing was counted."""
        wanted, seen = math.ceil(share * self.count), 0
        for place, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return _LEAST_NS * math.exp((place + 0.5) * _GROWTH) / 1e6
        return 0.0

    def clear(self) -> None:
        """Forget everything."""
        self._counts = array("Q", bytes(8 * _BINS))
        self.count = 0


def percentile_ms(sorted_ns: list[int], share: float) -> float:
    """Return the exact percentile of rising nanoseconds, in milliseconds (nearest rank); 0 for none.

    >>> percentile_ms([1_000_000, 2_000_000, 3_000_000], 0.5)
    2.0
    """
    if not sorted_ns:
        return 0.0
    return sorted_ns[max(0, math.ceil(share * len(sorted_ns)) - 1)] / 1e6

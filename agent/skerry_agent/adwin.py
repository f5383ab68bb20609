"""Has a stream's mean changed? The adaptive window of Bifet and Gavalda (ADWIN2, "Learning from time-changing data with
adaptive windowing", 2007), in bounded memory.

The window holds everything since the last change, in buckets of 1, 2, 4 … values, `ROW` of each size at most. Wherever
its older and younger part have means farther apart than chance allows (their equation 3.1, with the variance of the
window), the older part goes.
"""

from __future__ import annotations

import dataclasses
import math

ROW = 5
CHECK_EVERY = 32
LEAST = 16  # values in either part
FIRST = 128  # no verdict from fewer


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """The mean of what went, and of the `count` values that are left."""

    before: float
    after: float
    count: int


class Adwin:
    """The window over one stream of values from 0 to 1. `delta` bounds the chance of a false change in a window.

    >>> window = Adwin(0.002)
    >>> any(window.add(0.2 + 0.6 * (i >= 1000)) for i in range(1200))
    True
    """

    __slots__ = ("_delta", "_rows", "_since", "_squares", "_sum", "count")

    def __init__(self, delta: float) -> None:
        self.count = 0
        self._delta = delta
        self._sum = self._squares = 0.0
        self._since = 0
        self._rows: list[list[tuple[float, float]]] = [[]]  # oldest first: (sum, sum of squares) of 2^row values

    def add(self, value: float) -> Change | None:
        """Take one value (cut to 0 to 1; what is no number is left out); return the change that it reveals."""
        if not math.isfinite(value):
            return None
        value = min(max(value, 0.0), 1.0)
        self.count += 1
        self._sum += value
        self._squares += value * value
        self._rows[0].append((value, value * value))
        for i, row in enumerate(self._rows):
            if len(row) <= ROW:
                break
            if i + 1 == len(self._rows):
                self._rows.append([])
            (a, aa), (b, bb) = row[0], row[1]
            del row[:2]
            self._rows[i + 1].append((a + b, aa + bb))
        self._since += 1
        if self._since < CHECK_EVERY or self.count < FIRST:
            return None
        self._since = 0
        return self._cut()

    @property
    def mean(self) -> float:
        """The mean of the window; 0 of an empty one."""
        return self._sum / self.count if self.count else 0.0

    def _cut(self) -> Change | None:
        gone_count, gone_sum = 0, 0.0
        while self.count >= FIRST and self._differs():
            row = len(self._rows) - 1
            gone, squares = self._rows[row].pop(0)
            if not self._rows[row] and row:
                self._rows.pop()
            self.count -= 1 << row
            self._sum -= gone
            self._squares -= squares
            gone_count, gone_sum = gone_count + (1 << row), gone_sum + gone
        return Change(gone_sum / gone_count, self.mean, self.count) if gone_count else None

    def _differs(self) -> bool:
        variance = max(0.0, self._squares / self.count - self.mean**2)
        certainty = math.log(2 * math.log(self.count) / self._delta)
        old_count, old_sum = 0, 0.0
        for i in range(len(self._rows) - 1, -1, -1):
            for each, _ in self._rows[i]:
                old_count, old_sum = old_count + (1 << i), old_sum + each
                new_count = self.count - old_count
                if new_count < LEAST:
                    return False
                if old_count >= LEAST:
                    size = 1 / (1 / old_count + 1 / new_count)
                    bound = math.sqrt(2 / size * variance * certainty) + 2 / (3 * size) * certainty
                    if abs(old_sum / old_count - (self._sum - old_sum) / new_count) > bound:
                        return True
        return False

"""Frequent labels of a stream in bounded space, mergeable: the summary of Misra and Gries ("Finding repeated
elements", 1982), merged as Agarwal et al. do ("Mergeable summaries", 2012).

A label's counter is never too high, and too low by `short` at most, which is at most `count / (capacity + 1)`: every
label with a larger share than that is there. Space-Saving keeps the same information (isomorphic, ibid., section 2.2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from skerry_contracts.errors import MismatchError

MAX_CAPACITY = 1024
LABEL_LETTERS = 80


@dataclasses.dataclass(frozen=True, slots=True)
class Frequent:
    """The most frequent of `count` labels: label -> counter. A label's true count is from its counter (0 where it has
    none) to that plus `short`.
    """

    source: str
    count: int
    capacity: int
    counters: dict[str, int]
    short: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.capacity <= MAX_CAPACITY or len(self.counters) > self.capacity:
            raise MismatchError("capacity", f"from 1 to {MAX_CAPACITY}, and no more counters than that")
        if any(count < 1 for count in self.counters.values()) or self.short < 0:
            raise MismatchError("counters", "at least 1 each; short is not negative")
        if sum(self.counters.values()) + self.short * (self.capacity + 1) > self.count:
            raise MismatchError("counters", "more than were counted")

    def most(self, label: str) -> int:
        """Return how often a label may have come at most."""
        return self.counters.get(label, 0) + self.short


class RunningFrequent:
    """The summary of a stream as it comes; constant time a label on average."""

    __slots__ = ("capacity", "count", "counters", "short")

    def __init__(self, capacity: int) -> None:
        self.capacity, self.count, self.short = capacity, 0, 0
        self.counters: dict[str, int] = {}

    def add(self, label: str) -> None:
        """Take one label; its first letters name it."""
        label = label[:LABEL_LETTERS]
        self.count += 1
        if label in self.counters or len(self.counters) < self.capacity:
            self.counters[label] = self.counters.get(label, 0) + 1
            return
        self.short += 1
        self.counters = {each: count - 1 for each, count in self.counters.items() if count > 1}

    def most(self, label: str) -> int:
        """Return how often a label may have come at most."""
        return self.counters.get(label[:LABEL_LETTERS], 0) + self.short

    def record(self, source: str) -> Frequent:
        """Return the summary as a contract's record."""
        return Frequent(source, self.count, self.capacity, dict(self.counters), self.short)


def merge_frequent(parts: Iterable[Frequent]) -> Frequent:
    """Return the summary of all streams together; the order of the parts does not matter.

    Raises:
        MismatchError: none given, or of different sources or capacities.
    """
    parts = list(parts)
    if not parts:
        raise MismatchError("frequent", "none to merge")
    if len({(part.source, part.capacity) for part in parts}) != 1:
        raise MismatchError("frequent", "of different sources or capacities")
    capacity = parts[0].capacity
    added: dict[str, int] = {}
    for part in parts:
        for label, count in part.counters.items():
            added[label] = added.get(label, 0) + count
    cut = sorted(added.values(), reverse=True)[capacity] if len(added) > capacity else 0
    counters = {label: count - cut for label, count in added.items() if count > cut}
    return Frequent(
        parts[0].source,
        sum(part.count for part in parts),
        capacity,
        counters,
        sum(part.short for part in parts) + cut,
    )

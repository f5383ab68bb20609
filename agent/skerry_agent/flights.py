"""The inferences that a worker has been given: the first one runs, the others lie ready behind it in the same memory.

A worker that finds its next inference ready does not sleep between two: on a busy machine the wake-ups cost more than
small models do. Pure bookkeeping, times are given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

A = TypeVar("A")


class Flight(Generic[A]):
    """One inference. `tell` is called once: with the answer, or with None where it was never begun."""

    __slots__ = ("counter", "deadline_s", "given_ns", "place", "tell")

    def __init__(
        self, counter: int, place: int, deadline_s: float, given_ns: int, tell: Callable[[A | None], None]
    ) -> None:
        self.counter, self.place, self.deadline_s, self.given_ns, self.tell = counter, place, deadline_s, given_ns, tell


class Flights(Generic[A]):
    """What one worker has, in the order in which it answers, and which places in its memory are free."""

    def __init__(self, places: int) -> None:
        self._free = list(range(places))
        heapify(self._free)
        self._flights: deque[Flight[A]] = deque()
        self._counter = 0
        self._answered_ns = 0

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def room(self) -> int:
        """How many more there may be."""
        return len(self._free)

    @property
    def first(self) -> Flight[A] | None:
        """The one that runs."""
        return self._flights[0] if self._flights else None

    def next(self) -> tuple[int, int]:
        """Return the counter and the place of the next one: the first free one, so that a lone caller's is warm."""
        return self._counter + 1, self._free[0]

    def give(self, deadline_s: float, given_ns: int, tell: Callable[[A | None], None]) -> None:
        """Add what `next` spoke of: it was sent."""
        self._counter += 1
        self._flights.append(Flight(self._counter, heappop(self._free), deadline_s, given_ns, tell))

    def answered(self, now_ns: int) -> tuple[Flight[A], int, int]:
        """Take the first one out; returns it, for how long at most it ran, and for how long others ran before it."""
        flight = self._flights.popleft()
        heappush(self._free, flight.place)
        behind_ns = max(0, self._answered_ns - flight.given_ns)
        self._answered_ns = now_ns
        return flight, now_ns - flight.given_ns - behind_ns, behind_ns

    def last(self) -> Flight[A] | None:
        """Take the last one out: put back one after the other, they stand in their old order."""
        if not self._flights:
            return None
        flight = self._flights.pop()
        heappush(self._free, flight.place)
        return flight

"""The one queue of events: a seeded heap. What is due first happens first; at the same instant, what was asked for
first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from skerry_simulators.clock import TrueClock

Action = Callable[..., None]


class Heap:
    """Events in virtual time. `at` and `after` add one; `step` runs the next one and moves the clock to it."""

    def __init__(self, clock: TrueClock) -> None:
        self.clock = clock
        self.events = 0
        self._count = 0
        self._queue: list[tuple[float, int, Action, tuple[Any, ...]]] = []

    def after(self, delay_s: float, action: Action, *arguments: Any) -> None:
        """Run an action so many seconds from now."""
        self.at(self.clock.now_s + delay_s, action, *arguments)

    def at(self, time_s: float, action: Action, *arguments: Any) -> None:
        """Run an action at a moment of simulation time, or now where that is past."""
        self._count += 1
        heapq.heappush(self._queue, (max(time_s, self.clock.now_s), self._count, action, arguments))

    def step(self, end_s: float) -> bool:
        """Run the next event before `end_s`; return False, with the clock at `end_s`, where there is none."""
        if not self._queue or self._queue[0][0] > end_s:
            self.clock.now_s = max(self.clock.now_s, end_s)
            return False
        self.clock.now_s, _, action, arguments = heapq.heappop(self._queue)
        self.events += 1
        action(*arguments)
        return True

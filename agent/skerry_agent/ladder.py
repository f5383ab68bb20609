"""The degradation ladder: what a device serves when it cannot serve what it should, one rung at a time.

    what was installed -> its smaller variants -> the last good bundle -> nothing (503, with the reason)

Down when the worker keeps dying, when memory is short or when the device is hot, and up again, rung by rung, once the
cause has been gone for a while; each climb that fails makes the next wait twice as long. Pure: the caller knows the
time, starts workers and tells people.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from enum import StrEnum

FALLS = 5  # deaths of a worker within WINDOW_S that make a step down
WINDOW_S = 300.0
STEP_S = 30.0  # between two steps for heat or memory: the first needs time to help
CLIMB_S = 600.0
LONGEST_CLIMB_S = 86400.0


class Cause(StrEnum):
    """Why a step down is made, in the words of the heartbeat."""

    FALLS = "its worker keeps failing"
    MEMORY = "memory is short"
    HEAT = "the device is hot"


@dataclasses.dataclass(frozen=True, slots=True)
class Rung:
    """One thing to serve; without a bundle: nothing."""

    bundle: str
    variant: str
    bytes: int
    words: str


NOTHING = Rung("", "", 0, "nothing")


class Ladder:
    """Where one model stands. `rungs` are from best to last; `NOTHING` is added below."""

    def __init__(self, rungs: Sequence[Rung]) -> None:
        self._rungs = [*rungs, NOTHING]
        self._at = 0
        self._falls: deque[float] = deque(maxlen=FALLS)
        self._moved_s = float("-inf")
        self._climbed_s = float("-inf")
        self._calm_s: float | None = None
        self._wait_s = CLIMB_S
        self.cause: Cause | None = None

    @property
    def rung(self) -> Rung:
        """What is to serve now."""
        return self._rungs[self._at]

    @property
    def first(self) -> Rung:
        """What should serve."""
        return self._rungs[0]

    @property
    def degraded(self) -> bool:
        """Whether it is not what was installed."""
        return self._at > 0

    def fell(self, now_s: float) -> None:
        """A worker of this rung died or did not start."""
        self._falls.append(now_s)

    def step(self, now_s: float, *, hot: bool, short: bool) -> bool:
        """Look at the causes; returns whether `rung` is another one now."""
        often = len(self._falls) == FALLS and now_s - self._falls[0] <= WINDOW_S
        if often:
            return self._down(now_s, Cause.FALLS, smaller=False)
        if hot or short:
            self._calm_s = None
            if now_s - self._moved_s < STEP_S:
                return False
            return self._down(now_s, Cause.HEAT if hot else Cause.MEMORY, smaller=True)
        if self._calm_s is None:
            self._calm_s = now_s
        if not self.degraded or now_s - max(self._calm_s, self._moved_s) < self._wait_s:
            return False
        self._at -= 1
        self._moved_s = self._calm_s = self._climbed_s = now_s
        if not self.degraded:
            self.cause = None
        return True

    def _down(self, now_s: float, cause: Cause, *, smaller: bool) -> bool:
        self._falls.clear()
        at = self._at + 1
        while smaller and at < len(self._rungs) and self._rungs[at].bytes >= self.rung.bytes:
            at += 1
        if at >= len(self._rungs):
            return False
        if now_s - self._climbed_s < self._wait_s:
            self._wait_s = min(LONGEST_CLIMB_S, 2 * self._wait_s)
        elif not self.degraded:
            self._wait_s = CLIMB_S
        self._climbed_s = float("-inf")
        self._at, self.cause, self._moved_s, self._calm_s = at, cause, now_s, None
        return True

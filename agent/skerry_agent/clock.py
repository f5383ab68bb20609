"""Time and chance as the agent sees them: passed in at the top, so that a simulator can put its own in their place."""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time may jump, be decades off or run backwards; monotonic time only runs forward, within one boot."""

    def wall_s(self) -> float:
        """Return seconds since 1970, as this device believes."""

    def monotonic_s(self) -> float:
        """Return seconds since some moment of this boot."""

    def local_minute(self) -> int:
        """Return minutes after local midnight: what maintenance windows are written in."""


class Rng(Protocol):
    """Chance; `random.Random` is one."""

    def random(self) -> float:
        """Return a number from 0 (included) to 1 (excluded)."""

    def randbytes(self, n: int, /) -> bytes:
        """Return that many random bytes."""


class SystemClock:
    """The machine's own clocks."""

    def wall_s(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def monotonic_s(self) -> float:
        """Return CLOCK_MONOTONIC."""
        return time.monotonic()

    def local_minute(self) -> int:
        """Return minutes after midnight in the machine's time zone."""
        now = time.localtime()
        return now.tm_hour * 60 + now.tm_min


def system_rng() -> Rng:
    """Return a generator fed by the operating system's entropy."""
    return random.SystemRandom()

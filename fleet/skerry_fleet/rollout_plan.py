"""How a rollout proceeds, as it was ordered: stages, budgets, pace. Pure."""

from __future__ import annotations

import dataclasses
import math

from skerry_contracts.errors import MismatchError

FASTEST = 1e6
"""Offers a minute; faster is no limit."""


def finite(words: Wave | Plan) -> None:
    """Refuse NaN and infinity, which pass every comparison that asks whether a number is too small or too large.

    Raises:
        MismatchError: a field is one of them.
    """
    for each in dataclasses.fields(words):
        value = getattr(words, each.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise MismatchError(each.name, "a finite number")


@dataclasses.dataclass(frozen=True, slots=True)
class Wave:
    """Up to `percent` of the devices; with at most `in_flight` exposed at once (None: the exposure budget)."""

    percent: int
    in_flight: int | None = None

    def __post_init__(self) -> None:
        finite(self)
        if not 0 < self.percent <= 100:
            raise MismatchError("percent", "from 1 to 100")
        if self.in_flight is not None and self.in_flight < 1:
            raise MismatchError("in_flight", "at least 1")


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How a rollout proceeds.

    `canary` devices must confirm first, then the waves follow. A device confirms by a heartbeat that shows it serving
    the bundle at least `soak_s` after the fleet heard of its commit (0: by the commit itself). More than
    `failure_budget` failures take everything back. `timeout_s` after its offer a device that has not confirmed counts
    as failed (0: never). Failures of the network are tried again `retries` times, first after `retry_s`, then after
    twice that. `holdout` percent of the devices, the last in the order, get the bundle only when the rollout is
    complete: they are what the last wave is compared with.

    `per_minute` offers a minute at most (0: no limit); each time `grow_after` devices more have confirmed, that many
    times `growth`. `bytes_per_s` is what all devices together may fetch, the whole bundle counted for each.
    """

    canary: int = 1
    waves: tuple[Wave, ...] = (Wave(100),)
    soak_s: float = 30.0
    failure_budget: int = 0
    exposure_budget: int = 5
    timeout_s: float = 86_400.0
    retries: int = 2
    retry_s: float = 30.0
    approval: bool = False
    holdout: int = 0
    per_minute: float = 0.0
    growth: float = 2.0
    grow_after: int = 0
    bytes_per_s: int = 0

    def __post_init__(self) -> None:
        finite(self)
        if not 0 <= self.holdout <= 50:
            raise MismatchError("holdout", "from 0 to 50 percent")
        if not (0 <= self.per_minute <= FASTEST and 1 <= self.growth <= 10 and self.grow_after >= 0):
            raise MismatchError("per_minute", f"from 0 to {FASTEST:.0f}; growth from 1 to 10, grow_after not negative")
        if self.bytes_per_s < 0:
            raise MismatchError("bytes_per_s", "not negative")
        if self.canary < 1:
            raise MismatchError("canary", "at least 1 device")
        if not self.waves or any(a.percent >= b.percent for a, b in zip(self.waves, self.waves[1:], strict=False)):
            raise MismatchError("waves", "at least one, percentages rising")
        if min(self.soak_s, self.timeout_s, self.retry_s) < 0 or max(self.soak_s, self.timeout_s, self.retry_s) > 1e9:
            raise MismatchError("soak_s", "times are not negative")
        if self.failure_budget < 0 or not 0 <= self.retries <= 10:
            raise MismatchError("failure_budget", "not negative; at most 10 retries")
        if self.exposure_budget <= self.failure_budget:
            raise MismatchError(
                "exposure_budget", "must be greater than failure_budget, or failures would stop it for good"
            )

    def interval_s(self, confirmed: int, size_bytes: int) -> float:
        """Return how far apart offers of so large a bundle are, once so many devices have confirmed it."""
        steps = confirmed // self.grow_after if self.grow_after else 0
        rate = min(FASTEST, self.per_minute * self.growth ** min(steps, 64))
        fetched_s = size_bytes / self.bytes_per_s if self.bytes_per_s else 0.0
        return max(60.0 / rate if rate else 0.0, fetched_s)

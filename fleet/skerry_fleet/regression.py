"""Does a device do worse with the new bundle than with what it ran before? Pure; figures are the device's own
heartbeats.
"""

from __future__ import annotations

import dataclasses

from skerry_contracts.device import ModelHealth, ModelState
from skerry_contracts.errors import MismatchError


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much worse is too much. None: not judged.

    `error_rate` is the share of predictions that failed, above the rate before; judged after `least_predictions`.
    `latency_factor` is the p95 latency against the one before; `confidence_drop` how far the mean confidence may fall.
    """

    error_rate: float | None = 0.1
    latency_factor: float | None = None
    confidence_drop: float | None = None
    least_predictions: int = 20

    def __post_init__(self) -> None:
        rates = (self.error_rate, self.confidence_drop)
        if any(rate is not None and not 0 <= rate <= 1 for rate in rates):
            raise MismatchError("error_rate", "rates and drops run from 0 to 1")
        if self.latency_factor is not None and self.latency_factor < 1:
            raise MismatchError("latency_factor", "at least 1")
        if self.least_predictions < 1:
            raise MismatchError("least_predictions", "at least 1")


@dataclasses.dataclass(slots=True)
class Tally:
    """What a device's heartbeats have said of the new bundle so far."""

    predictions: int = 0
    errors: int = 0


def judge(limits: Limits, before: ModelHealth | None, tally: Tally, now: ModelHealth) -> str | None:
    """Add one heartbeat to the tally and return what got worse, in words; None if nothing did."""
    tally.predictions += now.predictions
    tally.errors += now.errors
    attempts = tally.predictions + tally.errors
    if now.state is ModelState.STOPPED or attempts < limits.least_predictions:
        return None
    rate, usual = tally.errors / attempts, _rate(before)
    if limits.error_rate is not None and rate > usual + limits.error_rate:
        return f"{rate:.1%} of predictions fail, {usual:.1%} did before"
    if before is None:
        return None
    slow = limits.latency_factor is not None and now.latency_p95_ms > before.latency_p95_ms * limits.latency_factor
    if slow and before.latency_p95_ms > 0:
        return f"p95 latency {now.latency_p95_ms:.3g} ms, {before.latency_p95_ms:.3g} ms before"
    was, is_now = before.mean_confidence, now.mean_confidence
    if was is None or is_now is None or limits.confidence_drop is None:
        return None
    if was - is_now > limits.confidence_drop:
        return f"mean confidence {is_now:.3f}, {was:.3f} before"
    return None


def _rate(health: ModelHealth | None) -> float:
    attempts = health.predictions + health.errors if health is not None else 0
    return health.errors / attempts if health is not None and attempts else 0.0

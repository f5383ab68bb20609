"""Which predictions are worth their bytes: a random share that speaks for all of them, and the uncertain ones.

Both draw on one budget of bytes in any sixty minutes; uncertain samples may spend at most three quarters of it, so
that they never silence the random ones. A random sample that the budget refuses passes its weight on to the next
(Horvitz and Thompson, 1952: an estimate stays unbiased where each kept item weighs the inverse of its chance).
"""

from __future__ import annotations

import dataclasses

from skerry_agent.clock import Rng
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.sample import Kept

SLOTS = 60
SLOT_S = 60.0
UNCERTAIN_SHARE = 0.75


class HourlyBudget:
    """Bytes spent in the last sixty minutes, in slots of one minute: no hour, wherever it begins, spends more."""

    def __init__(self) -> None:
        self._slots = [0] * (SLOTS + 1)
        self._slot = 0
        self._spent = 0

    def spent_bytes(self, now_s: float) -> int:
        """Return what was spent in the last hour. `now_s` is monotonic."""
        slot = int(now_s // SLOT_S)
        if slot > self._slot:
            for each in range(self._slot + 1, min(slot, self._slot + SLOTS + 1) + 1):
                self._spent -= self._slots[each % len(self._slots)]
                self._slots[each % len(self._slots)] = 0
            self._slot = slot
        return self._spent

    def spend(self, size_bytes: int) -> None:
        """Take note of bytes spent now (at the time of the last `spent_bytes`)."""
        self._slots[self._slot % len(self._slots)] += size_bytes
        self._spent += size_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A prediction is worth keeping: why, and how many predictions it speaks for."""

    kept: Kept
    weight: float


class Sampler:
    """The choice for one model."""

    def __init__(self, policy: SamplingPolicy, rng: Rng) -> None:
        self.policy = policy
        self._rng = rng
        self._budget = HourlyBudget()
        self._refused = 0

    def choose(self, margin: float | None, size_bytes: int, now_s: float) -> Choice | None:
        """Return whether and why to keep a prediction of about that size.

        `margin` is the difference of the two best scores; None where the model has no scores.
        """
        policy = self.policy
        spent = self._budget.spent_bytes(now_s) + size_bytes
        if policy.random_share > 0 and self._rng.random() < policy.random_share:
            if spent > policy.bytes_per_hour:
                self._refused += 1
                return None
            weight = (1 + self._refused) / policy.random_share
            self._refused = 0
            self._budget.spend(size_bytes)
            return Choice(Kept.RANDOM, weight)
        uncertain = margin is not None and margin < policy.uncertain_margin
        if uncertain and spent <= policy.bytes_per_hour * UNCERTAIN_SHARE:
            self._budget.spend(size_bytes)
            return Choice(Kept.UNCERTAIN, 1.0)
        return None


def margin_of(scores: list[float]) -> tuple[float, float | None]:
    """Return the best score and how far it is from the second (None where there is only one).

    >>> margin_of([0.25, 0.625, 0.125])
    (0.625, 0.375)
    """
    best = max(scores)
    if len(scores) < 2:
        return best, None
    second = max(score for i, score in enumerate(scores) if i != scores.index(best))
    return best, best - second

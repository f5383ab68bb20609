"""Which predictions are worth their bytes: a random share that speaks for all of them, and those that teach most.

All draw on one budget of bytes in any sixty minutes. Whatever is not random may spend three quarters of it at most, and
each kind no more than its own cap, so that no kind silences the random ones. A random sample that the budget refuses
passes its weight on to the next (Horvitz and Thompson, 1952: an estimate stays unbiased where each kept item weighs the
inverse of its chance).
"""

from __future__ import annotations

import dataclasses

from skerry_agent.clock import Rng
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.frequent import RunningFrequent
from skerry_contracts.sample import Kept

SLOTS = 60
SLOT_S = 60.0
CHOSEN_SHARE = 0.75  # of the budget, for all that is not random
CAPS = {Kept.UNCERTAIN: 0.75, Kept.NOVEL: 0.25, Kept.RARE: 0.25, Kept.DISAGREEING: 0.5, Kept.REQUESTED: 0.5}
UNCERTAIN_BESIDE_OTHERS = 0.35  # uncertain ones come in floods: beside others they leave them room
CLASSES = 256
RARE_FIRST = 8  # samples of one rare class an hour
RARE_S = 3600.0


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


@dataclasses.dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a prediction. `margin` is the difference of the two best scores (None: the model has none),
    `label` the chosen class; `wanted` is why somebody asks for it by name (a program, a shadow that disagrees).
    """

    margin: float | None = None
    label: str | None = None
    novel: bool = False
    wanted: Kept | None = None


class RareClasses:
    """The first of every class whose share is small, some each hour; a class that grows frequent is rare no more."""

    def __init__(self) -> None:
        self._labels = RunningFrequent(CLASSES)
        self._kept: dict[str, int] = {}
        self._since_s = 0.0

    def is_rare(self, label: str, below: float, now_s: float) -> bool:
        """Take one prediction's class; return whether it is rare and few of it were kept in this hour."""
        self._labels.add(label)
        if now_s - self._since_s >= RARE_S:
            self._kept, self._since_s = {}, now_s
        rare = self._labels.most(label) < below * self._labels.count
        return rare and self._kept.get(label, 0) < RARE_FIRST and (label in self._kept or len(self._kept) < CLASSES)

    def keep(self, label: str) -> None:
        """Take note that one of a class is kept."""
        self._kept[label] = self._kept.get(label, 0) + 1


class Sampler:
    """The choice for one model."""

    def __init__(self, policy: SamplingPolicy, rng: Rng) -> None:
        self.policy = policy
        self.raised = 1.0  # times the random share, while an alarm lasts
        self._rng = rng
        self._budget = HourlyBudget()
        self._spent = {kept: HourlyBudget() for kept in CAPS}
        self._rare = RareClasses()
        self._owed = 0.0  # the weight of refused random samples

    def choose(self, traits: Traits, size_bytes: int, now_s: float) -> Choice | None:
        """Return whether and why to keep a prediction of about that size."""
        policy = self.policy
        rare = (
            policy.rare_below is not None
            and traits.label is not None
            and self._rare.is_rare(traits.label, policy.rare_below, now_s)
        )
        spent = self._budget.spent_bytes(now_s) + size_bytes
        share = min(1.0, policy.random_share * self.raised)
        if share > 0 and self._rng.random() < share:
            self._owed += 1 / share
            if spent <= policy.bytes_per_hour:
                weight, self._owed = self._owed, 0.0
                self._budget.spend(size_bytes)
                return Choice(Kept.RANDOM, weight)
        kinds = [traits.wanted] if traits.wanted in CAPS and traits.wanted is not None else []
        kinds += [Kept.RARE] if rare else []
        kinds += [Kept.NOVEL] if traits.novel else []
        kinds += [Kept.UNCERTAIN] if traits.margin is not None and traits.margin < policy.uncertain_margin else []
        for kept in kinds:
            if spent <= policy.bytes_per_hour * CHOSEN_SHARE and self._afford(kept, size_bytes, now_s):
                if rare and traits.label is not None:
                    self._rare.keep(traits.label)
                return Choice(kept, 1.0)
        return None

    def request(self, size_bytes: int, now_s: float, kept: Kept = Kept.REQUESTED) -> Choice | None:
        """Return the choice of a prediction that somebody asks for after it was made; None: the budget is spent."""
        spent = self._budget.spent_bytes(now_s) + size_bytes
        within = spent <= self.policy.bytes_per_hour * CHOSEN_SHARE
        return Choice(kept, 1.0) if within and self._afford(kept, size_bytes, now_s) else None

    def cap_bytes(self, kept: Kept) -> float:
        """Return how many bytes an hour one kind may spend: as the policy says, else by `CAPS`."""
        policy = self.policy
        share = CAPS[kept]
        if kept == Kept.UNCERTAIN and (policy.novel_rate or policy.rare_below):
            share = UNCERTAIN_BESIDE_OTHERS
        return policy.bytes_per_hour * (policy.caps or {}).get(kept.value, share)

    def _afford(self, kept: Kept, size_bytes: int, now_s: float) -> bool:
        own = self._spent[kept]
        if own.spent_bytes(now_s) + size_bytes > self.cap_bytes(kept):
            return False
        own.spend(size_bytes)
        self._budget.spend(size_bytes)
        return True


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

"""Many updates under many faults: worlds that do little else, until enough updates were hit by something."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

from skerry_simulators.faults import STORM
from skerry_simulators.runner import Report, run_worlds
from skerry_simulators.world import Settings

DEVICES, DAYS = 100, 1.5
EVERY_S, ASK_EVERY_S = 3600.0, 300.0
ROUND = 2  # worlds for each process, before it is asked whether that is enough


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What all worlds came to. `kinds`: faulted updates that each kind of fault hit; `lost`: updates that failed."""

    worlds: int
    device_days: float
    updates: int
    faulted: int
    succeeded: int
    superseded: int
    unfaulted: int
    bricks: int
    asked: int
    unanswered: int
    kinds: dict[str, int]
    lost: tuple[str, ...]
    violations: tuple[str, ...]

    @property
    def share(self) -> float:
        """The share of faulted updates that succeeded."""
        return self.succeeded / self.faulted if self.faulted else 1.0


def settings(seed: int, devices: int = DEVICES, days: float = DAYS) -> Settings:
    """Return a world of this kind."""
    return Settings(devices, seed, days, STORM, release_every_s=EVERY_S, brisk=True, ask_every_s=ASK_EVERY_S)


def run_storm(
    updates: int,
    *,
    seed: int = 1,
    jobs: int = 1,
    devices: int = DEVICES,
    days: float = DAYS,
    heard: Callable[[Report, int], None] = lambda report, faulted: None,
) -> Outcome:
    """Run worlds, seeds counting up, until so many faulted updates had an outcome. `heard` is told of each world, and
    of how many there were by then.
    """
    found: list[Report] = []
    faulted = 0
    while faulted < updates:
        first = seed + len(found)
        work = [settings(each, devices, days) for each in range(first, first + (1 if jobs == 1 else ROUND * jobs))]
        for report in run_worlds(work, jobs=jobs):
            found.append(report)
            faulted += report.updates.faulted
            heard(report, faulted)
    return outcome(found)


def outcome(found: list[Report]) -> Outcome:
    """Return the sums over some worlds."""
    kinds: Counter[str] = Counter()
    for each in found:
        kinds.update(each.updates.kinds)
    tallies = [each.updates for each in found]
    return Outcome(
        len(found),
        sum(each.device_days for each in found),
        sum(each.updates for each in tallies),
        sum(each.faulted for each in tallies),
        sum(each.succeeded for each in tallies),
        sum(each.superseded for each in tallies),
        sum(each.unfaulted for each in tallies),
        sum(each.bricks for each in found),
        sum(each.asked for each in found),
        sum(each.unanswered for each in found),
        dict(kinds.most_common()),
        tuple(f"seed {each.seed}: {words}" for each in found for words in each.updates.lost),
        tuple(f"seed {each.seed}: {each.violation.message}" for each in found if each.violation is not None),
    )

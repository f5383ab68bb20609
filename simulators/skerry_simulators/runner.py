"""Many worlds, one after the other or on several cores; each is its seed, so any of them can be run again alone."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from skerry_simulators.bugs import planted
from skerry_simulators.errors import ViolationError
from skerry_simulators.updates import Tally
from skerry_simulators.world import Settings

LAST_EVENTS = 25


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """What did not hold: where, when, and what came before it."""

    invariant: str
    who: str
    message: str
    time_s: float
    last: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What one world came to. `history` is the SHA-256 of everything that happened in it."""

    seed: int
    devices: int
    days: float
    device_days: float
    events: int
    checks: int
    history: str
    counts: dict[str, int]
    worst_exposure: int
    updates: Tally
    bricks: int
    asked: int
    unanswered: int
    violation: Violation | None = None


def run_world(settings: Settings, bug: str = "", progress: Callable[[float], None] | None = None) -> Report:
    """Let one world live, and report. An error of the program counts as a violation: the process would have died."""
    with planted(bug) as kind:
        world = kind(settings)
        violation = None
        try:
            world.run(progress)
        except ViolationError as error:
            violation = _violation(error.invariant, error.who, str(error))
        except Exception as error:  # noqa: BLE001  # whatever escapes from the cores would have ended a real process
            violation = _violation("I2", "program", f"{type(error).__name__}: {error}")
        if violation is not None:
            who = violation.who if violation.who in world.devices else None
            last = tuple(world.history.last(LAST_EVENTS, who))
            violation = dataclasses.replace(violation, time_s=world.clock.now_s, last=last)
        days = min(world.clock.now_s / 86400, settings.days)
        return Report(
            settings.seed,
            settings.devices,
            settings.days,
            round(settings.devices * days, 3),
            world.heap.events,
            world.invariants.checks,
            world.history.digest(),
            dict(sorted(world.history.counts.items())),
            max(world.fleet.exposure.worst.values(), default=0),
            world.invariants.updates.tally(),
            len(world.bricks),
            world.invariants.asked,
            world.invariants.unanswered,
            violation,
        )


def run_worlds(
    all_settings: Sequence[Settings], bug: str = "", *, jobs: int = 1, progress: Callable[[float], None] | None = None
) -> Iterator[Report]:
    """Run worlds and give their reports in order. With several jobs each world has a process of its own."""
    if jobs <= 1 or len(all_settings) == 1:
        for number, settings in enumerate(all_settings):
            yield run_world(settings, bug, _shifted(progress, number, len(all_settings)))
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        work = [(settings, bug) for settings in all_settings]
        for number, report in enumerate(pool.imap(_one, work)):
            if progress is not None:
                progress((number + 1) / len(all_settings))
            yield report


def hunt(bug: str, settings: Settings, seeds: int) -> Report | None:
    """Return the first report of a world that shows a planted bug; None where none of the seeds does."""
    for seed in range(settings.seed, settings.seed + seeds):
        report = run_world(dataclasses.replace(settings, seed=seed), bug)
        if report.violation is not None:
            return report
    return None


def total(reports: Sequence[Report]) -> Counter[str]:
    """Return the sums of what happened in several worlds."""
    found: Counter[str] = Counter()
    for report in reports:
        found.update(report.counts)
    return found


def _one(work: tuple[Settings, str]) -> Report:
    return run_world(*work)


def _violation(invariant: str, who: str, message: str) -> Violation:
    return Violation(invariant, who, message, 0.0, ())


def _shifted(progress: Callable[[float], None] | None, number: int, count: int) -> Callable[[float], None] | None:
    return None if progress is None else lambda share: progress((number + share) / count)

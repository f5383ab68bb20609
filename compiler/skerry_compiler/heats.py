"""Heats: groups of measuring processes whose rounds interleave with the original's, so that whatever else the machine
does falls on all alike.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

from skerry_compiler.errors import ToolError
from skerry_compiler.measure import Patience, Process, Samples

GROUP = 6  # processes that are alive at once, beside the original's

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """What one process gave: samples, memory, start, and its best time as a share of the original's beside it."""

    samples: Samples
    peak_rss_bytes: int
    cold_start_ms: float
    share: float


@dataclasses.dataclass(slots=True)
class Heat:
    """What came of some candidates: timings by name, failures by name, who was not reached, and the original's
    timing.
    """

    original: Timing | None = None
    timings: dict[str, Timing] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    unreached: list[str] = dataclasses.field(default_factory=list)
    rounds: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How a heat is run: at most `rounds`, at least `least`, until `deadline` (of time.monotonic); `threads`
    share one inference, of all alike.
    """

    original: list[str]
    commands: Mapping[str, list[str]]
    patience: Patience
    rounds: int
    least: int
    deadline: float
    threads: int = 1


def run(names: Sequence[str], plan: Plan, say: Say) -> Heat:
    """Measure candidates in groups beside the original. The first group is always measured; later ones only while
    there is time.

    Raises:
        ToolError: the original itself does not run.
    """
    heat = Heat()
    groups = [names[at : at + GROUP] for at in range(0, len(names), GROUP)]
    for index, group in enumerate(groups):
        if index and time.monotonic() > plan.deadline:
            heat.unreached += group
            continue
        _group(group, plan, heat, _within(say, index, len(groups)))
    return heat


def _within(say: Say, index: int, count: int) -> Say:
    return say if count == 1 else lambda words: say(f"group {index + 1}/{count}, {words}")


def _group(names: Sequence[str], plan: Plan, heat: Heat, say: Say) -> None:
    original = Process(plan.original, "the original", threads=plan.threads)
    running: dict[str, Process] = {}
    try:
        for name in names:
            try:
                running[name] = Process(plan.commands[name], name, plan.patience, plan.threads)
            except ToolError as error:
                heat.failed[name] = str(error)
        heat.rounds = _rounds(original, running, heat.failed, plan, say)
        original.finish()
        for name, process in running.items():
            if name not in heat.failed:
                _finish(process, heat.failed)
    finally:
        for process in (original, *running.values()):
            process.stop()
    heat.original = _timing(original, original)
    for name, process in running.items():
        if name not in heat.failed:
            heat.timings[name] = _timing(process, original)


def _rounds(original: Process, running: dict[str, Process], failed: dict[str, str], plan: Plan, say: Say) -> int:
    """Run interleaved rounds until there are enough or the time is up; return how many."""
    done = 0
    for step in range(plan.rounds + 1):
        if step > plan.least and time.monotonic() > plan.deadline:
            break
        for process in (original, *running.values()):
            if process.name in failed:
                continue
            at = f"{step}/{plan.rounds}" if step else "warming"
            say(f"{at}, {_ahead(original, running)}now {process.name}")
            try:
                process.warm() if step == 0 else process.round()
            except ToolError as error:
                if process is original:
                    raise
                failed[process.name] = str(error)
        done = step
    return done


def _ahead(original: Process, running: dict[str, Process]) -> str:
    """Return in words who leads, where that can be said."""
    timed = [each for each in running.values() if each.samples.cpu_ns]
    if not timed or not original.samples.cpu_ns:
        return ""
    first = min(timed, key=lambda each: each.samples.best_ns)
    return f"{first.name} {original.samples.best_ns / first.samples.best_ns:.1f}x leads, "


def _finish(process: Process, failed: dict[str, str]) -> None:
    try:
        process.finish()
    except ToolError as error:
        failed[process.name] = str(error)


def _timing(process: Process, original: Process) -> Timing:
    share = process.samples.best_ns / original.samples.best_ns
    return Timing(process.samples, process.peak_rss_bytes, process.cold_start_ms, share)

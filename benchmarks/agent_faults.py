"""Figures of updates under faults, of wrong clocks, and of updates by difference (benchmarks/agent.py)."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

from benchmarks.agent_options import Options

from skerry_agent.errors import AgentError
from skerry_simulators.faults import NONE
from skerry_simulators.runner import Report, run_worlds
from skerry_simulators.storm import run_storm
from skerry_simulators.world import Settings

CLOCKS = dataclasses.replace(NONE, wrong_clock_every_s=3600.0)
CLOCK_WORLDS, CLOCK_DEVICES = 2, 50


def faults(options: Options) -> dict[str, float]:
    """Return how many updates were hit by a fault, how many of them succeeded, and how many devices ended dead."""

    def heard(report: Report, faulted: int) -> None:
        print(f"faults: seed {report.seed}: {faulted} of {options.updates}", file=sys.stderr, flush=True)

    found = run_storm(options.updates, seed=options.seed, jobs=options.jobs, heard=heard)
    for words in (*found.lost, *found.violations):
        print(f"faults: {words}", file=sys.stderr)
    return {
        "updates_faulted": found.faulted,
        "updates_succeeded": found.succeeded,
        "updates_succeeded_percent": 100 * found.share,
        "bricks": found.bricks,
        "updates_superseded": found.superseded,
        "update_fault_kinds": len(found.kinds),
        "update_violations": len(found.violations),
    }


def clock(options: Options) -> dict[str, float]:
    """Return how many inferences found no model, in worlds where nothing is wrong but every device's clock, again and
    again, and releases go on.
    """
    worlds = [
        Settings(CLOCK_DEVICES, options.seed + each, 1.0, CLOCKS, release_every_s=5400.0, brisk=True, ask_every_s=60.0)
        for each in range(CLOCK_WORLDS)
    ]
    found = list(run_worlds(worlds, jobs=options.jobs))
    for each in found:
        if each.violation is not None:
            print(f"clock: seed {each.seed}: {each.violation.message}", file=sys.stderr)
    simulated = sum(each.unanswered for each in found)
    real = _real_clock()
    return {
        "clock_interruptions": simulated + real.get("clock_real_interruptions", 0),
        "clock_inferences": sum(each.asked for each in found),
        "clock_changes": sum(each.counts.get("wrong clock", 0) for each in found),
        "clock_updates": sum(each.updates.updates for each in found),
        "clock_violations": sum(each.violation is not None for each in found),
        **real,
    }


def _real_clock() -> dict[str, float]:
    try:
        from benchmarks import agent_clock

        with tempfile.TemporaryDirectory(prefix="skerry-") as name:
            found = agent_clock.measure(Path(name))
    except (AgentError, ImportError, OSError, RuntimeError) as error:
        print(f"clock: only in simulation, a real agent cannot be measured here: {error}", file=sys.stderr)
        return {}
    return {
        "clock_real_interruptions": found.interruptions,
        "clock_real_inferences": found.inferences,
        "clock_real_updates": found.updates,
        "clock_real_stuck": found.stuck,
        "clock_resume_polls": found.polls,
    }


def delta(options: Options) -> dict[str, float]:
    """Return how large updates are by difference: see `agent_delta`."""
    from benchmarks import agent_delta

    return agent_delta.figures(options.deltas)

"""Figures of the agent's safety tools (benchmarks/agent.py): kill points, disk errors, hostile models, planted bugs."""

from __future__ import annotations

import sys

from benchmarks.agent_options import Options

from skerry_simulators import diskerrors, killpoints
from skerry_simulators.hostile import run_hostile
from skerry_simulators.mutants import run_mutants


def kill(_: Options) -> dict[str, float]:
    """Return at how many points an update was killed, and how often that broke a promise."""
    found = killpoints.enumerate_points()
    for words in found.violations:
        print(f"kill: {words}", file=sys.stderr)
    return {"kill_points": found.points, "kill_violations": len(found.violations)}


def errors(_: Options) -> dict[str, float]:
    """Return in how many ways the disk failed during an update, and how often that broke a promise."""
    found = diskerrors.enumerate_errors()
    for words in found.violations:
        print(f"errors: {words}", file=sys.stderr)
    return {"disk_errors": found.points, "disk_error_violations": len(found.violations)}


def hostile(_: Options) -> dict[str, float]:
    """Return how many hostile models were run in real workers, and how many of them did no harm."""
    found = run_hostile()
    for each in found:
        for words in each.wrong:
            print(f"hostile: {each.name}: {words}", file=sys.stderr)
    tried = sum(each.ended != "skipped" for each in found)
    return {"hostile_models": tried, "hostile_survived": sum(each.survived for each in found)}


def mutants(_: Options) -> dict[str, float]:
    """Return how many safety bugs were planted in copies of the agent, and how many its tests noticed."""
    found = run_mutants(jobs=2)
    for each in found:
        if not each.killed:
            print(f"mutants: survived: {each.name}", file=sys.stderr)
    return {"mutants": len(found), "mutants_killed": sum(each.killed for each in found)}

"""The real agent on emulated Linux boards, everything fetched and made anew: a part of benchmarks/targets.py."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

from skerry_simulators.boards import running
from skerry_simulators.errors import SimulatorError
from skerry_targets import catalogue

Say = Callable[[str], None]
BOARDS = {"arm64": "raspberry-pi-4", "armv7": "raspberry-pi-2", "riscv64": "riscv64"}


def boards(work: Path, say: Say) -> dict[str, float]:
    """Return for each architecture the seconds from nothing to the last check, and those of processors that all
    processes took together: the former are another on a machine that does something else besides.

    Raises:
        SimulatorError: a step did not go as it must, or something is not here.
    """
    found = {}
    for key, name in BOARDS.items():
        before_s = _processor_s()
        report = running.run(catalogue.get(name), say, work / "boards", afresh=True)
        wrong = [f"{each.name}: {each.seen}" for each in report.steps if not each.held]
        if wrong:
            raise SimulatorError(f"{name}: {wrong[0]}")
        found[f"{key}_s"] = sum(each.ms for each in report.steps) / 1000
        found[f"{key}_processor_s"] = _processor_s() - before_s
    return found


def _processor_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)

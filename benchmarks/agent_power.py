"""The long parts of benchmarks/agent.py that cut the power."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from benchmarks.agent_options import Options

from skerry_simulators.powercut import Outcome, cut_lives
from skerry_simulators.vm import KERNEL
from skerry_simulators.vmcut import cut_machines

KEEP = Path("skerry-power")


def powercut(options: Options) -> dict[str, float]:
    """Return on how many block images a device was started, and how often that broke a promise."""
    progress = partial(_tell, "powercut", "lives")
    found = cut_lives(options.images, options.seed, jobs=options.jobs, keep=KEEP, progress=progress)
    return {
        "powercut_images": found.images,
        "powercut_phases": len(found.phases),
        "powercut_repaired": found.repaired,
        "powercut_violations": _violations("powercut", found),
    }


def vmcuts(options: Options) -> dict[str, float]:
    """Return how many virtual machines were killed in mid-life, and how often that broke a promise."""
    kernel, progress = Path(os.environ.get(KERNEL, "/")), partial(_tell, "vmcuts", "devices")
    found = cut_machines(options.cuts, options.seed, jobs=options.jobs, kernel=kernel, keep=KEEP, progress=progress)
    return {"vmcuts": found.images, "vmcut_violations": _violations("vmcuts", found)}


def _tell(part: str, what: str, done: int, count: int) -> None:
    print(f"{part}: {done} of {count} {what}", file=sys.stderr, flush=True)


def _violations(part: str, found: Outcome) -> int:
    for each in found.violations:
        print(f"{part}: seed {each.seed}, {each.recipe}, {each.phase}: {each.message}", file=sys.stderr)
    return len(found.violations)

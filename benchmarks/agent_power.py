"""The long parts of benchmarks/agent.py that cut the power."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.agent_options import Options

from skerry_simulators.powercut import cut_lives

KEEP = Path("skerry-power")


def powercut(options: Options) -> dict[str, float]:
    """Return on how many block images a device was started, and how often that broke a promise."""

    def told(done: int, count: int) -> None:
        print(f"powercut: {done} of {count} lives", file=sys.stderr, flush=True)

    found = cut_lives(options.images, options.seed, jobs=options.jobs, keep=KEEP, progress=told)
    for each in found.violations:
        print(f"powercut: seed {each.seed}, {each.recipe}, {each.phase}: {each.message}", file=sys.stderr)
    return {
        "powercut_images": found.images,
        "powercut_phases": len(found.phases),
        "powercut_repaired": found.repaired,
        "powercut_violations": len(found.violations),
    }

"""Counts from the simulators: device-days without a violation, planted bugs found, durable system calls survived.

`python benchmarks/spine_simulation.py [--json] [--quick] [--jobs N]`. No clock is compared with another day's: the
same seeds give the same counts on any machine.

    sim_device_days       simulated days of all devices together, under every fault there is
    sim_violations        worlds in which an invariant did not hold
    planted_bugs_found    of the four that are planted, each within a few seeds
    kill_points           system calls that change the disk during one update; the process is killed at each of them
    kill_violations       restarts after which something was wrong
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable

from skerry_simulators.faults import BUGS
from skerry_simulators.killpoints import enumerate_points
from skerry_simulators.runner import hunt, run_worlds
from skerry_simulators.world import Settings

DEVICES, SEEDS = 100, 20
HUNT_DEVICES, HUNT_SEEDS = 40, 5


def figures(
    *, devices: int = DEVICES, seeds: int = SEEDS, days: float = 1.0, jobs: int = 1, tell: Callable[[str], None] = print
) -> dict[str, float]:
    """Return the figures of the spine that the simulators give."""
    worlds = [Settings(devices, seed, days) for seed in range(1, seeds + 1)]
    device_days, violations = 0.0, 0
    for report in run_worlds(worlds, jobs=jobs):
        device_days += report.device_days
        violations += report.violation is not None
        said = "ok" if report.violation is None else report.violation.message
        tell(f"seed {report.seed}: {report.device_days:g} device-days, {report.events} events: {said}")
    found = 0
    for bug in BUGS:
        seen = hunt(bug, Settings(HUNT_DEVICES), HUNT_SEEDS)
        found += seen is not None
        message = seen.violation.message if seen is not None and seen.violation is not None else "not found"
        tell(f"planted {bug}: {message}")
    outcome = enumerate_points()
    tell(f"{outcome.points} kill points by {outcome.how}: {len(outcome.violations)} violations")
    for violation in outcome.violations:
        tell(f"  {violation}")
    return {
        "sim_device_days": round(device_days, 1),
        "sim_violations": violations,
        "planted_bugs_found": found,
        "kill_points": outcome.points,
        "kill_violations": len(outcome.violations),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Counts from the simulators.")
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line")
    parser.add_argument("--quick", action="store_true", help="two worlds of 20 devices for half a day")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worlds at a time")
    arguments = parser.parse_args()

    def tell(line: str) -> None:
        print(line, file=sys.stderr if arguments.json else sys.stdout, flush=True)

    size: dict[str, float] = {"devices": 20, "seeds": 2, "days": 0.5} if arguments.quick else {}
    found = figures(
        devices=int(size.get("devices", DEVICES)),
        seeds=int(size.get("seeds", SEEDS)),
        days=size.get("days", 1.0),
        jobs=arguments.jobs,
        tell=tell,
    )
    print(json.dumps({"figures": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

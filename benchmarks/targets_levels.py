"""How many boards are proven, and how long the tests of targets take: parts of benchmarks/targets.py."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from skerry_targets import levels, shelf
from skerry_targets.levels import Level

HOUSE = Path(__file__).parents[1]
Say = Callable[[str], None]
# Besides tests/targets and tests/firmware, all that runs on emulated processors.
SUITE = (
    "tests/targets",
    "tests/firmware",
    "tests/compiler/test_prove.py",
    "tests/compiler/test_headers.py",
    "tests/compiler/network/test_network_isas.py",
    "tests/compiler/network/test_network_vectors.py",
)


def executed(work: Path, say: Say) -> dict[str, float]:
    """Return how many profiles are at `executed` or above, and how many at `parity`, by the evidence on file."""
    found = Counter(levels.of(profile) for profile in shelf.load_all())
    say(", ".join(f"{count} {level.value}" for level, count in found.items()))
    parity = found[Level.PARITY]
    return {"targets_executed": parity + found[Level.EXECUTED], "targets_parity": parity}


def suite(work: Path, say: Say) -> dict[str, float]:
    """Return the minutes that the tests of targets take, one process.

    Raises:
        CalledProcessError: a test fails.
    """
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", *SUITE]
    done = subprocess.run(command, cwd=HOUSE, stdout=subprocess.PIPE, text=True)
    say(done.stdout.strip().splitlines()[-1])
    done.check_returncode()
    return {"targets_suite_minutes": (time.monotonic() - began) / 60}

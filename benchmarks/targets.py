"""Figures of targets in one run; with --json the last line is `{"figures": {KEY: number}}`.

    python benchmarks/targets.py [--json] [--only PART ...] [--work FOLDER]

    executed  targets_executed, targets_parity: profiles at those levels or above, by the evidence on file (without a
              board: emulated, or on this machine)
    boards    arm64_s, armv7_s, riscv64_s: the real agent on an emulated board from nothing (userland, wheels,
              enrolment, update, predictions, rollback, refusals); ..._processor_s: of all processes together
    bits      int8_bits_differing: answers of networks in bytes that differ in a bit between the plainest x86-64 and any
              other processor that runs or is emulated here; int8_bits_compared: how many there are
    kws       kws_m4_flash_kb, kws_m4_ram_kb, kws_m4_int8_flash_kb, kws_m4_int8_ram_kb: keyword spotting on an emulated
              Cortex-M4, in floats and in bytes (where the shared models are)
    trees     trees_m4_flash_kb, trees_m4_ram_kb, trees_m4_same_labels: twenty trees over 64 features on the same board,
              and the share of labels that are scikit-learn's
    suite     targets_suite_minutes: the tests of targets, firmware and emulation

A part that cannot run here says so and leaves its keys out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet

from skerry_compiler.errors import CompileError
from skerry_simulators.errors import SimulatorError
from skerry_targets.errors import TargetError

Say = Callable[[str], None]
# part: module of a function of the part's name, which takes a folder to work in and what hears of progress
PARTS = {
    "executed": "targets_levels",
    "boards": "targets_boards",
    "bits": "targets_bits",
    "kws": "targets_small",
    "trees": "targets_small",
    "suite": "targets_levels",
}
# key: (must reach, aims at); all at most, but for those in AT_LEAST
GOALS: dict[str, tuple[float, float]] = {
    "targets_executed": (25, 40),
    "arm64_s": (90, 30),
    "armv7_s": (90, 30),
    "riscv64_s": (90, 30),
    "int8_bits_differing": (0, 0),
    "kws_m4_flash_kb": (104, 104),
    "kws_m4_ram_kb": (64, 64),
    "kws_m4_int8_flash_kb": (60, 45),
    "kws_m4_int8_ram_kb": (40, 20),
    "trees_m4_flash_kb": (45, 20),
    "trees_m4_same_labels": (1, 1),
    "targets_suite_minutes": (12, 6),
}
# what counts how much there is
AT_LEAST = {"targets_executed", "trees_m4_same_labels"}


def run(part: str, work: Path) -> dict[str, float]:
    """Return a part's figures; none where it cannot be measured here, which is said."""

    def say(text: str) -> None:
        print(f"{part}: {text}", file=sys.stderr, flush=True)

    say("...")
    try:
        module = importlib.import_module(f"benchmarks.{PARTS[part]}")
        measure: Callable[[Path, Say], dict[str, float]] = getattr(module, part)
        return measure(work, say)
    except (CompileError, SimulatorError, TargetError, ImportError, OSError, subprocess.SubprocessError) as error:
        hint = getattr(error, "hint", "")
        say(f"cannot be measured here: {error}" + (f" ({hint})" if hint else ""))
        return {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line; progress on stderr")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="only these parts")
    parser.add_argument("--work", type=Path, help="folder for what is made on the way (default a temporary one)")
    arguments = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        work = arguments.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        for part in arguments.only:
            found |= run(part, work)
    if not arguments.json:
        for key, value in found.items():
            goal, way = GOALS.get(key), "at least" if key in AT_LEAST else "at most"
            words = f"   {way} {goal[0]:g}, aim {goal[1]:g}" if goal is not None else ""
            print(f"{key:<24} {value:>10.4g}{words}")
    print(json.dumps({"figures": {key: round(value, 4) for key, value in found.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`skerry demo`: from a model that does not know enough to one that does, without a hand."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

DEVICES = 20


def main(argv: Sequence[str]) -> int:
    """Run the demonstration; return 0 (the loop closed), 1 (it did not) or 2 (usage)."""
    parser = argparse.ArgumentParser(prog="skerry demo", description="The whole loop on this machine, on real data.")
    parser.add_argument(
        "--devices", type=int, default=0, help=f"how many agents (default {DEVICES}, or what memory allows)"
    )
    parser.add_argument("--seed", type=int, default=0, help="deals the images, draws the two classes held out")
    parser.add_argument("--noise", type=float, default=0.1, help="the worn sensor's noise, full scale is 1")
    parser.add_argument("--root", type=Path, default=Path("demo-run"), help="where everything is kept (emptied first)")
    parser.add_argument("--result", type=Path, default=Path("demo-result.json"), help="where the figures are written")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    arguments = parser.parse_args(list(argv))
    if not 0 <= arguments.devices <= 200:
        parser.error("--devices takes 1 to 200")
    root = arguments.root.resolve()
    marker = root / ".skerry-demo"
    if root.exists() and not marker.exists() and any(root.iterdir()):
        print(f"skerry: error: {root} is not empty and not ours (choose another --root)", file=sys.stderr)
        return 1
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    marker.touch()
    arguments.root = root
    arguments.devices = arguments.devices or devices_that_fit()
    from skerry_simulators.demo.play import play

    return play(arguments)


def devices_that_fit() -> int:
    """Return how many agents to start: as many as wanted, at 60 MB each in half of the free memory."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(2, min(DEVICES, free // 2 // (60 << 20)))

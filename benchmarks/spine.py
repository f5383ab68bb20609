"""Every figure of the spine in one run: `python benchmarks/spine.py --json` ends with `{"figures": {KEY: number}}`.

Parts can be left out with `--only PART …`; a part that cannot run here says so and leaves its keys out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
HELP_RUNS = 21
ANYTHING_BUT_HELP_S = 3600


def help_figures() -> dict[str, float]:
    """Return how long `skerry --help` takes: the median of some runs, whole processes."""
    taken = []
    for _ in range(HELP_RUNS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "skerry", "--help"], check=True, stdout=subprocess.DEVNULL)
        taken.append((time.perf_counter() - began) * 1e3)
    return {"help_ms": sorted(taken)[HELP_RUNS // 2]}


def demo_figures() -> dict[str, float]:
    """Return what the demonstration measured."""
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        result = Path(name) / "result.json"
        words = ["demo", "--root", f"{name}/run", "--result", str(result)]
        subprocess.run([sys.executable, "-m", "skerry", *words], check=True, timeout=ANYTHING_BUT_HELP_S)
        found = json.loads(result.read_text())
    accuracy = {f"accuracy_{when}": float(found["accuracy"][when]) for when in ("before", "during", "after")}
    return {"demo_seconds": found["seconds"]["total"], "demo_devices": found["devices"], **accuracy}


def child(script: str) -> Callable[[], dict[str, float]]:
    """Return a part that runs another benchmark as its own process, so that parts do not share memory or caches."""

    def figures() -> dict[str, float]:
        command = [sys.executable, str(HERE / script), "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=ANYTHING_BUT_HELP_S)
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])["figures"]
        return found

    return figures


PARTS: dict[str, Callable[[], dict[str, float]]] = {
    "help": help_figures,
    "compiler": child("spine_compiler.py"),
    "agent": child("spine_agent.py"),
    "simulation": child("spine_simulation.py"),
    "demo": demo_figures,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for name in arguments.only:
        began = time.monotonic()
        try:
            found = PARTS[name]()
        except (subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
            print(f"{name}: cannot be measured here: {error}", file=sys.stderr, flush=True)
            continue
        figures |= found
        if not arguments.json:
            print(f"{name} ({time.monotonic() - began:.0f} s)")
            print("".join(f"  {key:<28} {value:.4g}\n" for key, value in found.items()), end="", flush=True)
    print(json.dumps({"figures": {key: round(value, 4) for key, value in figures.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

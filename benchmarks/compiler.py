"""Every figure of the compiler in one run; with --json the last line is `{"figures": {KEY: number}}`.

    python benchmarks/compiler.py [--json] [--only PART ...] [--work FOLDER]

Each model is compiled once and measured once, beside `onnxruntime.InferenceSession` with its defaults on the original,
on one thread; the parts share the bundles. A part that cannot run here says so and leaves its keys out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import geometric_mean

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks import compiler_dense, compiler_edge

from skerry_compiler.errors import CompileError

Say = Callable[[str], None]
# part: module with figures(work, say), what it takes
PARTS = {
    "edge": ("compiler_edge", "six trained edge networks"),
    "dense": ("compiler_dense", "networks of real size with random weights"),
    "trees": ("compiler_trees", "tree ensembles and perceptrons of every library"),
    "float": ("compiler_float", "the error of float32 variants, on the bundles of edge and dense"),
    "roofline": ("compiler_roofline", "the share of this machine's peak, on the same bundles"),
    "repair": ("compiler_repair", "accuracy repair over trained networks"),
    "rebuild": ("compiler_rebuild", "bundles made again elsewhere"),
    "backend": ("compiler_backend", "the ONNX backend node tests"),
}
# key: what it must reach, what it aims at; the sign says which way: ">" at least, "<" at most
GOALS: dict[str, tuple[str, float, float]] = {
    "tiny_speedup": (">", 5, 8),
    "tiny_memory": ("<", 0.2, 0.16),
    "facemesh_speedup": (">", 6, 15),
    "ultraface_speedup": (">", 2.5, 4),
    "landmark_memory": ("<", 0.25, 0.18),
    "dense_speedup": (">", 2.5, 4),
    "dense_memory": ("<", 0.4, 0.25),
    "trees_speedup_min": (">", 5, 10),
    "trees_memory_max": ("<", 0.2, 0.1),
    "networks_speedup": (">", 3.5, 6),
    "networks_memory": ("<", 0.3, 0.2),
    "networks_speedup_min": (">", 1.2, 2),
    "cold_start_ratio": ("<", 0.15, 0.05),
    "cosine_min": (">", 0.99, 0.99),
    "top1_min": (">", 0.99, 1),
    "float_range_share_max": ("<", 1e-4, 1e-4),
    "roofline_percent": (">", 50, 75),
    "repaired_share": (">", 0.5, 0.7),
    "rebuild_identical": (">", 1, 1),
    "onnx_backend_lost": ("<", 0, 0),
}
COLD = "_cold_start"


def together(found: Mapping[str, float]) -> dict[str, float]:
    """Return the figures that are over the networks of more than one part: of all that were measured.

    `cosine_min` is the worst of all, though a classifier whose classes all stay may ship below its goal; networks
    without classes count as 1 in `top1_min`.
    """
    names = [*compiler_edge.TINY, *compiler_edge.LANDMARK, *compiler_dense.builders()]
    here = [name for name in names if f"{name}_speedup" in found]
    made: dict[str, float] = {}
    if here:
        speed = [found[f"{name}_speedup"] for name in here]
        made["networks_speedup"], made["networks_speedup_min"] = geometric_mean(speed), min(speed)
        made["networks_memory"] = geometric_mean(found[f"{name}_memory"] for name in here)
        made["cosine_min"] = min(found[f"{name}_cosine"] for name in here)
        made["top1_min"] = min(found[f"{name}_top1"] for name in here)
    rest = {f"{name}{COLD}" for name in names if name not in compiler_edge.TINY}
    cold = [value for key, value in found.items() if key.endswith(COLD) and key not in rest]
    if cold:
        made["cold_start_ratio"] = geometric_mean(cold)
    return made


def verdict(key: str, value: float) -> str:
    """Return a goal in words beside a figure; nothing where there is no goal."""
    if key not in GOALS:
        return ""
    way, must, aim = GOALS[key]
    sign = 1 if way == ">" else -1
    word = "aim reached" if sign * value >= sign * aim else "reached" if sign * value >= sign * must else "MISSED"
    return f"{way} {must:<8g} aim {aim:<8g} {word}"


def table(found: Mapping[str, float]) -> str:
    """Return the figures that have goals as lines for people, in the goals' order."""
    lines = [f"{key:<24} {found[key]:>10.4g}   {verdict(key, found[key])}" for key in GOALS if key in found]
    absent = [key for key in GOALS if key not in found]
    return "\n".join(lines) + (f"\nnot measured: {', '.join(absent)}" if absent else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line; progress on stderr")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--work", type=Path, help="keep models and bundles here, and take what lies here already")
    arguments = parser.parse_args()

    def say(words: str) -> None:
        print(words, file=sys.stderr if arguments.json else sys.stdout, flush=True)

    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        work = arguments.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        for part in arguments.only:
            module, words = PARTS[part]
            say(f"[{time.monotonic() - begun:5.0f} s] {part}: {words}")
            try:
                found |= importlib.import_module(f"benchmarks.{module}").figures(work, say)
            except (CompileError, ImportError, OSError, subprocess.SubprocessError, ValueError) as error:
                print(f"{part}: cannot be measured here: {error}", file=sys.stderr, flush=True)
        say(f"[{time.monotonic() - begun:5.0f} s] done")
    found |= together(found)
    if not arguments.json:
        print(table(found))
    print(json.dumps({"figures": {key: round(value, 8) for key, value in found.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

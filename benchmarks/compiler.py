"""Real edge networks, compiled for this machine, beside ONNX Runtime's default: `skerry compile`, then `skerry bench`.

The networks are looked for as the tests do (docs/compiler.md); the calibration rows are never the evaluation rows.
Initializers that an exporter also listed as inputs are cleaned on both sides, because they alone make ONNX Runtime
slow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import onnx

TINY = ("kws", "vww", "resnet8", "ad")
LANDMARK = ("facemesh", "ultraface")


def folder() -> Path:
    """Return where the networks are."""
    return Path(os.environ.get("SKERRY_MODELS", Path(__file__).parents[2] / "shared" / "models"))


def cleaned(source: Path, target: Path) -> Path:
    """Write the model without initializers among its inputs."""
    model = onnx.load(source)
    stored = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, target)
    return target


def rows(name: str, kind: str, work: Path) -> Path:
    """Write a network's rows as f32; some are stored as f16."""
    stored = np.load(folder() / f"{name}.{kind}.npz")
    target = work / f"{name}.{kind}.npz"
    arrays: dict[str, Any] = {key: stored[key].astype(np.float32) for key in stored}
    np.savez(target, **arrays)
    return target


def measured(name: str, work: Path) -> dict[str, Any]:
    """Return what `skerry bench` says of a network's bundle."""
    model = cleaned(folder() / f"{name}.onnx", work / f"{name}.onnx")
    calibration, evaluation = (rows(name, kind, work) for kind in ("calibration", "evaluation"))
    bundle = work / f"{name}.skerry"
    skerry = [sys.executable, "-m", "skerry"]
    words = ["--target", "host", "--model", name, "--version", "1", "--release", "1", "-o", str(bundle)]
    words += ["--calibration", str(calibration), "--evaluation", str(evaluation)]
    subprocess.run([*skerry, "compile", str(model), *words], check=True, stdout=subprocess.DEVNULL)
    words = ["bench", str(bundle), "--against", str(model), "--evaluation", str(evaluation), "--json"]
    found: dict[str, Any] = json.loads(subprocess.run([*skerry, *words], check=True, stdout=subprocess.PIPE).stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line")
    parser.add_argument("--only", nargs="+", choices=TINY + LANDMARK, default=list(TINY + LANDMARK))
    arguments = parser.parse_args()
    if not folder().is_dir():
        print(f"no networks at {folder()}: name their folder in SKERRY_MODELS", file=sys.stderr)
    names = [name for name in arguments.only if (folder() / f"{name}.onnx").is_file()]
    figures: dict[str, float] = {}
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="skerry-") as work:
        for name in names:
            each = found[name] = measured(name, Path(work))
            figures[f"{name}_speedup"] = each["ratio"]["latency"]
            figures[f"{name}_memory"] = each["ratio"]["memory"]
            if not arguments.json:
                variant, cosine = each["bundle"]["variant"], each["agreement"]["cosine"]
                print(f"{name:<10} {variant:<28} {each['ratio']['latency']:6.2f}x  cosine {cosine:.5f}", flush=True)
    if set(TINY) <= set(found):
        figures["tiny_speedup"] = geometric_mean(found[name]["ratio"]["latency"] for name in TINY)
        figures["tiny_memory"] = geometric_mean(found[name]["ratio"]["memory"] for name in TINY)
    if set(LANDMARK) <= set(found):
        figures["landmark_memory"] = geometric_mean(found[name]["ratio"]["memory"] for name in LANDMARK)
    if found:
        figures["networks_speedup_min"] = min(each["ratio"]["latency"] for each in found.values())
        figures["cosine_min"] = min(each["agreement"]["cosine"] for each in found.values())
        figures["top1_min"] = min(each["agreement"]["top1"] for each in found.values())
    print(json.dumps({"figures": {key: round(value, 4) for key, value in figures.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

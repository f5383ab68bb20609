"""Real edge networks, compiled for this machine, beside ONNX Runtime's default: `skerry compile`, then `skerry bench`.

The networks are looked for as the tests do (docs/compiler.md); the calibration rows are never the evaluation rows.
Initializers that an exporter also listed as inputs are cleaned on both sides, because they alone make ONNX Runtime
slow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks import compiler_dense

TINY = ("kws", "vww", "resnet8", "ad")
LANDMARK = ("facemesh", "ultraface")


def folder() -> Path:
    """Return where the networks are."""
    return Path(os.environ.get("SKERRY_MODELS", Path(__file__).parents[2] / "shared" / "models"))


def here() -> list[str]:
    """Return the names of the networks that lie there."""
    return [each for each in TINY + LANDMARK if (folder() / f"{each}.onnx").is_file()]


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


def build(name: str, work: Path) -> compiler_dense.Files:
    """Write a network and its rows; returns the paths of model, calibration and evaluation."""
    model = cleaned(folder() / f"{name}.onnx", work / f"{name}.onnx")
    return model, rows(name, "calibration", work), rows(name, "evaluation", work)


def figures(work: Path, say: Callable[[str], None], only: Sequence[str] = ()) -> dict[str, float]:
    """Return the figures of the networks that are here, and those over tiny and landmark networks where all of them
    are.
    """
    names = [name for name in here() if not only or name in only]
    if not names:
        say(f"no networks at {folder()}: name their folder in SKERRY_MODELS")
    made: dict[str, float] = {}
    for name in names:
        made |= compiler_dense.network(name, build(name, work), work, say)
    for group, members in (("tiny", TINY), ("landmark", LANDMARK)):
        if all(f"{name}_speedup" in made for name in members):
            for figure in ("speedup", "memory"):
                made[f"{group}_{figure}"] = geometric_mean(made[f"{name}_{figure}"] for name in members)
    return made


if __name__ == "__main__":
    sys.exit(compiler_dense.command(__doc__ or "", figures, TINY + LANDMARK))

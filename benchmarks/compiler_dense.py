"""Dense networks of real size, compiled for this machine, beside ONNX Runtime's default: `skerry compile`, then
`skerry bench`. Random weights (see dense_networks.py): speed and memory are real, agreement is optimistic.

Images are crops of scikit-learn's two photographs at random places, scales and brightness; those for calibration are
never those for evaluation.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks import dense_networks

Files = tuple[Path, Path, Path]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CALIBRATION, EVALUATION = 24, 8
ENCODER = "benchmarks.compiler_encoder"  # build(work) -> model, calibration, evaluation
SETTINGS = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def photographs(count: int, seed: int) -> NDArray[np.float32]:
    """Return f32[count, 3, 224, 224]: crops of 60 to 420 pixels, some mirrored, some darker, normalised as usual."""
    random = np.random.default_rng(seed)
    sources = load_sample_images().images
    made = []
    for _ in range(count):
        source = sources[random.integers(len(sources))]
        size = int(random.integers(60, 421))
        top, left = (int(random.integers(extent - size + 1)) for extent in source.shape[:2])
        crop = Image.fromarray(source[top : top + size, left : left + size])
        pixels = np.asarray(crop.resize((dense_networks.SIDE,) * 2, Image.Resampling.BILINEAR), np.float32) / 255
        pixels = np.clip(pixels * random.uniform(0.6, 1.2), 0.0, 1.0)
        pixels = pixels[:, ::-1] if random.integers(2) else pixels
        made.append(((pixels - MEAN) / DEVIATION).transpose(2, 0, 1))
    return np.ascontiguousarray(made, np.float32)


def build(name: str, work: Path) -> Files:
    """Write a network and its rows; returns the paths of model, calibration and evaluation."""
    files = (work / f"{name}.onnx", work / "photographs.calibration.npz", work / "photographs.evaluation.npz")
    onnx.save(dense_networks.build(name), files[0])
    for path, count, seed in ((files[1], CALIBRATION, 1), (files[2], EVALUATION, 2)):
        if not path.exists():
            np.savez(path, x=photographs(count, seed))
    return files


def builders() -> dict[str, Callable[[Path], Files]]:
    """Return how each network is made; the encoder comes from its own benchmark."""

    def builder(name: str) -> Callable[[Path], Files]:
        return lambda work: build(name, work)

    made = {name: builder(name) for name in dense_networks.NETWORKS}
    if importlib.util.find_spec(ENCODER) is not None:
        made["encoder"] = importlib.import_module(ENCODER).build
    return made


def compiled(name: str, files: Files, work: Path) -> Path:
    """Compile a network for this machine, unless another benchmark left its bundle in `work`; returns the bundle."""
    model, calibration, evaluation = map(str, files)
    bundle = work / f"{name}.skerry"
    if bundle.exists():
        return bundle
    words = ["--target", "host", "--model", name, "--version", "1", "--release", "1", "-o", str(bundle), "--quiet"]
    words += ["--calibration", calibration, "--evaluation", evaluation]
    skerry = [sys.executable, "-m", "skerry", "compile", model, *words]
    subprocess.run(skerry, check=True, stdout=subprocess.DEVNULL, env=SETTINGS)
    return bundle


def benched(bundle: Path, files: Files) -> dict[str, Any]:
    """Return what `skerry bench` says of a bundle, or said of it when another benchmark asked."""
    answer = bundle.with_suffix(".bench.json")
    if not answer.exists():
        words = [str(bundle), "--against", str(files[0]), "--evaluation", str(files[2]), "--json", "--quiet"]
        skerry = [sys.executable, "-m", "skerry", "bench", *words]
        answer.write_bytes(subprocess.run(skerry, check=True, stdout=subprocess.PIPE, env=SETTINGS).stdout)
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def network(name: str, files: Files, work: Path, say: Callable[[str], None]) -> dict[str, float]:
    """Return the figures of one network, each under its name; none where it cannot be compiled or measured here."""
    try:
        found = benched(compiled(name, files, work), files)
    except subprocess.CalledProcessError as error:
        say(f"{name:<12} skerry {error.cmd[3]} failed with code {error.returncode}")
        return {}
    ratio, agreement = found["ratio"], found["agreement"]
    say(
        f"{name:<12} {found['bundle']['variant']:<28} {ratio['latency']:6.2f}x  memory {ratio['memory']:.2f}  "
        f"start {ratio['cold_start']:.3f}  cosine {agreement['cosine']:.5f}  top1 {agreement['top1']:.4f}"
    )
    kept = {"speedup": ratio["latency"], "memory": ratio["memory"], "cold_start": ratio["cold_start"]}
    return {f"{name}_{key}": value for key, value in (kept | agreement).items()}


def figures(work: Path, say: Callable[[str], None], only: Sequence[str] = ()) -> dict[str, float]:
    """Return the figures of the dense networks; `say` gets one line for each network."""
    made: dict[str, float] = {}
    known = builders()
    names = list(only) or list(known)
    for name in names:
        made |= network(name, known[name](work), work, say)
    if all(f"{name}_speedup" in made for name in known):
        for figure in ("speedup", "memory"):
            made[f"dense_{figure}"] = geometric_mean(made[f"{name}_{figure}"] for name in names)
    return made


def command(text: str, figures: Callable[..., dict[str, float]], names: Sequence[str]) -> int:
    """Be the command of one benchmark of networks: `[--json] [--only NAME ...]`."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line")
    parser.add_argument("--only", nargs="+", choices=sorted(names), default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skerry-") as work:
        say: Callable[[str], None] = (lambda line: None) if arguments.json else (lambda line: print(line, flush=True))
        found = figures(Path(work), say, arguments.only)
    print(json.dumps({"figures": {key: round(value, 6) for key, value in found.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(command(__doc__ or "", figures, list(builders())))

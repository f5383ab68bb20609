"""Compiled digits models against ONNX Runtime's default, in the device runtime: `figures()` for the spine benchmark."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skerry_compiler import bench, cli


def figures() -> dict[str, float]:
    """Return speed-up, memory ratio and share of same labels of a forest of 100 trees and a perceptron of 64 units."""
    features, labels = load_digits(return_X_y=True)
    split = train_test_split((features / 16).astype(np.float32), labels, random_state=0)
    train, held_out, train_labels, held_out_labels = split
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        np.savez(folder / "calibration.npz", image=train[:200])
        np.savez(folder / "evaluation.npz", image=held_out, labels=held_out_labels)
        forest = RandomForestClassifier(100, random_state=0).fit(train, train_labels)
        mlp = make_pipeline(StandardScaler(), MLPClassifier((64,), max_iter=200, random_state=0)).fit(
            train, train_labels
        )
        for key, estimator in {"forest": forest, "mlp": mlp}.items():
            result = measured(estimator, folder, key)
            found[f"{key}_speedup"] = round(result["ratio"]["latency"], 2)
            found[f"{key}_memory_ratio"] = round(result["ratio"]["memory"], 3)
            found[f"{key}_cold_start_ratio"] = round(result["ratio"]["cold_start"], 3)
            found[f"{key}_same_labels"] = result["agreement"]["top1"]
    return found


def measured(estimator: Any, folder: Path, key: str) -> dict[str, Any]:
    """Compile one estimator and return its bench."""
    model, bundle = folder / f"{key}.onnx", folder / f"{key}.skerry"
    types = [("image", FloatTensorType([None, 64]))]
    onnx.save(
        to_onnx(estimator, initial_types=types, options={id(estimator): {"zipmap": False}}, target_opset=17), model
    )
    words = ["compile", str(model), "--target", "host", "--model", "digits", "--version", "1", "--release", "1"]
    data = ["--calibration", str(folder / "calibration.npz"), "--evaluation", str(folder / "evaluation.npz")]
    with contextlib.redirect_stdout(io.StringIO()):
        if cli.main([*words, *data, "-o", str(bundle)]):
            raise SystemExit(f"{key} was not compiled")
    return bench.bench(bundle, model, folder / "evaluation.npz", trust_pickle=False)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="compiled digits models against ONNX Runtime's default")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    found = figures()
    if not arguments.json:
        for key, value in found.items():
            print(f"{key:24} {value}")
    print(json.dumps({"figures": found}))


if __name__ == "__main__":
    main()

"""Tabular models other than trees, compiled for this machine, beside ONNX Runtime's default on the converted original:
`skerry compile`, then `skerry bench`, then the answers beside scikit-learn's own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import skops.io
from benchmarks.compiler_trees import data, skerry
from sklearn import (
    calibration,
    ensemble,
    kernel_ridge,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
)
from sklearn.pipeline import make_pipeline

LOGISTIC = linear_model.LogisticRegression(max_iter=2000)
SCALER = preprocessing.StandardScaler()
THREE = [("a", LOGISTIC), ("b", naive_bayes.GaussianNB()), ("c", neighbors.KNeighborsClassifier())]
MODELS: dict[str, tuple[str, Any]] = {
    "wine neighbours 5": ("wine", make_pipeline(SCALER, neighbors.KNeighborsClassifier())),
    "digits neighbours 5": ("digits", neighbors.KNeighborsClassifier()),
    "digits neighbours weighted": ("digits", neighbors.KNeighborsClassifier(9, weights="distance", metric="manhattan")),
    "diabetes neighbours 8": ("diabetes", neighbors.KNeighborsRegressor(8, weights="distance")),
    "digits vectors": ("digits", svm.SVC()),
    "cancer vectors": ("breast_cancer", make_pipeline(SCALER, svm.SVC())),
    "wine vectors calibrated": ("wine", make_pipeline(SCALER, calibration.CalibratedClassifierCV(svm.SVC(), cv=3))),
    "diabetes kernel ridge": ("diabetes", kernel_ridge.KernelRidge(kernel="rbf", gamma=1.0)),
    "cancer logistic": ("breast_cancer", make_pipeline(SCALER, LOGISTIC)),
    "digits logistic": ("digits", make_pipeline(SCALER, LOGISTIC)),
    "wine polynomial": ("wine", make_pipeline(SCALER, preprocessing.PolynomialFeatures(2), LOGISTIC)),
    "digits perceptron": ("digits", make_pipeline(SCALER, neural_network.MLPClassifier((64, 32), random_state=0))),
    "cancer perceptron": ("breast_cancer", make_pipeline(SCALER, neural_network.MLPClassifier((32,), random_state=0))),
    "wine power logistic": ("wine", make_pipeline(preprocessing.PowerTransformer(), LOGISTIC)),
    "wine bayes": ("wine", naive_bayes.GaussianNB()),
    "wine ada 50": ("wine", ensemble.AdaBoostClassifier(random_state=0)),
    "cancer ada 50": ("breast_cancer", ensemble.AdaBoostClassifier(random_state=0)),
    "diabetes ada 50": ("diabetes", ensemble.AdaBoostRegressor(random_state=0)),
    "cancer isolation 100": ("breast_cancer", ensemble.IsolationForest(random_state=0)),
    "cancer outlier factor": ("breast_cancer", make_pipeline(SCALER, neighbors.LocalOutlierFactor(novelty=True))),
    "wine voting": ("wine", make_pipeline(SCALER, ensemble.VotingClassifier(THREE, voting="soft"))),
    "wine stacking": ("wine", make_pipeline(SCALER, ensemble.StackingClassifier(THREE, cv=3))),
    "wine one against rest": ("wine", make_pipeline(SCALER, multiclass.OneVsRestClassifier(svm.LinearSVC()))),
}

Say = Callable[[str], None]


def measured(name: str, work: Path) -> dict[str, Any]:
    """Return what `skerry bench` says of a model's bundle, and the share of its answers that are scikit-learn's: equal
    classes, or values within a hundred-thousandth of the greatest.
    """
    kind, estimator = MODELS[name]
    rows, target, held = data(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(rows, target)
        answers = np.asarray(estimator.predict(held)).reshape(-1)
    model, arrays, bundle = work / "model.skops", work / "rows.npz", work / "model.skerry"
    skops.io.dump(estimator, model)
    np.savez(arrays, x=held)
    words = ("--target", "host", "--model", "tabular", "--version", "1", "--release", "1", "-o", bundle)
    skerry("compile", model, *words, "--evaluation", arrays, "--input-name", "x", "--budget", "4")
    found: dict[str, Any] = json.loads(skerry("bench", bundle, "--against", model, "--evaluation", arrays, "--json"))
    skerry("run", bundle, "--input", arrays, "--output", work / "out.npz")
    given = next(iter(np.load(work / "out.npz").values())).reshape(-1)
    if answers.dtype.kind == "f":
        found["same"] = float(np.mean(np.abs(given - answers) <= 1e-5 * np.max(np.abs(answers))))
    else:
        found["same"] = float(np.mean(given == answers))
    return found


def figures(work: Path, say: Say, only: str = "") -> dict[str, float]:
    """Return, of the models whose names hold `only`, tabular_speedup_min, tabular_speedup_geomean, tabular_memory_max
    and tabular_same_min.
    """
    found = {}
    for name in MODELS:
        if only not in name:
            continue
        each = found[name] = measured(name, work)
        ratio = each["ratio"]
        say(
            f"{name:<26} {each['bundle']['variant']:<16} {ratio['latency']:6.2f}x  memory {ratio['memory']:.3f}"
            f"  start {ratio['cold_start']:.3f}  same {each['same']:.4f}"
            f"  {each['bundle']['latency_ms']['p50'] * 1e3:.2f} us of {each['original']['latency_ms']['p50'] * 1e3:.2f}"
        )
    if not found:
        return {}
    return {
        "tabular_speedup_min": min(each["ratio"]["latency"] for each in found.values()),
        "tabular_speedup_geomean": geometric_mean([each["ratio"]["latency"] for each in found.values()]),
        "tabular_memory_max": max(each["ratio"]["memory"] for each in found.values()),
        "tabular_same_min": min(each["same"] for each in found.values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line")
    parser.add_argument("--only", default="", metavar="PART", help="models whose names hold this")
    arguments = parser.parse_args()

    def say(words: str) -> None:
        if not arguments.json:
            print(words, flush=True)

    with tempfile.TemporaryDirectory(prefix="skerry-") as work:
        found = figures(Path(work), say, arguments.only)
    print(json.dumps({"figures": {key: round(value, 4) for key, value in found.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

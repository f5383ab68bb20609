"""Tree ensembles of every library, and perceptrons, compiled for this machine, beside ONNX Runtime's default on the
converted original: `skerry compile`, then `skerry bench`, then the answers beside the library's own.

LightGBM and XGBoost take part where they are installed (the development tools hold them).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import skops.io
from sklearn import datasets, ensemble, neural_network, pipeline, preprocessing

Say = Callable[[str], None]
# name: data, estimator
SKLEARN: dict[str, tuple[str, Any]] = {
    "digits forest 100": ("digits", ensemble.RandomForestClassifier(100, random_state=0)),
    "digits forest 20 depth 6": ("digits", ensemble.RandomForestClassifier(20, max_depth=6, random_state=0)),
    "digits extra 300": ("digits", ensemble.ExtraTreesClassifier(300, random_state=0)),
    "digits boosting 60": ("digits", ensemble.GradientBoostingClassifier(n_estimators=60, random_state=0)),
    "digits hist 40": ("digits", ensemble.HistGradientBoostingClassifier(max_iter=40, random_state=0)),
    "cancer forest 100": ("breast_cancer", ensemble.RandomForestClassifier(100, random_state=0)),
    "cancer boosting 100": ("breast_cancer", ensemble.GradientBoostingClassifier(random_state=0)),
    "cancer hist 100": ("breast_cancer", ensemble.HistGradientBoostingClassifier(random_state=0)),
    "diabetes forest 100": ("diabetes", ensemble.RandomForestRegressor(100, random_state=0)),
    "diabetes extra 200": ("diabetes", ensemble.ExtraTreesRegressor(200, random_state=0)),
    "diabetes boosting 100": ("diabetes", ensemble.GradientBoostingRegressor(random_state=0)),
    "diabetes hist 100": ("diabetes", ensemble.HistGradientBoostingRegressor(random_state=0)),
}
PERCEPTRONS: dict[str, tuple[str, Any]] = {
    f"{kind} perceptron {'x'.join(map(str, layers))}": (
        data,
        pipeline.make_pipeline(
            preprocessing.StandardScaler(), neural_network.MLPClassifier(layers, max_iter=60, random_state=0)
        ),
    )
    for kind, data, layers in (
        ("digits", "digits", (64,)),
        ("digits", "digits", (100, 50)),
        ("cancer", "breast_cancer", (32,)),
        ("cancer", "breast_cancer", (100, 100)),
    )
}
BOOSTERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "digits lightgbm 60": ("lightgbm", "digits", {"objective": "multiclass", "num_class": 10}),
    "cancer lightgbm 60": ("lightgbm", "breast_cancer", {"objective": "binary"}),
    "diabetes lightgbm 60": ("lightgbm", "diabetes", {"objective": "regression"}),
    "digits xgboost 60": ("xgboost", "digits", {"objective": "multi:softprob", "num_class": 10}),
    "cancer xgboost 60": ("xgboost", "breast_cancer", {"objective": "binary:logistic"}),
    "diabetes xgboost 60": ("xgboost", "diabetes", {"objective": "reg:squarederror"}),
}
ROUNDS = 60


def data(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training rows, their targets, and other rows, f32[n, features]; shuffled by a fixed seed."""
    rows, target = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(rows))
    rows, target = rows[order].astype(np.float32), target[order]
    cut = len(rows) * 7 // 10
    return rows[:cut], target[:cut], rows[cut:]


def trained(name: str, work: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Train and save an ensemble; return its file, the held-out rows and the library's own answers on them: classes,
    or values.
    """
    if name not in BOOSTERS:
        kind, estimator = (SKLEARN | PERCEPTRONS)[name]
        rows, target, held = data(kind)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(rows, target)
            answers = np.asarray(estimator.predict(held))
        skops.io.dump(estimator, work / "model.skops")
        return work / "model.skops", held, answers
    library, kind, options = BOOSTERS[name]
    rows, target, held = data(kind)
    if library == "lightgbm":
        import lightgbm

        options = {**options, "verbose": -1, "num_threads": 1}
        light = lightgbm.train(options, lightgbm.Dataset(rows, target, params={"verbose": -1}), ROUNDS)
        light.save_model(work / "model.txt")
        path, answers = work / "model.txt", np.asarray(light.predict(held))
    else:
        import xgboost

        extreme = xgboost.train({**options, "nthread": 1}, xgboost.DMatrix(rows, target), ROUNDS)
        extreme.save_model(work / "model.ubj")
        path, answers = work / "model.ubj", extreme.predict(xgboost.DMatrix(held))
    if answers.ndim == 2:
        answers = answers.argmax(axis=1)
    elif kind == "breast_cancer":
        answers = (answers > 0.5).astype(int)
    return path, held, answers


def skerry(*words: str | Path) -> str:
    """Run the command and return what it prints."""
    command = [sys.executable, "-m", "skerry", *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout


def measured(name: str, work: Path) -> dict[str, Any]:
    """Return what `skerry bench` says of an ensemble's bundle, and whether its answers are the library's (`same`: the
    share of equal classes, or of values within a millionth).
    """
    model, held, answers = trained(name, work)
    rows, bundle = work / "rows.npz", work / "model.skerry"
    np.savez(rows, x=held)
    words = ("--target", "host", "--model", "trees", "--version", "1", "--release", "1", "-o", bundle)
    skerry("compile", model, *words, "--evaluation", rows, "--input-name", "x", "--budget", "3")
    found: dict[str, Any] = json.loads(skerry("bench", bundle, "--against", model, "--evaluation", rows, "--json"))
    skerry("run", bundle, "--input", rows, "--output", work / "out.npz")
    given = next(iter(np.load(work / "out.npz").values())).reshape(-1)
    if answers.dtype.kind == "f":
        found["same"] = float(np.mean(np.abs(given - answers) <= 1e-6 * np.maximum(1, np.abs(answers))))
    else:
        found["same"] = float(np.mean(given == answers))
    return found


def trainable(name: str) -> bool:
    """Return whether the library of an ensemble is here."""
    return name not in BOOSTERS or importlib.util.find_spec(BOOSTERS[name][0]) is not None


def figures(work: Path, say: Say, only: str = "") -> dict[str, float]:
    """Return, of the ensembles whose names hold `only`, trees_speedup_min, trees_speedup_geomean, trees_memory_max and
    trees_same_min; the same of the perceptrons; and each one's cold start.
    """
    made: dict[str, float] = {}
    for group, names in (("trees", (*SKLEARN, *BOOSTERS)), ("perceptrons", (*PERCEPTRONS,))):
        found = {}
        for name in names:
            if only in name and trainable(name):
                each = found[name] = measured(name, work)
                ratio = each["ratio"]
                say(
                    f"{name:<26} {each['bundle']['variant']:<16} {ratio['latency']:6.2f}x  memory {ratio['memory']:.3f}"
                    f"  start {ratio['cold_start']:.3f}  same {each['same']:.4f}"
                )
                made[f"{name.replace(' ', '_')}_cold_start"] = ratio["cold_start"]
        if found:
            speed = [each["ratio"]["latency"] for each in found.values()]
            made[f"{group}_speedup_min"] = min(speed)
            made[f"{group}_speedup_geomean"] = geometric_mean(speed)
            made[f"{group}_memory_max"] = max(each["ratio"]["memory"] for each in found.values())
            made[f"{group}_same_min"] = min(each["same"] for each in found.values())
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line")
    parser.add_argument("--only", default="", metavar="PART", help="ensembles whose names hold this")
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

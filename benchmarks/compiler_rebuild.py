"""Bundles made again from their recipes elsewhere: another folder, user, time zone, language, umask, hash seed and
number of threads. `rebuild_identical` is the share whose files are the same to the byte.

    python benchmarks/compiler_rebuild.py [--json] [--only NAME ...]

The other user is one of a user namespace; where the system allows none, the user stays the same, and a line says so.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn import neural_network, pipeline, preprocessing, svm

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks import compiler_dense, compiler_edge, compiler_trees

OTHER_USER = ("unshare", "--user", "--map-user=4711", "--map-group=4711")
BUDGET = "20s"
SETTINGS = {
    "TZ": "Pacific/Kiritimati",
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "4711",
    "OMP_NUM_THREADS": "3",
    "OPENBLAS_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "PYTHONUTF8": "1",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """A bundle and what it was made from."""

    bundle: Path
    model: Path
    calibration: Path | None


def compiled(
    name: str, work: Path, model: Path, data: tuple[Path, Path] | None, target: str = "host", budget: str = BUDGET
) -> Made:
    """Compile a model with calibration and evaluation data, unless its bundle is in `work` already."""
    bundle = work / f"{name}.skerry"
    if not bundle.exists():
        words = ["compile", str(model), "--target", target, "--model", "m", "--version", "1", "--release", "1"]
        words += ["-o", str(bundle), "--budget", budget, "--quiet"]
        if data is not None:
            words += ["--calibration", str(data[0]), "--evaluation", str(data[1])]
        subprocess.run([sys.executable, "-m", "skerry", *words], check=True, stdout=subprocess.DEVNULL)
    return Made(bundle, model, None if data is None else data[0])


def network(name: str, work: Path, target: str = "host") -> Made:
    """Compile a real network."""
    model, calibration, evaluation = compiler_edge.build(name, work)
    known = name if target == "host" else f"{name}-{target}"
    return compiled(known, work, model, (calibration, evaluation), target)


def flat(name: str, work: Path) -> Made:
    """Compile a network that came as .tflite; its rows are those of the ONNX form, by its own input's name and type."""
    source = compiler_edge.folder() / f"{name}.tflite"
    model = work / source.name
    shutil.copyfile(source, model)
    return compiled(name, work, model, None)


def dense(name: str, work: Path) -> Made:
    """Compile a network of real size with random weights."""
    model, calibration, evaluation = compiler_dense.build(name, work)
    return compiled(name, work, model, (calibration, evaluation))


def table(name: str, work: Path) -> Made:
    """Compile a model of tables: an ensemble of compiler_trees, or an estimator from here."""
    place = work / name.replace(" ", "-")
    place.mkdir(exist_ok=True)
    rows = place / "rows.npz"
    if name in ESTIMATORS:
        train, target, held = compiler_trees.data("digits")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ESTIMATORS[name].fit(train, target)
        model = place / "model.skops"
        skops.io.dump(ESTIMATORS[name], model)
    else:
        model, held, _ = compiler_trees.trained(name, place)
    np.savez(rows, x=held[:100])
    return compiled(place.name, work, model, (rows, rows))


ESTIMATORS: dict[str, Any] = {
    "perceptron": pipeline.make_pipeline(
        preprocessing.StandardScaler(), neural_network.MLPClassifier((32,), max_iter=30, random_state=0)
    ),
    "support vectors": svm.SVC(gamma=0.001),
}
ENSEMBLES = (
    "digits forest 20 depth 6",
    "cancer hist 100",
    "diabetes boosting 100",
    "cancer lightgbm 60",
    "digits xgboost 60",
)


def builders() -> dict[str, Callable[[Path], Made]]:
    """Return how each bundle is made; networks only where they are here."""
    found: dict[str, Callable[[Path], Made]] = {}
    for name in compiler_edge.here():
        found[name] = functools.partial(network, name)
    for name in ("kws_i8", "ad_f32"):
        if (compiler_edge.folder() / f"{name}.tflite").is_file():
            found[name] = functools.partial(flat, name)
    if "kws" in found:
        found["kws on aarch64"] = functools.partial(network, "kws", target="raspberry-pi-4")
    found["squeezenet"] = functools.partial(dense, "squeezenet")
    return found | {
        name: functools.partial(table, name) for name in (*ENSEMBLES, *ESTIMATORS) if compiler_trees.trainable(name)
    }


def rebuilt(made: Made, elsewhere: Path) -> str | None:
    """Make a bundle again in another place; return what differs, None where no byte does.

    The commands run in `elsewhere`, on copies of the model and its data.
    """
    copies = {
        path: elsewhere / f"a copy of {path.name}" for path in (made.model, made.bundle, made.calibration) if path
    }
    for path, copy in copies.items():
        shutil.copyfile(path, copy)
    again, home = elsewhere / "again.skerry", elsewhere / "home"
    (elsewhere / "tmp").mkdir()
    home.mkdir()
    words = [str(copies[made.model]), "--recipe", str(copies[made.bundle]), "-o", str(again), "--quiet"]
    words += ["--calibration", str(copies[made.calibration])] if made.calibration else []
    script = 'umask 077; exec "$@"'
    command = ["sh", "-c", script, "sh", *other_user(), sys.executable, "-m", "skerry", "compile", *words]
    settings = {**os.environ, **SETTINGS, "HOME": str(home), "TMPDIR": str(elsewhere / "tmp")}
    done = subprocess.run(command, cwd=elsewhere, env=settings, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
    return (
        None if again.read_bytes() == made.bundle.read_bytes() else "the same id, but other bytes beside the manifest"
    )


@functools.cache
def other_user() -> tuple[str, ...]:
    """Return the words before a command that run it as another user; none where that is not possible."""
    try:
        done = subprocess.run([*OTHER_USER, sys.executable, "-c", "import skerry_compiler"], capture_output=True)
    except OSError:
        return ()
    return OTHER_USER if done.returncode == 0 else ()


def figures(work: Path, say: Callable[[str], None], only: Sequence[str] = ()) -> dict[str, float]:
    """Return rebuild_identical, the share of bundles that are the same, and how many were tried; bundles that other
    benchmarks left in `work` are used.
    """
    if not other_user():
        say("no user namespaces here: rebuilt by the same user, in another folder and environment")
    same, tried = 0, 0
    for name, build in builders().items():
        if only and name not in only:
            continue
        made = build(work)
        with tempfile.TemporaryDirectory(prefix="elsewhere ") as folder:
            said = rebuilt(made, Path(folder))
        tried, same = tried + 1, same + (said is None)
        shipped = json.loads(
            subprocess.run(
                [sys.executable, "-m", "skerry", "bundle", "show", str(made.bundle), "--json"],
                check=True,
                stdout=subprocess.PIPE,
            ).stdout
        )["manifest"]["variants"]
        say(f"{name:<26} {said or 'identical'}  ({', '.join(each['id'] for each in shipped)})")
    return {"rebuild_identical": same / tried, "rebuild_tried": tried}


if __name__ == "__main__":
    sys.exit(compiler_dense.command(__doc__ or "", figures, list(builders())))

"""The scikit-learn front end: an estimator or pipeline to ONNX by skl2onnx, with a parity check.

`.skops` files are read with nothing trusted beyond scikit-learn and numpy themselves; `.joblib` and `.pkl` run code
when they are read, so they need --trust-pickle. Runs inside the sandbox (skerry_compiler.prepare).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from skerry_compiler import data
from skerry_compiler.errors import ModelError, UnsupportedError
from skerry_compiler.frontends import by_skl2onnx, hist_boosting, parity
from skerry_compiler.frontends import onnx as onnx_frontend
from skerry_compiler.frontends.estimators import convert as convert_own
from skerry_compiler.frontends.opening import Opening

PARITY_ROWS = 256
# What scikit-learn's own estimators hold of others: a partial function of another trusted one, sparse matrices, splines
# and the function by which these make arrays.
TRUSTED = (
    "functools.partial",
    "scipy.sparse._csr.csr_matrix",
    "scipy.sparse._csr.csr_array",
    "scipy.interpolate._bsplines.BSpline",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
)
_UNFIT = "fit it before saving it; LocalOutlierFactor predicts only with novelty=True"


def read(opening: Opening) -> ModelProto:
    """Return the estimator of a file as ONNX; its one input is named as asked, as the calibration data's key, or X.

    Raises:
        CompileError: see `load` and `convert`.
    """
    estimator = load(opening.path, trust_pickle=opening.trust_pickle)
    given = {name: array for name, array in opening.arrays.items() if name != data.LABELS}
    only = next(iter(given)) if len(given) == 1 else "X"
    features = getattr(estimator, "n_features_in_", 1 if hasattr(estimator, "X_thresholds_") else None)
    rows = given.get(only)
    if rows is not None and (rows.ndim != 2 or rows.shape[1] != features):
        rows = None  # refused with its own words once the signature is known
    reader = opening.profile.engines.get("onnxruntime")
    model = convert(
        estimator,
        input_name=opening.input_name or only,
        opset_max=None if reader is None else reader.opset_max,
        rows=None if rows is None or not len(rows) else rows.astype(np.float32),
    )
    return onnx_frontend.parse(model.SerializeToString(), opening.path.name)


def load(path: Path, *, trust_pickle: bool) -> Any:
    """Return the fitted estimator in a file.

    Raises:
        ModelError: not such a file, a pickle without trust, or types beyond scikit-learn in a skops file.
    """
    if path.suffix == ".skops":
        return _load_skops(path)
    if not trust_pickle:
        raise ModelError(
            f"{path.name} is a pickle: reading it runs the code inside it",
            hint="save it with skops.io.dump, or pass --trust-pickle if you made it yourself",
        )
    import joblib

    try:
        return joblib.load(path)
    except Exception as error:  # a pickle may raise anything; it is mapped here, at the seam
        raise ModelError(f"{path.name} cannot be unpickled: {type(error).__name__}: {str(error)[:200]}") from error


def _load_skops(path: Path) -> Any:
    import skops.io

    try:
        untrusted = skops.io.get_untrusted_types(file=path)
    except Exception as error:  # skops raises what zipfile and json raise; mapped here, at the seam
        raise ModelError(f"{path.name} is not a skops file, or is cut short: {str(error)[:200]}") from error
    foreign = [each for each in untrusted if not each.startswith(("sklearn.", "numpy.")) and each not in TRUSTED]
    if foreign:
        raise ModelError(f"{path.name} holds types beyond scikit-learn: {', '.join(foreign[:8])}")
    return skops.io.load(path, trusted=untrusted)


def convert(estimator: Any, *, input_name: str, opset_max: int | None, rows: np.ndarray | None) -> ModelProto:
    """Return the estimator as ONNX with one float32 input, checked against the estimator itself.

    Args:
        estimator: fitted; f32[n, features] -> labels or values.
        input_name: the name of the model's one input.
        opset_max: the newest opset the target's engine reads, or None.
        rows: f32[n, features] to compare on; random ones where None.

    Raises:
        UnsupportedError: there is no converter for a step.
        ModelError: no fitted estimator, or the converted model answers otherwise.
    """
    one = 1 if hasattr(estimator, "X_thresholds_") else None  # an IsotonicRegression, which does not count
    features = getattr(estimator, "n_features_in_", one)
    answers = hasattr(estimator, "predict") or hasattr(estimator, "transform")
    if features is None or not answers:
        raise ModelError(f"a {type(estimator).__name__} is no fitted estimator with predict", hint=_UNFIT)
    binarizer = getattr(estimator, "_label_binarizer", None)
    if getattr(binarizer, "y_type_", "").startswith("multilabel"):
        raise UnsupportedError(
            f"{type(estimator).__name__} of several outputs", hint="use MultiOutputClassifier, or one model an output"
        )
    if type(estimator).__name__ in hist_boosting.NAMES:
        model = hist_boosting.convert(estimator, input_name)
    elif convert_own.needed(estimator):
        model = convert_own.convert(estimator, input_name, int(features))
    else:
        model = by_skl2onnx.convert(estimator, input_name, int(features), opset_max)
    if rows is None:
        rows = np.random.default_rng(0).normal(size=(PARITY_ROWS, int(features))).astype(np.float32)
    parity.check(estimator, model, rows[:PARITY_ROWS])
    return model

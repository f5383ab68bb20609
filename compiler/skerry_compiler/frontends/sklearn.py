"""The scikit-learn front end: an estimator or pipeline to ONNX by skl2onnx, with a parity check.

`.skops` files are read with nothing trusted beyond scikit-learn and numpy themselves; `.joblib` and `.pkl` run code
when they are read, so they need --trust-pickle. Runs inside the sandbox (skerry_compiler.prepare).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, compose

from skerry_compiler import data
from skerry_compiler.errors import ModelError, UnsupportedError
from skerry_compiler.frontends import hist_boosting
from skerry_compiler.frontends import onnx as onnx_frontend
from skerry_compiler.frontends.opening import Opening

OPSET, ML_OPSET = 17, 3
NO_ZIPMAP = ("LinearSVC", "GaussianMixture", "BayesianGaussianMixture")
PARITY_ROWS = 256
MAX_PROBABILITY_ERROR = 1e-3
MIN_SAME_LABELS = 0.995


def read(opening: Opening) -> ModelProto:
    """Return the estimator of a file as ONNX; its one input is named as asked, as the calibration data's key, or X.

    Raises:
        CompileError: see `load` and `convert`.
    """
    estimator = load(opening.path, trust_pickle=opening.trust_pickle)
    given = {name: array for name, array in opening.arrays.items() if name != data.LABELS}
    only = next(iter(given)) if len(given) == 1 else "X"
    features = getattr(estimator, "n_features_in_", None)
    rows = given.get(only)
    if rows is not None and (rows.ndim != 2 or rows.shape[1] != features):
        rows = None  # refused with its own words once the signature is known
    model = convert(
        estimator,
        input_name=opening.input_name or only,
        opset_max=opening.profile.engines["onnxruntime"].opset_max,
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
    # A partial function holds another of the trusted ones, as scikit-learn's own transformers of categories do.
    foreign = [
        each for each in untrusted if not each.startswith(("sklearn.", "numpy.")) and each != "functools.partial"
    ]
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
        UnsupportedError: skl2onnx has no converter for a step.
        ModelError: no fitted estimator, or the converted model answers otherwise.
    """
    features = getattr(estimator, "n_features_in_", None)
    if features is None or not hasattr(estimator, "predict"):
        raise ModelError(
            f"a {type(estimator).__name__} is no fitted estimator with predict", hint="fit it before saving it"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _convert(estimator, input_name, int(features), opset_max)
    if rows is None:
        rows = np.random.default_rng(0).normal(size=(PARITY_ROWS, int(features))).astype(np.float32)
    check_parity(estimator, model, rows[:PARITY_ROWS])
    return model


def _convert(estimator: Any, input_name: str, features: int, opset_max: int | None) -> ModelProto:
    """Return the estimator as ONNX: by our own converter where the last step needs it, else by skl2onnx."""
    steps = list(getattr(estimator, "steps", []))
    last = steps[-1][1] if steps else estimator
    if type(last).__name__ not in hist_boosting.NAMES:
        return _by_skl2onnx(estimator, input_name, features, opset_max)
    columns = "boosting_columns"
    boosting = hist_boosting.convert(last, columns if len(steps) > 1 else input_name)
    if len(steps) < 2:
        return boosting
    before = _by_skl2onnx(estimator[:-1], input_name, features, OPSET)
    before.ir_version = boosting.ir_version
    del before.opset_import[:]
    before.opset_import.extend(boosting.opset_import)
    joined: ModelProto = compose.merge_models(
        compose.add_prefix(before, "before_", rename_inputs=False, rename_outputs=False),
        boosting,
        io_map=[(before.graph.output[0].name, columns)],
    )
    return joined


def _by_skl2onnx(estimator: Any, input_name: str, features: int, opset_max: int | None) -> ModelProto:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    classifies = hasattr(estimator, "predict_proba") or hasattr(estimator, "classes_")
    options = {id(estimator): {"zipmap": False}} if classifies and type(last).__name__ not in NO_ZIPMAP else None
    opset = OPSET if opset_max is None else min(OPSET, opset_max)
    try:
        model: ModelProto = to_onnx(
            estimator,
            initial_types=[(input_name, FloatTensorType([None, features]))],
            options=options,
            target_opset={"": opset, "ai.onnx.ml": ML_OPSET},
        )
    except NameError as error:  # how skl2onnx says that an option is not known
        raise UnsupportedError(f"{type(estimator).__name__} does not convert to ONNX: {str(error)[:200]}") from error
    except (MissingConverter, MissingShapeCalculator) as error:
        raise UnsupportedError(f"no conversion to ONNX for a step: {str(error)[:200]}") from error
    except (ValueError, TypeError, RuntimeError, AttributeError, KeyError, NotImplementedError) as error:
        raise UnsupportedError(f"{type(estimator).__name__} does not convert to ONNX: {str(error)[:200]}") from error
    return model


def check_parity(estimator: Any, model: ModelProto, rows: np.ndarray) -> None:
    """Compare ONNX Runtime's answers on the converted model with scikit-learn's own.

    Raises:
        ModelError: labels or values differ by more than the limits above.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run(None, {session.get_inputs()[0].name: rows})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(estimator.predict(rows))
        scores = estimator.predict_proba(rows) if hasattr(estimator, "predict_proba") else None
    if hasattr(estimator, "classes_"):
        if expected.dtype == np.bool_:
            expected = expected.astype(np.int64)  # how skl2onnx numbers them
        same = float(np.mean(np.asarray(answers[0]).reshape(-1).astype(str) == expected.reshape(-1).astype(str)))
        if same < MIN_SAME_LABELS:
            raise ModelError(
                f"the converted model gives other labels than scikit-learn on {1 - same:.1%} of {len(rows)} rows"
            )
    else:
        scores, answers = expected.reshape(len(rows), -1), [None, np.asarray(answers[0]).reshape(len(rows), -1)]
    if scores is not None:
        worst = float(np.max(np.abs(np.asarray(scores, np.float64) - np.asarray(answers[1], np.float64))))
        limit = MAX_PROBABILITY_ERROR * max(1.0, float(np.max(np.abs(scores))))
        if not worst <= limit:
            raise ModelError(f"the converted model is off by {worst:.2g} from scikit-learn (at most {limit:.2g})")

"""An estimator to ONNX by skl2onnx."""

from __future__ import annotations

import warnings
from typing import Any

from onnx import ModelProto

from skerry_compiler.errors import UnsupportedError

OPSET, ML_OPSET = 17, 3
NO_ZIPMAP = ("LinearSVC", "GaussianMixture", "BayesianGaussianMixture", "KNNImputer")
_HINT = "docs/front-ends.md lists what compiles"


def convert(estimator: Any, input_name: str, features: int, opset_max: int | None, scores: bool = False) -> ModelProto:
    """Return an estimator as ONNX, f32[n, features] -> what skl2onnx makes of it.

    Args:
        estimator: fitted.
        input_name: the name of the model's one input.
        features: its columns.
        opset_max: the newest opset that is wanted, or None.
        scores: a classifier's raw scores instead of probabilities.

    Raises:
        UnsupportedError: skl2onnx has no converter for a step.
    """
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    classifies = hasattr(estimator, "predict_proba") or hasattr(estimator, "classes_")
    options = {id(estimator): {"zipmap": False}} if classifies and type(last).__name__ not in NO_ZIPMAP else None
    if scores:
        options = {id(estimator): {"zipmap": False, "raw_scores": True}}
    opset = OPSET if opset_max is None else min(OPSET, opset_max)
    kind = type(estimator).__name__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: ModelProto = to_onnx(
                estimator,
                initial_types=[(input_name, FloatTensorType([None, features]))],
                options=options,
                target_opset={"": opset, "ai.onnx.ml": ML_OPSET},
            )
    except (MissingConverter, MissingShapeCalculator) as error:
        step = str(error).partition("type '<class '")[2].partition("'")[0].rpartition(".")[2] or kind
        raise UnsupportedError(f"there is no conversion for {step:.80}", hint=_HINT) from error
    except NameError as error:  # how skl2onnx says that an option is not known
        raise UnsupportedError(f"{kind} does not convert to ONNX: {_said(error)}", hint=_HINT) from error
    except (
        ValueError,
        TypeError,
        RuntimeError,
        AttributeError,
        KeyError,
        NotImplementedError,
        AssertionError,
    ) as error:
        raise UnsupportedError(f"{kind} does not convert to ONNX: {_said(error)}", hint=_HINT) from error
    return model


def _said(error: Exception) -> str:
    """Return what an error says, in one line, without the advice to ask skl2onnx's makers."""
    return " ".join(str(error).partition("You may raise")[0].split())[:200]

"""A whole estimator to ONNX: by our own converters where one of its parts needs them, each other part by skl2onnx."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends import by_skl2onnx, hist_boosting
from skerry_compiler.frontends.estimators import composite, encoders, forests, kernels, neighbours, wrappers
from skerry_compiler.frontends.estimators.maker import DECISION, INDEX, PROBA, TRANSFORM, VALUES, Handler
from skerry_compiler.frontends.estimators.sheet import OPSET, Sheet, f32, i64

HANDLERS: dict[str, Handler] = {
    **neighbours.HANDLERS,
    **forests.HANDLERS,
    **composite.HANDLERS,
    **kernels.HANDLERS,
    **wrappers.HANDLERS,
    **encoders.HANDLERS,
}
# skl2onnx converts these well by itself, unless they hold a part that needs us.
WELL_KNOWN: tuple[str, ...] = (
    "Pipeline",
    "FeatureUnion",
    "ColumnTransformer",
    "BaggingClassifier",
    "BaggingRegressor",
    "GridSearchCV",
)
WELL_KNOWN += ("MultiOutputRegressor", "RANSACRegressor")
MAX_PARTS = 100_000


def needed(estimator: Any) -> bool:
    """Return whether an estimator, or one inside it, is to be converted here."""
    parts = list(_parts(estimator))
    kinds = {type(each).__name__ for each in parts}
    bags = [each for each in parts if type(each).__name__.startswith("Bagging") and hasattr(each, "estimators_")]
    if any(type(each.estimators_[0]).__name__ not in forests.TREES for each in bags):
        return True  # skl2onnx takes scores of any shape for probabilities
    if isinstance(getattr(estimator, "classes_", None), list):
        return True
    return bool(kinds & set(HANDLERS) - set(WELL_KNOWN)) or not kinds.isdisjoint(hist_boosting.NAMES)


def _parts(estimator: Any) -> Iterator[Any]:
    """Yield an estimator and those inside it."""
    waiting, seen = [estimator], 0
    while waiting:
        each = waiting.pop()
        seen += 1
        if seen > MAX_PARTS:
            raise UnsupportedError(f"an estimator of more than {MAX_PARTS} parts")
        if hasattr(each, "get_params") and not isinstance(each, type):
            yield each
            if type(each).__name__ not in ("AdaBoostClassifier", "IsolationForest"):
                waiting += [value for key, value in vars(each).items() if key.endswith("_") or key in _UNFITTED]
        elif isinstance(each, (list, tuple)):
            waiting += [one for one in each if isinstance(one, (list, tuple, dict)) or hasattr(one, "get_params")]
        elif isinstance(each, dict):
            waiting += [one for one in each.values() if hasattr(one, "get_params")]
        elif type(each).__name__ == "_CalibratedClassifier":
            waiting.append(each.estimator)


_UNFITTED = ("steps", "transformer_list", "estimator")


def convert(estimator: Any, name: str, features: int) -> ModelProto:
    """Return an estimator as ONNX, f32[n, features] -> label and probabilities, or values.

    Raises:
        UnsupportedError: there is no way to write it.
        ModelError: damaged.
    """
    making = Making()
    sheet = making.sheet
    classes = getattr(estimator, "classes_", None)
    outputs: list[tuple[str, str, int, list[int | None]]] = []
    if isinstance(classes, list):
        outputs = _several_labels(making, estimator, name)
    elif classes is not None:
        label, kind = _label(sheet, making.make(estimator, name, INDEX), np.asarray(classes))
        outputs.append((label, "label", kind, [None]))
        if hasattr(estimator, "predict_proba"):
            outputs.append(
                (making.make(estimator, name, PROBA), "probabilities", TensorProto.FLOAT, [None, len(classes)])
            )
    elif wrappers.finds_outliers(estimator):
        score = making.make(estimator, name, DECISION)
        inside = sheet.add("GreaterOrEqual", score, f32([[0.0]]))
        label = sheet.add("Where", inside, i64(1), i64(-1))
        outputs.append((label, "label", TensorProto.INT64, [None, 1]))
        outputs.append((score, "scores", TensorProto.FLOAT, [None, 1]))
    elif wrappers.finds_clusters(estimator):
        outputs.append((making.make(estimator, name, INDEX), "label", TensorProto.INT64, [None]))
    elif hasattr(estimator, "predict"):
        outputs.append((making.make(estimator, name, VALUES), "variable", TensorProto.FLOAT, [None, None]))
    else:
        outputs.append((making.make(estimator, name, TRANSFORM), "variable", TensorProto.FLOAT, [None, None]))
    return sheet.model(name, features, outputs)


def _several_labels(making: Making, estimator: Any, x: str) -> list[tuple[str, str, int, list[int | None]]]:
    """Return one column of labels an output, and each output's probabilities."""
    sheet, labels = making.sheet, []
    outputs: list[tuple[str, str, int, list[int | None]]] = []
    chain = type(estimator).__name__ == "ClassifierChain"
    if not chain and type(estimator).__name__ != "MultiOutputClassifier":
        raise UnsupportedError(
            f"{type(estimator).__name__} of several outputs", hint="use MultiOutputClassifier, or one model an output"
        )
    if chain:
        kinds = np.concatenate([np.asarray(each) for each in estimator.classes_])
        if kinds.dtype.kind not in "iubf":
            raise UnsupportedError("a chain of text labels", hint="number the labels")
        values = sheet.add("Cast", making.make(estimator, x, INDEX), to=TensorProto.INT64)
        outputs.append((values, "label", TensorProto.INT64, [None, len(estimator.classes_)]))
        if hasattr(estimator, "predict_proba"):
            shape: list[int | None] = [None, len(estimator.classes_)]
            outputs.append((making.make(estimator, x, PROBA), "probabilities", TensorProto.FLOAT, shape))
        return outputs
    for place, each in enumerate(estimator.estimators_):
        kinds = np.asarray(each.classes_)
        if kinds.dtype.kind not in "iub":
            raise UnsupportedError("several outputs with labels of text", hint="number the labels")
        index = making.make(each, x, INDEX)
        label, _ = _label(sheet, index, kinds)
        labels.append(sheet.add("Unsqueeze", label, i64(1)))
        if hasattr(each, "predict_proba"):
            outputs.append(
                (making.make(each, x, PROBA), f"probabilities_{place}", TensorProto.FLOAT, [None, len(kinds)])
            )
    return [(sheet.beside(labels), "label", TensorProto.INT64, [None, len(labels)]), *outputs]


def _label(sheet: Sheet, index: str, classes: np.ndarray) -> tuple[str, int]:
    """Return the label of an index, and its element type."""
    if classes.dtype.kind in "OU":
        if not all(isinstance(each, str) for each in classes):
            raise UnsupportedError("classes that are neither whole numbers nor text")
        table: np.ndarray = np.array([str(each) for each in classes], object)
    elif classes.dtype.kind in "iub" or np.all(classes == np.round(classes.astype(np.float64))):
        table = classes.astype(np.int64)
    else:
        raise UnsupportedError("classes that are neither whole numbers nor text")
    chosen = sheet.add("ArrayFeatureExtractor", table, index)
    kind = TensorProto.STRING if table.dtype.kind == "O" else TensorProto.INT64
    return sheet.add("Reshape", chosen, i64(-1)), kind


class Making:
    """Writes estimators into one sheet, each answer once; see `maker.Maker`."""

    def __init__(self) -> None:
        self.sheet = Sheet()
        self._made: dict[tuple[int, str, str], str] = {}
        self._leaves: dict[tuple[int, str, bool], list[str]] = {}
        self._kept: list[Any] = []  # so that no id is used again

    def make(self, estimator: Any, x: str, want: str) -> str:
        """See `maker.Maker.make`."""
        key = (id(estimator), x, want)
        if key not in self._made:
            self._kept.append(estimator)
            self._made[key] = self._one(estimator, x, want)
        return self._made[key]

    def _one(self, estimator: Any, x: str, want: str) -> str:
        kind = type(estimator).__name__
        handler = wrappers.TRANSFORMS.get(kind) if want == TRANSFORM else None
        handler = handler or HANDLERS.get(kind)
        if handler is not None and not (want == TRANSFORM and not hasattr(estimator, "transform")):
            return handler(self, estimator, x, want)
        if want == DECISION and kind in kernels.INSIDE:
            return kernels.INSIDE[kind](self, estimator, x, want)
        if want == DECISION and kind in wrappers.MORE_OUTLIERS:
            return self.sheet.add("Reshape", self._leaf(estimator, x, False)[1], i64(-1, 1))
        if want == TRANSFORM and kind in wrappers.MORE_CLUSTERS:
            return self._leaf(estimator, x, False)[1]
        if want == DECISION and wrappers.is_linear(estimator):
            return wrappers.linear_decision(self.sheet, estimator, x)
        if want == DECISION and not hasattr(estimator, "predict_proba"):
            raise UnsupportedError(f"scores of {type(estimator).__name__} inside another estimator")
        outputs = self._leaf(estimator, x, want == DECISION)
        if want == INDEX:
            return self.sheet.add("Reshape", outputs[0], i64(-1))
        if want in (TRANSFORM, VALUES):
            return outputs[0]
        scores = outputs[1]
        two = want == DECISION and len(estimator.classes_) == 2
        return self.sheet.columns(scores, [1]) if two else scores

    def _leaf(self, estimator: Any, x: str, raw: bool) -> list[str]:
        """Insert what skl2onnx makes of an estimator; a classifier's labels are the places of its classes."""
        key = (id(estimator), x, raw)
        if key in self._leaves:
            return self._leaves[key]
        features = int(estimator.n_features_in_)
        if type(estimator).__name__ in hist_boosting.NAMES:
            model = hist_boosting.convert(_numbered(estimator), "x")
        else:
            model = by_skl2onnx.convert(_numbered(estimator), "x", features, OPSET, scores=raw)
        self._leaves[key] = self.sheet.insert(model, x)
        return self._leaves[key]


def _numbered(estimator: Any) -> Any:
    """Return a copy of a classifier whose classes are 0, 1, ..."""
    classes = getattr(estimator, "classes_", None)
    if classes is None or isinstance(classes, list) or "classes_" not in vars(estimator):
        return estimator
    made = copy.copy(estimator)
    made.classes_ = np.arange(len(classes))
    return made

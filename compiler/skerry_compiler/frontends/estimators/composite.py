"""Estimators made of estimators: votes, stacks, chains, one against the rest, searches, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends.estimators import curves
from skerry_compiler.frontends.estimators.maker import DECISION, INDEX, PROBA, TRANSFORM, VALUES, Handler, Maker
from skerry_compiler.frontends.estimators.sheet import f32


def binary(maker: Maker, estimator: Any, x: str) -> str:
    """Return what scikit-learn compares with a threshold for an estimator of two classes, f32[n, 1]."""
    if not hasattr(estimator, "classes_"):
        return maker.make(estimator, x, VALUES)
    if hasattr(estimator, "decision_function"):
        return maker.make(estimator, x, DECISION)
    return maker.sheet.columns(maker.make(estimator, x, PROBA), [1])


def threshold(estimator: Any) -> float:
    """Return that threshold."""
    return 0.5 if hasattr(estimator, "classes_") and not hasattr(estimator, "decision_function") else 0.0


def own_classes(estimator: Any, classes: np.ndarray) -> np.ndarray:
    """Return the places of an inner estimator's classes among the outer one's."""
    return np.asarray(np.searchsorted(classes, estimator.classes_))


def _voting_classifier(maker: Maker, estimator: Any, x: str, want: str) -> str:
    if want == TRANSFORM:
        raise UnsupportedError("a VotingClassifier that feeds another estimator", hint="use StackingClassifier")
    sheet, classes = maker.sheet, len(estimator.classes_)
    given = estimator._weights_not_none
    weights = np.ones(len(estimator.estimators_)) if given is None else np.asarray(given, np.float64)
    weights = weights / weights.sum()
    parts = []
    for each, weight in zip(estimator.estimators_, weights, strict=True):
        part = (
            maker.make(each, x, PROBA)
            if estimator.voting == "soft"
            else sheet.one_hot(maker.make(each, x, INDEX), classes)
        )
        parts.append(sheet.add("Mul", part, f32([[weight]])))
    shares = parts[0] if len(parts) == 1 else sheet.add("Sum", *parts)
    return sheet.best(shares) if want == INDEX else shares


def _voting_regressor(maker: Maker, estimator: Any, x: str, want: str) -> str:
    given = estimator._weights_not_none
    weights = np.ones(len(estimator.estimators_)) if given is None else np.asarray(given, np.float64)
    parts = maker.sheet.beside([maker.make(each, x, VALUES) for each in estimator.estimators_])
    return maker.sheet.linear(parts, (weights / weights.sum())[:, None])


def _stacking(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Return the last estimator's answer to the others' answers; these themselves where they are wanted."""
    sheet, parts = maker.sheet, []
    for each, method in zip(estimator.estimators_, estimator.stack_method_, strict=True):
        if method == "predict" and hasattr(each, "classes_"):
            kinds = np.asarray(each.classes_, np.float64).reshape(1, -1)
            parts.append(sheet.linear(sheet.one_hot(maker.make(each, x, INDEX), kinds.size), kinds.T))
            continue
        part = maker.make(each, x, VALUES if method == "predict" else method)
        second = method == "predict_proba" and len(estimator.classes_) == 2
        parts.append(sheet.columns(part, [1]) if second else part)
    if estimator.passthrough:
        parts.append(x)
    answers = sheet.beside(parts)
    return answers if want == TRANSFORM else maker.make(estimator.final_estimator_, answers, want)


def _bagging(maker: Maker, estimator: Any, x: str, want: str) -> str:
    sheet, parts = maker.sheet, []
    everything = list(range(int(estimator.n_features_in_)))
    for each, places in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
        given = x if list(map(int, places)) == everything else sheet.columns(x, places)
        if want == VALUES:
            parts.append(maker.make(each, given, VALUES))
            continue
        classes = np.eye(len(estimator.classes_))[own_classes(each, np.arange(len(estimator.classes_)))]
        if hasattr(each, "predict_proba"):
            part = maker.make(each, given, PROBA)
        else:
            part = sheet.one_hot(maker.make(each, given, INDEX), len(each.classes_))
        parts.append(part if len(classes) == classes.shape[1] else sheet.linear(part, classes))
    mean = sheet.add("Mean", *parts) if len(parts) > 1 else parts[0]
    return sheet.best(mean) if want == INDEX else mean


def _one_vs_rest(maker: Maker, estimator: Any, x: str, want: str) -> str:
    sheet, each = maker.sheet, estimator.estimators_
    if estimator.multilabel_:
        raise UnsupportedError("one-vs-rest of several labels at once", hint="use MultiOutputClassifier")
    if want == PROBA:
        second = sheet.beside([sheet.columns(maker.make(one, x, PROBA), [1]) for one in each])
        if len(each) == 1:
            return sheet.two(second)
        total = sheet.total(second)
        zero = sheet.add("Equal", total, f32([[0.0]]))
        return sheet.add("Div", second, sheet.add("Where", zero, f32([[1.0]]), total))
    decision = sheet.beside([binary(maker, one, x) for one in each])
    if want == DECISION:
        return decision
    return sheet.above(decision, threshold(each[0])) if len(each) == 1 else sheet.best(decision)


def _one_vs_one(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Return votes of all pairs, and below them the sum of confidences squeezed to a third."""
    sheet, count = maker.sheet, len(estimator.classes_)
    if estimator.pairwise_indices_ is not None:
        raise UnsupportedError("one-vs-one of precomputed kernels")
    pairs = [(one, other) for one in range(count) for other in range(one + 1, count)]
    chosen = [sheet.floats(maker.sheet.add("Unsqueeze", maker.make(each, x, INDEX), np.array([1])))
              for each in estimator.estimators_]  # fmt: skip
    sure = sheet.beside([binary(maker, each, x) for each in estimator.estimators_])
    votes, signs = np.zeros((len(pairs), count)), np.zeros((len(pairs), count))
    base = np.zeros(count)
    for place, (one, other) in enumerate(pairs):
        votes[place, [one, other]] = signs[place, [one, other]] = -1, 1
        base[one] += 1
    sums = sheet.linear(sure, signs)
    squeezed = sheet.add("Div", sums, sheet.add("Mul", sheet.add("Add", sheet.add("Abs", sums), f32(1.0)), f32(3.0)))
    scores = sheet.add("Add", sheet.linear(sheet.beside(chosen), votes, base), squeezed)
    if count == 2:
        second = sheet.columns(scores, [1])
        return second if want == DECISION else sheet.above(second, threshold(estimator.estimators_[0]))
    return sheet.best(scores) if want == INDEX else scores


def _output_code(maker: Maker, estimator: Any, x: str, want: str) -> str:
    code = maker.sheet.beside([binary(maker, each, x) for each in estimator.estimators_])
    apart = maker.sheet.squared_distances(code, np.asarray(estimator.code_book_))
    if want != INDEX:
        raise UnsupportedError("probabilities of output codes")
    return maker.sheet.add("ArgMin", apart, axis=1, keepdims=0)


def _calibrated(maker: Maker, estimator: Any, x: str, want: str) -> str:
    parts = [_calibrated_one(maker, each, x) for each in estimator.calibrated_classifiers_]
    mean = parts[0] if len(parts) == 1 else maker.sheet.add("Mean", *parts)
    return maker.sheet.best(mean) if want == INDEX else mean


def _calibrated_one(maker: Maker, one: Any, x: str) -> str:
    """Return one calibrated classifier's probabilities: Platt's sigmoid, isotonic, or one temperature."""
    sheet, inner = maker.sheet, one.estimator
    classes = len(one.classes)
    by_decision = hasattr(inner, "decision_function")
    scores = maker.make(inner, x, DECISION if by_decision else PROBA)
    if not by_decision and classes == 2:
        scores = sheet.columns(scores, [1])
    if one.method == "temperature":
        if classes == 2 and by_decision:
            scores = sheet.linear(scores, [[-1.0, 1.0]])
        elif not by_decision:
            scores = sheet.two(scores) if classes == 2 else scores
            scores = sheet.add("Log", sheet.add("Add", scores, f32(np.finfo(np.float64).eps)))
        return sheet.add("Softmax", sheet.add("Mul", scores, f32([[float(one.calibrators[0].beta_)]])), axis=1)
    width = 1 if classes == 2 else len(inner.classes_)
    parts = []
    for place, each in enumerate(one.calibrators):
        column = scores if width == 1 else sheet.columns(scores, [place])
        if one.method == "sigmoid":
            parts.append(sheet.add("Sigmoid", sheet.linear(column, [[-float(each.a_)]], [-float(each.b_)])))
        else:
            parts.append(curves.interpolate(sheet, column, each.X_thresholds_, each.y_thresholds_))
    if classes == 2:
        return sheet.two(parts[0])
    made = sheet.beside(parts)
    if len(inner.classes_) != classes:
        made = sheet.linear(made, np.eye(classes)[own_classes(inner, np.asarray(one.classes))])
    total = sheet.total(made)
    zero = sheet.add("Equal", total, f32([[0.0]]))
    return sheet.add("Where", zero, f32([[1 / classes]]), sheet.add("Div", made, total))


def _chain(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Return each step's answer, in the targets' order; each step reads those before it, too."""
    sheet = maker.sheet
    classifies = hasattr(estimator.estimators_[0], "classes_")
    method = getattr(estimator, "chain_method_", "predict")
    answers: list[str] = []
    before: list[str] = []
    for each in estimator.estimators_:
        given = sheet.beside([x, *before])
        answers.append(_link(maker, each, given, "predict" if want == INDEX else want, classifies))
        before.append(answers[-1] if want == VALUES else _link(maker, each, given, method, classifies))
    places = np.argsort(np.asarray(estimator.order_))
    return sheet.beside([answers[place] for place in places])


def _link(maker: Maker, estimator: Any, x: str, method: str, classifies: bool) -> str:
    if not classifies:
        return maker.make(estimator, x, VALUES)
    if method == PROBA:
        return maker.sheet.columns(maker.make(estimator, x, PROBA), [1])
    if method == DECISION:
        return maker.make(estimator, x, DECISION)
    kinds = np.asarray(estimator.classes_, np.float64).reshape(-1, 1)
    return maker.sheet.linear(maker.sheet.one_hot(maker.make(estimator, x, INDEX), len(kinds)), kinds)


def _several_values(maker: Maker, estimator: Any, x: str, want: str) -> str:
    return maker.sheet.beside([maker.make(each, x, VALUES) for each in estimator.estimators_])


def _inner(name: str) -> Handler:
    """Return a handler that hands on to a fitted estimator kept under a name."""
    return lambda maker, estimator, x, want: maker.make(getattr(estimator, name), x, want)


def _pipeline(maker: Maker, estimator: Any, x: str, want: str) -> str:
    steps = [each for _, each in estimator.steps if each is not None and each != "passthrough"]
    for each in steps if want == TRANSFORM else steps[:-1]:
        x = maker.make(each, x, TRANSFORM)
    return x if want == TRANSFORM else maker.make(steps[-1], x, want)


def _union(maker: Maker, estimator: Any, x: str, want: str) -> str:
    weights = estimator.transformer_weights or {}
    parts = []
    for name, each in estimator.transformer_list:
        if isinstance(each, str) and each == "drop":
            continue
        part = x if isinstance(each, str) else maker.make(each, x, TRANSFORM)
        parts.append(maker.sheet.add("Mul", part, f32([[weights[name]]])) if name in weights else part)
    return maker.sheet.beside(parts)


def _column_transformer(maker: Maker, estimator: Any, x: str, want: str) -> str:
    weights = estimator.transformer_weights or {}
    parts = []
    for name, each, places in estimator.transformers_:
        if isinstance(each, str) and each == "drop":
            continue
        columns = np.arange(estimator.n_features_in_)[_places(places)].reshape(-1)
        if not len(columns):
            continue
        part = maker.sheet.columns(x, columns.tolist())
        part = part if isinstance(each, str) else maker.make(each, part, TRANSFORM)
        parts.append(maker.sheet.add("Mul", part, f32([[weights[name]]])) if name in weights else part)
    return maker.sheet.beside(parts)


def _places(places: Any) -> Any:
    if isinstance(places, str) or (isinstance(places, list) and any(isinstance(each, str) for each in places)):
        raise UnsupportedError("columns chosen by name", hint="fit the ColumnTransformer on plain arrays")
    return places


HANDLERS: dict[str, Handler] = {
    "VotingClassifier": _voting_classifier,
    "VotingRegressor": _voting_regressor,
    "StackingClassifier": _stacking,
    "StackingRegressor": _stacking,
    "BaggingClassifier": _bagging,
    "BaggingRegressor": _bagging,
    "OneVsRestClassifier": _one_vs_rest,
    "OneVsOneClassifier": _one_vs_one,
    "OutputCodeClassifier": _output_code,
    "CalibratedClassifierCV": _calibrated,
    "ClassifierChain": _chain,
    "RegressorChain": _chain,
    "MultiOutputRegressor": _several_values,
    "GridSearchCV": _inner("best_estimator_"),
    "RandomizedSearchCV": _inner("best_estimator_"),
    "HalvingGridSearchCV": _inner("best_estimator_"),
    "HalvingRandomSearchCV": _inner("best_estimator_"),
    "FrozenEstimator": _inner("estimator"),
    "RANSACRegressor": _inner("estimator_"),
    "Pipeline": _pipeline,
    "FeatureUnion": _union,
    "ColumnTransformer": _column_transformer,
}

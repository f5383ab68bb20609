"""AdaBoost and IsolationForest: sums of trees whose leaves hold a vote or a path length.

AdaBoost: Zhu et al., "Multi-class AdaBoost" (2009). IsolationForest: Liu et al. (2008).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends.ensemble import at_most
from skerry_compiler.frontends.estimators.maker import DECISION, INDEX, PROBA, VALUES, Handler, Maker
from skerry_compiler.frontends.estimators.sheet import Sheet, f32, i64

TREES = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")
# One tree: scikit-learn's, the input's columns behind its features, and (column, value) of each node that is a leaf.
Part = tuple[Any, np.ndarray, list[tuple[int, float]]]


def summed(sheet: Sheet, x: str, parts: list[Part], outputs: int) -> str:
    """Return for each row the sum over trees of the values at its leaves, f32[n, outputs]."""
    rows: dict[str, list[Any]] = {
        key: [] for key in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    missing: list[int] = []
    leaves: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for number, (tree, features, values) in enumerate(parts):
        leaf = tree.children_left < 0
        size = len(leaf)
        rows["treeids"] += [number] * size
        rows["nodeids"] += range(size)
        rows["featureids"] += np.where(leaf, 0, features[np.maximum(tree.feature, 0)]).tolist()
        rows["values"] += [0.0 if end else at_most(float(at)) for at, end in zip(tree.threshold, leaf, strict=True)]
        rows["modes"] += ["LEAF" if end else "BRANCH_LEQ" for end in leaf]
        rows["truenodeids"] += np.maximum(tree.children_left, 0).tolist()
        rows["falsenodeids"] += np.maximum(tree.children_right, 0).tolist()
        missing += [int(each and not end) for each, end in zip(tree.missing_go_to_left, leaf, strict=True)]
        for node in np.flatnonzero(leaf).tolist():
            leaves["treeids"].append(number)
            leaves["nodeids"].append(node)
            leaves["ids"].append(values[node][0])
            leaves["weights"].append(float(np.float32(values[node][1])))
    if any(missing):
        rows["missing_value_tracks_true"] = missing
    attributes = {f"nodes_{key}": each for key, each in rows.items()}
    attributes |= {f"target_{key}": each for key, each in leaves.items()}
    return sheet.add("TreeEnsembleRegressor", x, n_targets=outputs, **attributes)


def _votes(maker: Maker, estimator: Any, x: str) -> str:
    """Return the weighted votes of each class, as shares of all weight, f32[n, classes]."""
    sheet, classes = maker.sheet, len(estimator.classes_)
    weights = np.asarray(estimator.estimator_weights_, np.float64)[: len(estimator.estimators_)]
    weights = weights / weights.sum()
    if all(type(each).__name__ in TREES for each in estimator.estimators_):
        parts: list[Part] = []
        for each, weight in zip(estimator.estimators_, weights, strict=True):
            chosen = np.searchsorted(estimator.classes_, each.classes_[np.argmax(each.tree_.value[:, 0], axis=1)])
            parts.append((each.tree_, np.arange(estimator.n_features_in_), [(int(c), float(weight)) for c in chosen]))
        return summed(sheet, x, parts, classes)
    votes = []
    for each, weight in zip(estimator.estimators_, weights, strict=True):
        own = np.eye(classes)[np.searchsorted(estimator.classes_, each.classes_)] * weight
        votes.append(sheet.linear(sheet.one_hot(maker.make(each, x, INDEX), len(each.classes_)), own))
    return sheet.add("Sum", *votes)


def _ada_classifier(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Return decisions: (K v - 1) / (K - 1) for a share v of votes; of two classes the difference of both."""
    sheet, classes = maker.sheet, len(estimator.classes_)
    if classes < 2:
        raise UnsupportedError("a classifier of one class")
    votes = _votes(maker, estimator, x)
    if classes == 2:
        decision = sheet.linear(votes, [[-2.0], [2.0]])
        if want == DECISION:
            return decision
        if want == INDEX:
            return sheet.above(decision, 0.0)
        return sheet.add("Softmax", sheet.linear(decision, [[-0.5, 0.5]]), axis=1)
    decision = sheet.linear(votes, np.eye(classes) * (classes / (classes - 1)), np.full(classes, -1 / (classes - 1)))
    if want == PROBA:
        return sheet.add("Softmax", sheet.add("Div", decision, f32([[classes - 1]])), axis=1)
    return sheet.best(votes) if want == INDEX else decision


def _ada_regressor(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Return the weighted median: the least answer such that it and those below carry half of the weight."""
    sheet = maker.sheet
    weights = np.asarray(estimator.estimator_weights_, np.float64)[: len(estimator.estimators_)]
    if all(type(each).__name__ in TREES for each in estimator.estimators_):
        parts: list[Part] = [
            (each.tree_, np.arange(estimator.n_features_in_), [(place, float(v)) for v in each.tree_.value[:, 0, 0]])
            for place, each in enumerate(estimator.estimators_)
        ]
        answers = summed(sheet, x, parts, len(parts))
    else:
        answers = sheet.beside([maker.make(each, x, VALUES) for each in estimator.estimators_])
    count = len(weights)
    ordered, places = sheet.several("TopK", 2, answers, i64(count), axis=1, largest=0, sorted=1)
    sums = np.triu(np.ones((count, count)))
    carried = sheet.linear(sheet.add("Gather", f32(weights), places, axis=0), sums)
    half = 0.5 * weights.sum() * (1 - 1e-6)  # sums of float32: a half that is met must count as met
    enough = sheet.add("GreaterOrEqual", carried, f32([[half]]))
    return sheet.add("ReduceMin", sheet.add("Where", enough, ordered, f32([[math.inf]])), axes=[1], keepdims=1)


def _isolation(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Return how normal a row is: less than 0 for an outlier."""
    sheet = maker.sheet
    parts: list[Part] = []
    for number, each in enumerate(estimator.estimators_):
        length = estimator._decision_path_lengths[number] + estimator._average_path_length_per_tree[number] - 1.0
        features = np.asarray(estimator.estimators_features_[number], np.int64)
        parts.append((each.tree_, features, [(0, float(value)) for value in length]))
    samples = int(estimator._max_samples)
    whole = len(parts) * _average_path(samples)
    depth = summed(sheet, x, parts, 1)
    score = sheet.add("Exp", sheet.add("Mul", depth, f32([[-math.log(2) / whole]])))
    return sheet.add("Sub", f32([[-float(estimator.offset_)]]), score)


def _average_path(samples: int) -> float:
    """Return the mean path length of an unsuccessful search in a binary tree of that many samples."""
    if samples < 2:
        raise UnsupportedError("an IsolationForest of single samples")
    if samples == 2:
        return 1.0
    return 2.0 * (math.log(samples - 1.0) + float(np.euler_gamma)) - 2.0 * (samples - 1.0) / samples


HANDLERS: dict[str, Handler] = {
    "AdaBoostClassifier": _ada_classifier,
    "AdaBoostRegressor": _ada_regressor,
    "IsolationForest": _isolation,
}

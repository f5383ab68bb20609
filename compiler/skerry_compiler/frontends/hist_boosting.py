"""scikit-learn's HistGradientBoosting to ONNX by our own hand: skl2onnx's converter fails on current versions.

What a split does is in scikit-learn's `_hist_gradient_boosting/_predictor.pyx`: x <= threshold in float64; a missing
value goes where the node says, and so does a category that was not seen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import ModelProto

from skerry_compiler.errors import ModelError, UnsupportedError
from skerry_compiler.frontends.ensemble import MAX_CATEGORY, Columns, Ensemble, Tree, to_onnx

NAMES = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
_LINKS = {"IdentityLink": "identity", "LogLink": "exp"}


def convert(estimator: Any, name: str) -> ModelProto:
    """Return the fitted estimator as ONNX, f32[n, features] -> label and probabilities, or values.

    Raises:
        ModelError: damaged.
        UnsupportedError: categories or classes of a kind that rows of float32 cannot hold or ONNX cannot name.
    """
    categories = _categories(estimator)
    origin = _origin(estimator)
    columns = Columns(int(estimator.n_features_in_), "exact")
    trees = []
    for iteration in estimator._predictors:
        for target, predictor in enumerate(iteration):
            trees.append(_tree(predictor, columns, origin, categories, target))
    outputs = int(estimator.n_trees_per_iteration_)
    base = [float(each) for each in np.asarray(estimator._baseline_prediction).reshape(-1)]
    classes = _classes(estimator)
    if classes is None:
        link = _LINKS.get(type(estimator._loss.link).__name__)
        if link is None:
            raise UnsupportedError(f"the link of {type(estimator._loss).__name__}")
    else:
        link = "sigmoid" if outputs == 1 else "softmax"
    return to_onnx(Ensemble(columns, trees, outputs, base, link, classes), name)


def _classes(estimator: Any) -> tuple[int, ...] | tuple[str, ...] | None:
    if not hasattr(estimator, "classes_"):
        return None
    kinds = np.asarray(estimator.classes_)
    if kinds.dtype.kind in "iub":
        return tuple(int(each) for each in kinds)
    if kinds.dtype.kind in "UO" and all(isinstance(each, str) for each in kinds):
        return tuple(str(each) for each in kinds)
    raise UnsupportedError("classes that are neither whole numbers nor text")


def _origin(estimator: Any) -> list[int]:
    """Return the input's feature behind each feature of the trees: the estimator puts categories first."""
    count = int(estimator.n_features_in_)
    if estimator.is_categorical_ is None or getattr(estimator, "_preprocessor", None) is None:
        return list(range(count))
    flags = np.asarray(estimator.is_categorical_, bool)
    return [*np.flatnonzero(flags).tolist(), *np.flatnonzero(~flags).tolist()]


def _categories(estimator: Any) -> dict[int, dict[int, int]]:
    """Return for each categorical feature of the trees which number in the input is which code.

    Raises:
        UnsupportedError: categories that are no whole numbers from 0 on.
    """
    if estimator.is_categorical_ is None:
        return {}
    found: dict[int, dict[int, int]] = {}
    preprocessor = getattr(estimator, "_preprocessor", None)
    if preprocessor is None:
        for place in np.flatnonzero(estimator.is_categorical_).tolist():
            seen = np.asarray(estimator._bin_mapper.bin_thresholds_[place], float)
            found[place] = {int(each): int(each) for each in seen if not math.isnan(each)}
        return found
    for feature, kinds in enumerate(preprocessor.named_transformers_["encoder"].categories_):
        values = np.asarray(kinds)
        if values.dtype.kind not in "iufb":
            raise UnsupportedError("categories of text", hint="encode them as whole numbers before the model")
        known = [(float(each), code) for code, each in enumerate(values) if not math.isnan(float(each))]
        if any(each != int(each) or not 0 <= each < MAX_CATEGORY for each, _ in known):
            raise UnsupportedError(f"categories that are no whole numbers from 0 to {MAX_CATEGORY}")
        found[feature] = {int(each): code for each, code in known}
    return found


def _tree(
    predictor: Any, columns: Columns, origin: list[int], categories: dict[int, dict[int, int]], target: int
) -> Tree:
    """Return one tree, in the nodes' own order.

    Raises:
        ModelError: branches that meet again or lead nowhere.
    """
    nodes = predictor.nodes
    tree = Tree([], [], [], [], [], [], target)
    seen: set[int] = set()
    waiting = [(0, -1, False)]
    while waiting:
        at, parent, second = waiting.pop()
        if at in seen or not 0 <= at < len(nodes):
            raise ModelError("a tree whose branches meet again or lead nowhere")
        seen.add(at)
        node, place = nodes[at], len(tree.feature)
        if parent >= 0:
            (tree.no if second else tree.yes)[parent] = place
        leaf = bool(node["is_leaf"])
        feature = int(node["feature_idx"])
        if not leaf and not 0 <= feature < len(origin):
            raise ModelError(f"a split on feature {feature} of {len(origin)}")
        tree.feature.append(-1 if leaf else columns.feature(origin[feature]))
        tree.threshold.append(0.0 if leaf else float(node["num_threshold"]))
        tree.value.append(float(node["value"]) if leaf else 0.0)
        tree.missing_yes.append(bool(node["missing_go_to_left"]) and not leaf)
        tree.yes.append(0)
        tree.no.append(0)
        if leaf:
            continue
        if node["is_categorical"]:
            bits = np.asarray(predictor.raw_left_cat_bitsets[int(node["bitset_idx"])], np.uint32)
            known = categories[feature]
            slots = [math.nan] * (max(known, default=0) + 4)
            for value, code in known.items():
                slots[value + 1] = 0.0 if bits[code // 32] >> (code % 32) & 1 else 1.0
            columns.member(origin[feature], slots, tree, place)
            tree.threshold[place] = 0.5
        waiting += [(int(node["right"]), place, True), (int(node["left"]), place, False)]
    return tree

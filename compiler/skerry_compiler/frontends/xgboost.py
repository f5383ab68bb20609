"""The XGBoost front end: its models in JSON and in UBJSON (`Booster.save_model`) to ONNX.

Read here, without the library: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html, and
`src/common/categorical.h` for categories. A row goes left where x < threshold in float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from skerry_compiler.errors import ModelError, UnsupportedError
from skerry_compiler.frontends import ubjson
from skerry_compiler.frontends.ensemble import MAX_CATEGORY, MAX_OUTPUTS, Columns, Ensemble, Tree, to_onnx

MAX_FILE_BYTES = 1 << 30
# objective: link, and how base_score becomes a margin
_OBJECTIVES = {
    "reg:squarederror": ("identity", "identity"),
    "reg:squaredlogerror": ("identity", "identity"),
    "reg:linear": ("identity", "identity"),
    "reg:pseudohubererror": ("identity", "identity"),
    "reg:absoluteerror": ("identity", "identity"),
    "reg:quantileerror": ("identity", "identity"),
    "reg:expectileerror": ("identity", "identity"),
    "reg:logistic": ("sigmoid", "logit"),
    "binary:logistic": ("sigmoid", "logit"),
    "binary:logitraw": ("identity", "identity"),
    "binary:hinge": ("step", "identity"),
    "count:poisson": ("exp", "log"),
    "reg:gamma": ("exp", "log"),
    "reg:tweedie": ("exp", "log"),
    "survival:cox": ("exp", "log"),
    "survival:aft": ("exp", "log"),
    "multi:softprob": ("softmax", "identity"),
    "multi:softmax": ("softmax", "identity"),
    "rank:pairwise": ("identity", "identity"),
    "rank:ndcg": ("identity", "identity"),
    "rank:map": ("identity", "identity"),
}


def is_model(path: Path) -> bool:
    """Return whether a JSON file looks like one of XGBoost's: only its first bytes are read."""
    with path.open("rb") as file:
        return b'"learner"' in file.read(64)


def read(path: Path, name: str) -> ModelProto:
    """Return the model of a file as ONNX.

    Args:
        path: `.json` or `.ubj`.
        name: of the model's one input.

    Raises:
        ModelError: no such model, or damaged.
        UnsupportedError: a booster or objective that is not known.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ModelError(f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MB")
    content = path.read_bytes()
    try:
        plain = json.loads(content) if path.suffix == ".json" else ubjson.parse(content)
        found = from_plain(plain)
    except (KeyError, ValueError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        said = f"{type(error).__name__} {' '.join(str(error).split())[:120]}"
        raise ModelError(f"{path.name} is no XGBoost model, or damaged: {said}") from error
    return to_onnx(found, name)


def from_plain(plain: dict[str, Any]) -> Ensemble:
    """Return the ensemble of a saved model as plain data."""
    learner = plain["learner"]
    parameters, booster = learner["learner_model_param"], learner["gradient_booster"]
    objective, kind = learner["objective"]["name"], booster["name"]
    if kind not in ("gbtree", "dart"):
        raise UnsupportedError(f"XGBoost's booster {kind!r:.40} is no tree", hint="gbtree and dart are read")
    if objective not in _OBJECTIVES:
        raise UnsupportedError(f"XGBoost's objective {objective!r:.40} is not known here")
    model = (booster["gbtree"] if kind == "dart" else booster)["model"]
    outputs = max(1, int(parameters["num_class"]), int(parameters.get("num_target", 1)))
    if outputs > MAX_OUTPUTS:
        raise ModelError(f"{outputs} outputs", hint=f"at most {MAX_OUTPUTS}")
    columns = Columns(int(parameters["num_feature"]), "floor")
    drop = np.asarray(booster.get("weight_drop", np.ones(len(model["trees"]))), np.float32)
    trees = []
    for each, target, weight in zip(model["trees"], model["tree_info"], drop, strict=True):
        if not 0 <= int(target) < outputs:
            raise ModelError(f"a tree for output {int(target)} of {outputs}")
        trees.append(_tree(each, columns, int(target), weight))
    link, margin = _OBJECTIVES[objective]
    base = _base(parameters["base_score"], margin, outputs)
    classes: tuple[int, ...] | None = None
    if objective == "binary:logistic":
        classes = (0, 1)
    elif objective.startswith("multi:"):
        classes = tuple(range(outputs))
    return Ensemble(columns, trees, outputs, base, link, classes, strict=True)


def _base(score: Any, margin: str, outputs: int) -> list[float]:
    """Return the margin that every row starts from, one for each output."""
    given = json.loads(score) if isinstance(score, str) else score
    scores = [float(each) for each in (given if isinstance(given, Sequence) else [given])]
    if len(scores) not in (1, outputs) or not all(map(math.isfinite, scores)):
        raise ModelError(f"base_score {score!r:.60} for {outputs} outputs")
    try:
        if margin == "logit":
            scores = [-math.log(1.0 / each - 1.0) for each in scores]
        elif margin == "log":
            scores = [math.log(each) for each in scores]
    except (ValueError, ZeroDivisionError) as error:
        raise ModelError(f"base_score {score!r:.60} has no margin") from error
    return scores * outputs if len(scores) == 1 else scores


def _tree(plain: dict[str, Any], columns: Columns, target: int, weight: np.float32) -> Tree:
    """Return one tree, only the nodes that its root reaches.

    Raises:
        ModelError: branches that meet again or lead nowhere.
        UnsupportedError: leaves of several values.
    """
    if int(plain["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise UnsupportedError("XGBoost's trees with several outputs a leaf", hint="train with one_output_per_tree")
    left, right = (_whole(plain[key]) for key in ("left_children", "right_children"))
    features, defaults = _whole(plain["split_indices"]), _whole(plain["default_left"])
    conditions = np.asarray(plain["split_conditions"], np.float32)
    kinds = _whole(plain.get("split_type", [0] * len(left)))
    sets = _sets(plain)
    tree = Tree([], [], [], [], [], [], target)
    seen: set[int] = set()
    waiting = [(0, -1, False)]
    while waiting:
        node, parent, second = waiting.pop()
        if node in seen or not 0 <= node < len(left):
            raise ModelError("a tree whose branches meet again or lead nowhere")
        seen.add(node)
        place = len(tree.feature)
        if parent >= 0:
            (tree.no if second else tree.yes)[parent] = place
        leaf = left[node] == -1
        value = float(conditions[node] * weight) if leaf else 0.0
        if not math.isfinite(value):
            raise ModelError("a leaf whose value is no number")
        tree.feature.append(-1 if leaf else columns.feature(features[node]))
        tree.threshold.append(0.0 if leaf else float(conditions[node]))
        tree.value.append(value)
        tree.missing_yes.append(bool(defaults[node]) and not leaf)
        tree.yes.append(0)
        tree.no.append(0)
        if leaf:
            continue
        if kinds[node] == 1:
            chosen = sets[node]
            slots = [0.0] + [1.0 if each in chosen else 0.0 for each in range(max(chosen, default=0) + 1)]
            columns.member(features[node], [*slots, 0.0, math.nan], tree, place)
            tree.threshold[place] = 0.5
        waiting += [(right[node], place, True), (left[node], place, False)]
    return tree


def _sets(plain: dict[str, Any]) -> dict[int, set[int]]:
    """Return the categories that go right, by node."""
    categories = _whole(plain.get("categories", []))
    if categories and not 0 <= min(categories) <= max(categories) < MAX_CATEGORY:
        raise ModelError(f"category {max(categories)}", hint=f"at most {MAX_CATEGORY}")
    found = {}
    keys = ("categories_nodes", "categories_segments", "categories_sizes")
    for node, start, size in zip(*(_whole(plain.get(key, [])) for key in keys), strict=True):
        if not 0 <= start <= start + size <= len(categories):
            raise ModelError("a set of categories beyond the list's end")
        found[node] = set(categories[start : start + size])
    return found


def _whole(given: Any) -> list[int]:
    found: list[int] = np.asarray(given, np.int64).tolist()
    return found

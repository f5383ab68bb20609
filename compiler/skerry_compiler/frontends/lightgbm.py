"""The LightGBM front end: its text model (`Booster.save_model`) and its JSON dump (`Booster.dump_model`) to ONNX.

Read here, without the library: https://lightgbm.readthedocs.io, and `src/io/tree.cpp` for what a split does with
missing values and categories. A tree's values hold the learning rate already.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from onnx import ModelProto

from skerry_compiler.errors import ModelError, UnsupportedError
from skerry_compiler.frontends.ensemble import MAX_CATEGORY, MAX_OUTPUTS, ZERO, Columns, Ensemble, Tree, to_onnx

MAX_FILE_BYTES = 1 << 30
MAX_LEAVES = 1 << 22
_IDENTITY = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "")
_EXP = ("poisson", "gamma", "tweedie")
_DUMPED_INFINITY = 1e300  # JSON has no infinity
_MISSING = {"None": 0, "Zero": 1, "NaN": 2}


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """One split. `missing` is 0 where a missing value counts as 0, 1 where 0 is missing, 2 where NaN is."""

    feature: int
    threshold: float
    missing: int
    default_left: bool
    categories: frozenset[int] | None = None


def read(path: Path, name: str) -> ModelProto:
    """Return the model of a file as ONNX.

    Args:
        path: a text model or a JSON dump.
        name: of the model's one input.

    Raises:
        ModelError: no such model, or damaged.
        UnsupportedError: linear trees, or an objective that is not known.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ModelError(f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MB")
    text = path.read_bytes().decode("utf-8", "replace")
    try:
        found = from_dump(json.loads(text)) if text.lstrip()[:1] == "{" else from_text(text)
    except (KeyError, ValueError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path.name} is no LightGBM model, or damaged: {_said(error)}") from error
    return to_onnx(found, name)


def _said(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:120]}"


def from_text(text: str) -> Ensemble:
    """Return the ensemble of a text model."""
    head, *blocks = text.split("\nTree=")
    if not head.lstrip().startswith("tree"):
        raise ModelError("a LightGBM text model begins with the word tree")
    if not blocks or "end of trees" not in blocks[-1]:
        raise ModelError("the LightGBM model is cut short: its end of trees is missing")
    blocks[-1] = blocks[-1].split("end of trees")[0]
    fields = _fields(head)
    columns = Columns(int(fields["max_feature_idx"]) + 1, "truncate")
    trees = [_text_tree(_fields(block), columns) for block in blocks]
    average = "average_output" in head.split("\n")
    return _ensemble(columns, trees, int(fields["num_tree_per_iteration"]), fields.get("objective", ""), average)


def _fields(block: str) -> dict[str, str]:
    return {key: value for key, is_, value in (line.partition("=") for line in block.splitlines()) if is_}


def _text_tree(fields: dict[str, str], columns: Columns) -> Tree:
    """Return one tree of the text form; children below zero are leaves."""
    if fields.get("is_linear", "0").strip() not in ("", "0"):
        raise UnsupportedError("LightGBM's linear trees have no form in ONNX")
    leaves = int(fields["num_leaves"])
    values = [float(each) for each in fields["leaf_value"].split()]
    if not 0 < leaves <= MAX_LEAVES or len(values) != leaves:
        raise ModelError(f"a tree of {leaves} leaves with {len(values)} values")
    if leaves == 1:
        return _build(-1, {}, {}, {}, values, columns)
    features = [int(each) for each in fields["split_feature"].split()]
    kinds = [int(each) for each in fields["decision_type"].split()]
    thresholds = [float(each) for each in fields["threshold"].split()]
    bounds = [int(each) for each in fields.get("cat_boundaries", "").split()]
    words = [int(each) for each in fields.get("cat_threshold", "").split()]
    left, right = ([int(each) for each in fields[key].split()] for key in ("left_child", "right_child"))
    splits = {}
    for node, (feature, kind, threshold) in enumerate(zip(features, kinds, thresholds, strict=True)):
        categories = None
        if kind & 1:
            at = int(threshold)
            categories = _bits(words[bounds[at] : bounds[at + 1]])
        splits[node] = Split(feature, threshold, kind >> 2 & 3, bool(kind & 2), categories)
    return _build(0, splits, dict(enumerate(left)), dict(enumerate(right)), values, columns)


def _bits(words: list[int]) -> frozenset[int]:
    return frozenset(at * 32 + bit for at, word in enumerate(words) for bit in range(32) if word >> bit & 1)


def from_dump(dump: dict[str, Any]) -> Ensemble:
    """Return the ensemble of a JSON dump."""
    columns = Columns(int(dump["max_feature_idx"]) + 1, "truncate")
    trees = [_dumped_tree(each["tree_structure"], columns) for each in dump["tree_info"]]
    per = int(dump["num_tree_per_iteration"])
    return _ensemble(columns, trees, per, dump.get("objective", ""), bool(dump.get("average_output")))


def _dumped_tree(root: dict[str, Any], columns: Columns) -> Tree:
    """Return one tree of the JSON form, its nodes numbered as in the text form."""
    splits: dict[int, Split] = {}
    left: dict[int, int] = {}
    right: dict[int, int] = {}
    values: list[float] = []

    def place(node: dict[str, Any]) -> int:
        if "leaf_value" in node:
            values.append(float(node["leaf_value"]))
            return -len(values)
        if "leaf_coeff" in node:
            raise UnsupportedError("LightGBM's linear trees have no form in ONNX")
        number = len(splits)
        categories = None
        if node["decision_type"] == "==":
            categories = frozenset(int(each) for each in str(node["threshold"]).split("||"))
        threshold = 0.0 if categories is not None else float(node["threshold"])
        if abs(threshold) >= _DUMPED_INFINITY:
            threshold = math.copysign(math.inf, threshold)
        missing = _MISSING[node["missing_type"]]
        splits[number] = Split(int(node["split_feature"]), threshold, missing, bool(node["default_left"]), categories)
        waiting.append((number, node))
        return number

    waiting: list[tuple[int, dict[str, Any]]] = []
    first = place(root)
    while waiting:
        number, node = waiting.pop()
        left[number], right[number] = place(node["left_child"]), place(node["right_child"])
    return _build(first, splits, left, right, values, columns)


def _build(
    root: int,
    splits: dict[int, Split],
    left: dict[int, int],
    right: dict[int, int],
    values: list[float],
    columns: Columns,
) -> Tree:
    """Return the tree; node numbers below zero are leaves (-1 is the first).

    Raises:
        ModelError: branches that meet again, or values that are no numbers.
    """
    tree = Tree([], [], [], [], [], [])
    seen: set[int] = set()

    def add(number: int) -> int:
        if number in seen:
            raise ModelError("a tree whose branches meet again")
        seen.add(number)
        value = values[-1 - number] if number < 0 else 0.0
        if not math.isfinite(value):
            raise ModelError("a leaf whose value is no number")
        for each, item in ((tree.feature, -1), (tree.yes, 0), (tree.no, 0)):
            each.append(item)
        tree.threshold.append(0.0)
        tree.missing_yes.append(False)
        tree.value.append(value)
        if number >= 0:
            waiting.append((number, len(tree.feature) - 1))
        return len(tree.feature) - 1

    waiting: list[tuple[int, int]] = []
    add(root)
    while waiting:
        number, place = waiting.pop()
        _compare(splits[number], tree, place, columns)
        tree.yes[place], tree.no[place] = add(left[number]), add(right[number])
    return tree


def _compare(split: Split, tree: Tree, node: int, columns: Columns) -> None:
    """Write what a split compares: a set of categories, or x <= threshold with its rule for missing values."""
    if split.categories is not None:
        most = max(split.categories, default=0) + 1
        if not 0 < most <= MAX_CATEGORY or min(split.categories, default=0) < 0:
            raise ModelError(f"category {most - 1}", hint=f"at most {MAX_CATEGORY}")
        slots = [1.0] + [0.0 if each in split.categories else 1.0 for each in range(most)] + [1.0, 1.0]
        columns.member(split.feature, slots, tree, node)
        tree.feature[node], tree.threshold[node] = 0, 0.5
        return
    column = columns.feature(split.feature)
    left = split.threshold >= 0.0  # where a zero goes by itself
    if split.missing == 1 and (split.default_left != left or abs(split.threshold) < ZERO):
        column = columns.zero_missing(split.feature)
    tree.feature[node], tree.threshold[node] = column, split.threshold
    tree.missing_yes[node] = left if split.missing == 0 else split.default_left


def _ensemble(columns: Columns, trees: list[Tree], per: int, objective: str, average: bool) -> Ensemble:
    """Return the trees with their outputs and the objective's link.

    Args:
        columns: of the trees.
        trees: in the order of the file.
        per: trees of one iteration, which is the number of outputs.
        objective: its name and parameters.
        average: whether outputs are means over the iterations.

    Raises:
        UnsupportedError: an objective that is not known.
    """
    name, *words = objective.split() or [""]
    options = dict(word.partition(":")[::2] for word in words)
    if not 0 < per <= MAX_OUTPUTS or len(trees) % per:
        raise ModelError(f"{len(trees)} trees for {per} outputs")
    scale = float(options.get("sigmoid") or 1.0) if name in ("binary", "multiclassova") else 1.0
    scale /= len(trees) // per if average and trees else 1
    for number, tree in enumerate(trees):
        tree.target = number % per
        tree.value = [value * scale for value in tree.value]
    link = "identity"
    classes: tuple[int, ...] | None = None
    if name == "binary":
        link, classes = "sigmoid", (0, 1)
    elif name in ("multiclass", "multiclassova"):
        link, classes = "softmax" if name == "multiclass" else "sigmoid", tuple(range(per))
    elif name == "regression" and "sqrt" in words:
        link = "square"
    elif name in _EXP:
        link = "exp"
    elif name in ("cross_entropy", "xentropy"):
        link = "sigmoid"
    elif name in ("cross_entropy_lambda", "xentlambda"):
        link = "log1p_exp"
    elif name not in _IDENTITY:
        raise UnsupportedError(f"LightGBM's objective {name!r:.40} is not known here")
    return Ensemble(columns, trees, per, [0.0] * per, link, classes)

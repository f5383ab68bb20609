"""Boosted trees of any library in one form, and that form as ONNX (ai.onnx.ml 3).

What ONNX's trees cannot say becomes a column made ahead of them: membership of a category in a set (a table looked up
by the category), and zero counted as missing. Thresholds and leaves are rounded so that float32 rows take the same
branches as in the library; sums differ by rounding only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from skerry_compiler.errors import ModelError

MAX_NODES = 20_000_000
MAX_FEATURES = 1 << 20
MAX_OUTPUTS = 4096
MAX_CATEGORY = 1 << 20
ZERO = 1e-35  # LightGBM's kZeroThreshold
OPSET, ML_OPSET, IR_VERSION = 17, 3, 8


@dataclasses.dataclass(slots=True)
class Tree:
    """One tree: `feature` -1 marks a leaf, whose value goes to column `target` of the ensemble's outputs."""

    feature: list[int]
    threshold: list[float]
    yes: list[int]
    no: list[int]
    missing_yes: list[bool]
    value: list[float]
    target: int = 0


class Columns:
    """The model's features, and the columns that are made of them."""

    def __init__(self, features: int, rounding: str) -> None:
        """Args: features: how many; rounding: how a category is read from a float: "truncate", "floor", or "exact",
        where anything but a whole number counts as missing.
        """
        if not 0 < features <= MAX_FEATURES:
            raise ModelError(f"a model of {features} features", hint=f"at most {MAX_FEATURES}")
        self.features, self.rounding = features, rounding
        self.zeros = False
        self.sets: dict[int, dict[tuple[float, ...], int]] = {}
        self._members: list[tuple[int, tuple[float, ...], Tree, int]] = []

    def feature(self, index: int) -> int:
        """Return a feature's column.

        Raises:
            ModelError: there is no such feature.
        """
        if not 0 <= index < self.features:
            raise ModelError(f"a split on feature {index} of {self.features}")
        return index

    def zero_missing(self, index: int) -> int:
        """Return the column of a feature whose zeros count as missing."""
        self.zeros = True
        return self.features + self.feature(index)

    def member(self, index: int, slots: Sequence[float], tree: Tree, node: int) -> None:
        """Make a node test a column with `slots[category + 1]`; the last two are of greater ones and of no category."""
        self.feature(index)
        known = self.sets.setdefault(index, {})
        known.setdefault(tuple(slots), len(known))
        self._members.append((index, tuple(slots), tree, node))

    def settle(self) -> list[tuple[int, np.ndarray]]:
        """Number the columns of sets, write the numbers into the nodes, and return each feature's table, f32[slots,
        sets].
        """
        first, at = {}, self.features * (2 if self.zeros else 1)
        tables = []
        for index, known in sorted(self.sets.items()):
            first[index] = at
            at += len(known)
            most = max(len(slots) for slots in known)
            table = np.zeros((most, len(known)), np.float32)
            for slots, place in known.items():
                table[: len(slots) - 2, place] = slots[:-2]
                table[len(slots) - 2 : most - 1, place] = slots[-2]
                table[most - 1, place] = slots[-1]
            tables.append((index, table))
        for index, key, tree, node in self._members:
            tree.feature[node] = first[index] + self.sets[index][key]
        return tables


@dataclasses.dataclass(slots=True)
class Ensemble:
    """Trees, and what is made of their sums. `link`: identity, sigmoid, softmax, exp, square (signed), log1p_exp, step
    (1 above 0). `classes` where the answer is a class: a single output is then the second of two. `strict` compares
    x < t instead of x <= t.
    """

    columns: Columns
    trees: list[Tree]
    outputs: int
    base: list[float]
    link: str
    classes: tuple[int, ...] | tuple[str, ...] | None = None
    strict: bool = False


def to_onnx(ensemble: Ensemble, name: str) -> ModelProto:
    """Return the ensemble as ONNX: f32[n, features] -> label and probabilities, or values.

    Args:
        ensemble: read and checked.
        name: of the one input.

    Raises:
        ModelError: no trees, or more than anybody has.
    """
    count = sum(len(tree.feature) for tree in ensemble.trees)
    if not ensemble.trees or count > MAX_NODES or not 0 < ensemble.outputs <= MAX_OUTPUTS:
        raise ModelError(f"{len(ensemble.trees)} trees of {count} nodes for {ensemble.outputs} outputs")
    nodes, stored, source = _columns(ensemble.columns, name)
    if ensemble.classes is None:
        nodes += _regressor(ensemble, source)
        outputs = [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, ensemble.outputs])]
    else:
        nodes.append(_classifier(ensemble, source))
        kind = TensorProto.INT64 if isinstance(ensemble.classes[0], int) else TensorProto.STRING
        outputs = [
            helper.make_tensor_value_info("label", kind, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, len(ensemble.classes)]),
        ]
    features = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, ensemble.columns.features])
    graph = helper.make_graph(nodes, "trees", [features], outputs, stored)
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)


def _columns(columns: Columns, name: str) -> tuple[list[NodeProto], list[TensorProto], str]:
    """Return what makes the columns that are no features, its constants, and the name of all columns together."""
    nodes: list[NodeProto] = []
    stored: dict[str, np.ndarray] = {}
    parts = [name]
    if columns.zeros:
        stored |= {"zero": np.array([ZERO], np.float32), "nothing": np.array([np.nan], np.float32)}
        nodes += [
            helper.make_node("Abs", [name], ["size"]),
            helper.make_node("LessOrEqual", ["size", "zero"], ["is_zero"]),
            helper.make_node("Where", ["is_zero", "nothing", name], ["zero_missing"]),
        ]
        parts.append("zero_missing")
    for index, table in columns.settle():
        most = len(table) - 3
        part = f"members_{index}"
        stored |= {
            f"{part}_at": np.array([index], np.int64),
            f"{part}_least": np.array(-1, np.float32),
            f"{part}_most": np.array(most, np.float32),
            f"{part}_none": np.array([most + 1], np.float32),
            f"{part}_table": table,
        }
        stored |= {"one": np.array([1], np.int64), "flat": np.array([-1], np.int64)}
        x, whole, clipped = f"{part}_x", f"{part}_whole", f"{part}_clipped"
        nodes += [
            helper.make_node("Gather", [name, f"{part}_at"], [x], axis=1),
            helper.make_node("Floor", [x], [whole]),
            helper.make_node("Equal", [x, whole if columns.rounding == "exact" else x], [f"{part}_is"]),
            helper.make_node(
                "Clip",
                [x if columns.rounding == "truncate" else whole, f"{part}_least", f"{part}_most"],
                [clipped],
            ),
            helper.make_node("Where", [f"{part}_is", clipped, f"{part}_none"], [f"{part}_slot"]),
            helper.make_node("Cast", [f"{part}_slot"], [f"{part}_int"], to=TensorProto.INT64),
            helper.make_node("Add", [f"{part}_int", "one"], [f"{part}_row"]),
            helper.make_node("Reshape", [f"{part}_row", "flat"], [f"{part}_flat"]),
            helper.make_node("Gather", [f"{part}_table", f"{part}_flat"], [part], axis=0),
        ]
        parts.append(part)
    if len(parts) > 1:
        nodes.append(helper.make_node("Concat", parts, ["columns"], axis=1))
    constants = [numpy_helper.from_array(np.asarray(content), key) for key, content in stored.items()]
    return [node for node in nodes if _used(node, nodes)], constants, parts[0] if len(parts) == 1 else "columns"


def _used(node: NodeProto, nodes: list[NodeProto]) -> bool:
    return node.op_type != "Floor" or any(node.output[0] in other.input for other in nodes)


def _attributes(ensemble: Ensemble, prefix: str) -> dict[str, Any]:
    """Return the node lists of a TreeEnsemble operator."""
    rows: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "featureids", "values", "modes")}
    rows |= {key: [] for key in ("truenodeids", "falsenodeids", "missing_value_tracks_true")}
    leaves: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    mode = "BRANCH_LT" if ensemble.strict else "BRANCH_LEQ"
    for number, tree in enumerate(ensemble.trees):
        size = len(tree.feature)
        leaf = [each < 0 for each in tree.feature]
        rows["treeids"] += [number] * size
        rows["nodeids"] += range(size)
        rows["featureids"] += [max(0, each) for each in tree.feature]
        rows["values"] += [0.0 if end else at_most(each) for each, end in zip(tree.threshold, leaf, strict=True)]
        rows["modes"] += ["LEAF" if end else mode for end in leaf]
        rows["truenodeids"] += tree.yes
        rows["falsenodeids"] += tree.no
        rows["missing_value_tracks_true"] += [int(each) for each in tree.missing_yes]
        ends = [node for node in range(size) if leaf[node]]
        leaves["treeids"] += [number] * len(ends)
        leaves["nodeids"] += ends
        leaves["ids"] += [tree.target] * len(ends)
        leaves["weights"] += [float(np.float32(tree.value[node])) for node in ends]
    if not any(rows["missing_value_tracks_true"]):
        del rows["missing_value_tracks_true"]
    found: dict[str, Any] = {f"nodes_{key}": each for key, each in rows.items()}
    return found | {f"{prefix}_{key}": each for key, each in leaves.items()}


def at_most(threshold: float) -> float:
    """Return the greatest float32 that is at most a float64: float32 rows compare with it as with the float64."""
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    if math.isnan(threshold):
        raise ModelError("a threshold that is no number")
    if float(near) > threshold:
        near = np.nextafter(near, np.float32(-np.inf))
    return float(near)


def _regressor(ensemble: Ensemble, source: str) -> list[NodeProto]:
    attributes = _attributes(ensemble, "target")
    raw = "variable" if ensemble.link == "identity" else "raw"
    attributes |= _base(ensemble)
    trees = helper.make_node(
        "TreeEnsembleRegressor", [source], [raw], domain="ai.onnx.ml", n_targets=ensemble.outputs, **attributes
    )
    made = helper.make_node
    after = {
        "identity": [],
        "exp": [made("Exp", ["raw"], ["variable"])],
        "sigmoid": [made("Sigmoid", ["raw"], ["variable"])],
        "square": [made("Abs", ["raw"], ["size_of_raw"]), made("Mul", ["raw", "size_of_raw"], ["variable"])],
        "log1p_exp": [made("Softplus", ["raw"], ["variable"])],
        "step": [made("Sign", ["raw"], ["sign"]), made("Relu", ["sign"], ["variable"])],
        "softmax": [made("Softmax", ["raw"], ["variable"], axis=1)],
    }
    return [trees, *after[ensemble.link]]


def _classifier(ensemble: Ensemble, source: str) -> NodeProto:
    assert ensemble.classes is not None
    if ensemble.outputs == 1:
        _some_negative(ensemble)
    kind = "classlabels_int64s" if isinstance(ensemble.classes[0], int) else "classlabels_strings"
    attributes = _attributes(ensemble, "class") | _base(ensemble) | {kind: list(ensemble.classes)}
    return helper.make_node(
        "TreeEnsembleClassifier",
        [source],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        post_transform={"sigmoid": "LOGISTIC", "softmax": "SOFTMAX", "identity": "NONE"}[ensemble.link],
        **attributes,
    )


def _base(ensemble: Ensemble) -> dict[str, Any]:
    return {"base_values": [float(np.float32(each)) for each in ensemble.base]} if any(ensemble.base) else {}


def _some_negative(ensemble: Ensemble) -> None:
    """Give one leaf a negative value: of two classes ONNX Runtime takes values that are all positive for
    probabilities.
    """
    if any(value < 0 for tree in ensemble.trees for value, f in zip(tree.value, tree.feature, strict=True) if f < 0):
        return
    tree = ensemble.trees[0]
    most = max(value for value, feature in zip(tree.value, tree.feature, strict=True) if feature < 0)
    shift = 2.0 ** math.ceil(math.log2(most + 1e-3) + 1)
    tree.value = [value - shift for value in tree.value]
    ensemble.base = [each + shift for each in ensemble.base]

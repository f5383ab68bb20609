"""ONNX's flat lists of tree nodes to trees, with every comparison brought to one form: x <= threshold.

`x < t` is `x <= the float just below t`; `>` and `>=` swap the branches. A value that is no number compares false, so
it follows the branch that ONNX gives it, unless the node says that missing values go the other way.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from skerry_compiler import graph as graphs
from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.lowering import CannotError

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE")


@dataclasses.dataclass(frozen=True, slots=True)
class ReadForest:
    """Trees without an input and output yet."""

    trees: tuple[ir.Tree, ...]
    values: np.ndarray
    base: np.ndarray
    target: tuple[int, ...] | None
    divide_by: float

    def op(self, x: ir.Value, output: ir.Value) -> ir.Forest:
        """Return the forest as an operation.

        Raises:
            CannotError: a tree asks for a feature that the input does not have.
        """
        if max((int(tree.feature.max()) for tree in self.trees), default=0) >= x.width:
            raise CannotError("a split on a feature that the input does not have")
        return ir.Forest((x,), output, self.trees, self.values, self.base, self.target, self.divide_by)


def read_forest(attributes: dict[str, Any], prefix: str, columns: int) -> ReadForest:
    """Return the trees of a TreeEnsemble node.

    Args:
        attributes: of the node.
        prefix: "class" or "target": how the leaves' attributes are called.
        columns: how many numbers the ensemble gives.

    Raises:
        CannotError: a form of ensemble that the engine does not have.
    """
    aggregate = graphs.text(attributes.get("aggregate_function", b"SUM"))
    if aggregate not in ("SUM", "AVERAGE"):
        raise CannotError(f"aggregate_function {aggregate}")
    if "nodes_values_as_tensor" in attributes or f"{prefix}_weights_as_tensor" in attributes:
        raise CannotError("double precision")
    nodes = _Nodes(attributes)
    leaves = _leaves(attributes, prefix, nodes, columns)
    target = _single_targets(attributes, prefix, nodes)
    if target is not None and columns > 1:
        values, row_of = _unique(leaves.sum(axis=1, keepdims=True))
    else:
        values, row_of = _unique(leaves)
        target = None
    trees = tuple(nodes.tree(start, end, row_of) for start, end in nodes.spans)
    base = np.zeros(columns, np.float32)
    given = np.asarray(attributes.get("base_values") or [0.0], np.float32)
    if given.size not in (1, columns):
        raise CannotError("base values that do not fit")
    base[:] = given
    return ReadForest(trees, values, base, target, float(len(trees)) if aggregate == "AVERAGE" else 1.0)


class _Nodes:
    """The node lists, sorted out by tree."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        tree_ids = np.asarray(attributes["nodes_treeids"], np.int64)
        self.ids = np.asarray(attributes["nodes_nodeids"], np.int64)
        cuts = [0, *(np.nonzero(np.diff(tree_ids))[0] + 1).tolist(), len(tree_ids)]
        self.spans = list(itertools.pairwise(cuts))
        self.names = [int(tree_ids[start]) for start, _ in self.spans]
        if len(set(self.names)) != len(self.names):
            raise CannotError("nodes of one tree in two places")
        self.place = {
            (name, int(self.ids[node])): node
            for name, (start, end) in zip(self.names, self.spans, strict=True)
            for node in range(start, end)
        }
        self.modes = [graphs.text(each) for each in attributes["nodes_modes"]]
        foreign = sorted(set(self.modes) - {*MODES, "LEAF"})
        if foreign:
            raise CannotError(f"splits of kind {', '.join(foreign)}")
        self.features = np.asarray(attributes["nodes_featureids"], np.int64)
        self.thresholds = np.asarray(attributes["nodes_values"], np.float32)
        self.yes = np.asarray(attributes["nodes_truenodeids"], np.int64)
        self.no = np.asarray(attributes["nodes_falsenodeids"], np.int64)
        missing = attributes.get("nodes_missing_value_tracks_true") or []
        self.missing = np.asarray(missing if len(missing) else np.zeros(len(self.ids)), np.int64)

    def tree(self, start: int, end: int, row_of: np.ndarray) -> ir.Tree:
        """Return one tree, its splits brought to x <= threshold."""
        local = {int(each): index for index, each in enumerate(self.ids[start:end])}
        size = end - start
        tree = ir.Tree(
            feature=np.full(size, -1, np.int64),
            threshold=np.zeros(size, np.float32),
            yes=np.zeros(size, np.int64),
            no=np.zeros(size, np.int64),
            missing=np.zeros(size, np.int64),
            row=row_of[start:end].copy(),
        )
        for index in range(size):
            node = start + index
            mode = self.modes[node]
            if mode == "LEAF":
                continue
            try:
                yes, no = local[int(self.yes[node])], local[int(self.no[node])]
            except KeyError as error:
                raise CannotError(f"a branch to node {error} that the tree does not have") from error
            threshold, missing = self.thresholds[node], int(self.missing[node])
            if mode in ("BRANCH_LT", "BRANCH_GTE"):
                threshold = np.nextafter(threshold, np.float32(-np.inf))
            if mode in ("BRANCH_GT", "BRANCH_GTE"):
                yes, no, missing = no, yes, 1 - missing
            tree.feature[index], tree.threshold[index] = self.features[node], threshold
            tree.yes[index], tree.no[index], tree.missing[index] = yes, no, missing
        _refuse_cycles(tree)
        return tree


def _refuse_cycles(tree: ir.Tree) -> None:
    """A node reached twice would make the generated code run for ever; one never reached means another root."""
    seen, waiting = set(), [0]
    while waiting:
        node = waiting.pop()
        if node in seen:
            raise CannotError("a tree whose branches meet again")
        seen.add(node)
        if tree.feature[node] >= 0:
            waiting += [int(tree.yes[node]), int(tree.no[node])]
    if len(seen) != len(tree.feature):
        raise CannotError("a tree whose first node is not its root")


def _leaves(attributes: dict[str, Any], prefix: str, nodes: _Nodes, columns: int) -> np.ndarray:
    """Return every node's values, f32[nodes, columns]; splits have zeros."""
    leaves = np.zeros((len(nodes.ids), columns), np.float32)
    keys = ("treeids", "nodeids", "ids", "weights")
    for tree, node, column, weight in zip(*(attributes[f"{prefix}_{key}"] for key in keys), strict=True):
        if (tree, node) not in nodes.place or not 0 <= column < columns:
            raise CannotError("a weight for a leaf or column that is not there")
        leaves[nodes.place[tree, node], column] += np.float32(weight)
    return leaves


def _single_targets(attributes: dict[str, Any], prefix: str, nodes: _Nodes) -> tuple[int, ...] | None:
    """Return the one column of each tree, where every tree feeds only one."""
    found: dict[int, set[int]] = {name: set() for name in nodes.names}
    for tree, column in zip(attributes[f"{prefix}_treeids"], attributes[f"{prefix}_ids"], strict=True):
        found.setdefault(tree, set()).add(column)
    if any(len(each) != 1 for each in found.values()):
        return None
    return tuple(next(iter(found[name])) for name in nodes.names)


def _unique(leaves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows and each node's row among them."""
    values, row_of = np.unique(leaves, axis=0, return_inverse=True)
    return values.astype(np.float32), row_of.reshape(-1).astype(np.int64)

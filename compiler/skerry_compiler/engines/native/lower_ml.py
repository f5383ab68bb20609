"""Lowering of the ai.onnx.ml operators: scalers, linear models, tree ensembles, and tables of labels.

Where the standard is silent, ONNX Runtime's behaviour counts, because users' models were checked with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto

from skerry_compiler import graph as graphs
from skerry_compiler.engines.native import ir, lower_select
from skerry_compiler.engines.native.forest import read_forest
from skerry_compiler.engines.native.lowering import CannotError, Lower, Lowering
from skerry_contracts.tensor import DType


def _scaler(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = _rows(state, node)
    shift, scale = (
        np.broadcast_to(np.asarray(attributes.get(key, [default]), np.float64), (x.width,))
        for key, default in (("offset", 0.0), ("scale", 1.0))
    )
    state.add(ir.Affine((x,), state.out(node, DType.FP32, x.shape), shift, scale))


def _rows(state: Lowering, node: NodeProto) -> ir.Value:
    """Return the node's input as float32 rows."""
    x = state.value(node.input[0])
    if len(x.shape) not in (1, 2):
        raise CannotError("only rows of features")
    if x.dtype is not DType.FP32:
        x = state.add(ir.Map((x,), state.fresh(node.output[0], DType.FP32, x.shape), "cast"))
    return x


def _normalizer(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = _rows(state, node)
    kind = graphs.text(attributes.get("norm", b"MAX")).lower()
    if kind not in ("l1", "l2", "max"):
        raise CannotError(f"norm {kind}")
    state.add(ir.Normalise((x,), state.out(node, DType.FP32, x.shape), kind))


def _linear(state: Lowering, node: NodeProto, attributes: dict[str, Any], output: ir.Value | None) -> ir.Value:
    """Add x times the coefficients plus the intercepts and return it."""
    x = _rows(state, node)
    coefficients = np.asarray(attributes["coefficients"], np.float32)
    if coefficients.size % x.width:
        raise CannotError("coefficients that do not fit the input")
    weight = coefficients.reshape(-1, x.width).T
    bias = np.asarray(attributes.get("intercepts") or np.zeros(weight.shape[1]), np.float32)
    made = output or state.fresh(node.output[0], DType.FP32, (*x.shape[:-1], weight.shape[1]))
    return state.add(ir.Dense((x,), made, np.ascontiguousarray(weight), bias))


def _linear_regressor(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    if graphs.text(attributes.get("post_transform", b"NONE")) != "NONE":
        raise CannotError("post_transform")
    x = _rows(state, node)
    _linear(state, node, attributes, state.out(node, DType.FP32, (x.rows, attributes.get("targets", 1))))


def _linear_classifier(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    labels = attributes.get("classlabels_ints") or []
    scores = _linear(state, node, attributes, None)
    if len(labels) != scores.width or scores.width < 2:
        raise CannotError("one row of coefficients for two classes")
    _classes(state, node, attributes, scores, list(labels))


def _classes(state: Lowering, node: NodeProto, attributes: dict[str, Any], scores: ir.Value, labels: list[int]) -> None:
    """Add the label of the best score, and the scores after their transform."""
    best = state.add(ir.ArgMax((scores,), state.fresh(node.output[0], DType.INT64, (scores.rows,))))
    _label(state, node, best, labels)
    transform = graphs.text(attributes.get("post_transform", b"NONE"))
    output = state.out(node, DType.FP32, (scores.rows, scores.width), 1)
    if transform == "NONE":
        state.add(ir.View((scores,), output))
    elif transform == "SOFTMAX":
        state.add(ir.Softmax((scores,), output))
    elif transform == "LOGISTIC":
        state.add(ir.Map((scores,), output, "sigmoid"))
    else:
        raise CannotError(f"post_transform {transform}")


def _label(state: Lowering, node: NodeProto, index: ir.Value, labels: list[int]) -> None:
    output = state.out(node, DType.INT64, index.shape)
    if labels == list(range(len(labels))):
        state.add(ir.View((index,), output))
    else:
        state.add(ir.Lookup((index,), output, np.asarray(labels, np.int64)))


def _tree_classifier(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = _rows(state, node)
    labels = list(attributes.get("classlabels_int64s") or [])
    if len(labels) < 2:
        raise CannotError("no numbered class labels")
    used = set(attributes["class_ids"])
    if len(labels) == 2 and len(used) == 1:
        _two_class_trees(state, node, attributes, x, labels)
        return
    forest = read_forest(attributes, "class", len(labels))
    raw = state.add(forest.op(x, state.fresh(node.output[0], DType.FP32, (x.rows, len(labels)))))
    _classes(state, node, attributes, raw, labels)


def _two_class_trees(
    state: Lowering, node: NodeProto, attributes: dict[str, Any], x: ir.Value, labels: list[int]
) -> None:
    """Two classes with one weight a leaf: ONNX Runtime derives the other class's score from the one."""
    weights = attributes["class_weights"]
    base = list(attributes.get("base_values") or [])
    if len(base) > 1:
        raise CannotError("base values for both of two classes")
    plain = {**attributes, "class_ids": [0] * len(attributes["class_ids"])}
    forest = read_forest(plain, "class", 1)
    raw = state.add(forest.op(x, state.fresh(node.output[0], DType.FP32, (x.rows, 1))))
    positive = min(weights) >= 0
    best = state.fresh(node.output[0], DType.INT64, (x.rows,))
    _label(state, node, state.add(ir.Above((raw,), best, 0.5 if positive else 0.0)), labels)
    transform = graphs.text(attributes.get("post_transform", b"NONE"))
    kinds = {("NONE", True): "complement", ("NONE", False): "negated", ("LOGISTIC", False): "logistic"}
    if (transform, positive) not in kinds:
        raise CannotError(f"post_transform {transform} on two classes")
    state.add(ir.TwoClasses((raw,), state.out(node, DType.FP32, (x.rows, 2), 1), kinds[transform, positive]))


def _tree_regressor(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    x = _rows(state, node)
    if graphs.text(attributes.get("post_transform", b"NONE")) != "NONE":
        raise CannotError("post_transform")
    targets = attributes.get("n_targets", 1)
    forest = read_forest(attributes, "target", targets)
    state.add(forest.op(x, state.out(node, DType.FP32, (x.rows, targets))))


def _feature_extractor(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    """A constant table read by a computed index: how skl2onnx turns an index into a label."""
    if node.input[0] not in state.constants:
        lower_select.extract(state, node)
        return
    table = state.constant(node.input[0])
    index = state.value(node.input[1])
    if table.dtype not in (np.int64, np.int32, np.float32) or table.size != table.shape[-1]:
        raise CannotError("only a table of one row")
    kind = {np.dtype(np.int64): DType.INT64, np.dtype(np.int32): DType.INT32, np.dtype(np.float32): DType.FP32}
    output = state.out(node, kind[table.dtype], (1, index.elements))
    state.add(ir.Lookup((index,), output, table.reshape(-1)))


OPERATORS: dict[str, Lower] = {
    "Scaler": _scaler,
    "Normalizer": _normalizer,
    "LinearRegressor": _linear_regressor,
    "LinearClassifier": _linear_classifier,
    "TreeEnsembleClassifier": _tree_classifier,
    "TreeEnsembleRegressor": _tree_regressor,
    "ArrayFeatureExtractor": _feature_extractor,
}

"""Lowering of support vector machines: a kernel of all vectors, then one dense layer for all pairs of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto

from skerry_compiler import graph as graphs
from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.lowering import CannotError, Lower, Lowering
from skerry_contracts.tensor import DType

_KINDS = {"LINEAR": "linear", "POLY": "poly", "RBF": "rbf", "SIGMOID": "sigmoid"}
MAX_DEGREE = 16
MAX_COUPLED = 128  # classes: two tables of all pairs lie on the stack


def _kernel(state: Lowering, node: NodeProto, attributes: dict[str, Any], count: int) -> ir.Value:
    """Add the kernel of `count` support vectors and return its values, f32[rows, count]."""
    x = state.value(node.input[0])
    support = np.asarray(attributes.get("support_vectors") or [], np.float32)
    if x.dtype is not DType.FP32 or len(x.shape) != 2 or not count or support.size != count * x.width:
        raise CannotError("support vectors that do not fit the rows")
    kind = _KINDS.get(graphs.text(attributes.get("kernel_type", b"LINEAR")))
    gamma, coef, degree = (*(attributes.get("kernel_params") or []), 0.0, 0.0, 3.0)[:3]
    if kind is None or (kind == "poly" and (degree != int(degree) or not 0 <= degree <= MAX_DEGREE)):
        raise CannotError("this kernel")
    output = state.fresh(node.output[0], DType.FP32, (x.rows, count))
    vectors = support.reshape(count, x.width)
    return state.add(ir.Kernel((x,), output, vectors, kind, float(gamma), float(coef), int(degree)))


def _regressor(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    if graphs.text(attributes.get("post_transform", b"NONE")) != "NONE" or attributes.get("one_class"):
        raise CannotError("one_class or post_transform")
    values = _kernel(state, node, attributes, int(attributes.get("n_supports", 0)))
    weight = np.asarray(attributes["coefficients"], np.float32).reshape(values.width, 1)
    bias = np.asarray(attributes.get("rho") or [0.0], np.float32)[:1]
    state.add(ir.Dense((values,), state.out(node, DType.FP32, (values.rows, 1)), weight, bias))


def _classifier(state: Lowering, node: NodeProto, attributes: dict[str, Any]) -> None:
    labels, sizes = attributes.get("classlabels_ints") or [], attributes.get("vectors_per_class") or []
    classes = len(labels)
    if classes < 2 or len(sizes) != classes:
        raise CannotError("fewer than two classes, or classes without vectors")
    if graphs.text(attributes.get("post_transform", b"NONE")) != "NONE":
        raise CannotError("post_transform")
    values = _kernel(state, node, attributes, sum(sizes))
    coefficients = np.asarray(attributes["coefficients"], np.float32).reshape(classes - 1, values.width)
    rho = np.asarray(attributes["rho"], np.float32)
    starts = np.cumsum([0, *sizes])
    columns = []
    for one in range(classes):
        for other in range(one + 1, classes):
            column = np.zeros(values.width, np.float32)
            column[starts[one] : starts[one + 1]] = coefficients[other - 1, starts[one] : starts[one + 1]]
            column[starts[other] : starts[other + 1]] = coefficients[one, starts[other] : starts[other + 1]]
            columns.append(column)
    scores = _scores(state, node, attributes, values, np.stack(columns, axis=1), rho)
    best = state.add(ir.Votes((scores,), state.fresh(node.output[0], DType.INT64, (values.rows,)), classes))
    label = state.out(node, DType.INT64, (values.rows,))
    state.add(ir.Lookup((best,), label, np.asarray(labels, np.int64)))


def _scores(
    state: Lowering,
    node: NodeProto,
    attributes: dict[str, Any],
    values: ir.Value,
    weight: np.ndarray,
    rho: np.ndarray,
) -> ir.Value:
    """Add the scores of all pairs and return them; add what the node answers besides the label."""
    a, b = (np.asarray(attributes.get(key) or [], np.float64) for key in ("prob_a", "prob_b"))
    classes, pairs = len(attributes["classlabels_ints"]), weight.shape[1]
    shape = (values.rows, pairs)
    if len(a):
        if classes > MAX_COUPLED:
            raise CannotError(f"probabilities of {classes} classes, at most {MAX_COUPLED}")
        if len(a) != pairs or len(b) != pairs:
            raise CannotError("probabilities that do not fit the pairs")
        scores = state.add(ir.Dense((values,), state.fresh(node.output[0], DType.FP32, shape), weight, rho))
        state.add(ir.Couple((scores,), state.out(node, DType.FP32, (values.rows, classes), 1), a, b))
    elif classes == 2:
        if min(attributes["coefficients"]) >= 0:
            raise CannotError("weights of one sign")  # of which ONNX Runtime makes something else
        scores = state.add(ir.Dense((values,), state.fresh(node.output[0], DType.FP32, shape), weight, rho))
        state.add(ir.TwoClasses((scores,), state.out(node, DType.FP32, (values.rows, 2), 1), "negated"))
    else:
        scores = state.add(ir.Dense((values,), state.out(node, DType.FP32, shape, 1), weight, rho))
    return scores


OPERATORS: dict[str, Lower] = {"SVMRegressor": _regressor, "SVMClassifier": _classifier}

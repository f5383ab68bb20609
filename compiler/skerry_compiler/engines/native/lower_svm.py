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
    if classes < 3 or len(sizes) != classes or attributes.get("prob_a"):
        raise CannotError("two classes, text labels, or probabilities")
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
    output = state.out(node, DType.FP32, (values.rows, len(columns)), 1)
    scores = state.add(ir.Dense((values,), output, np.stack(columns, axis=1), rho))
    best = state.add(ir.Votes((scores,), state.fresh(node.output[0], DType.INT64, (values.rows,)), classes))
    label = state.out(node, DType.INT64, (values.rows,))
    state.add(ir.Lookup((best,), label, np.asarray(labels, np.int64)))


OPERATORS: dict[str, Lower] = {"SVMRegressor": _regressor, "SVMClassifier": _classifier}

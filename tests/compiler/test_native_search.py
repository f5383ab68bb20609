"""Least elements, powers, any broadcasting and coupled probabilities in generated C, beside ONNX Runtime."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn import svm
from sklearn.datasets import load_iris
from tests.compiler import native_cases as cases

from skerry_compiler.frontends import sklearn as frontend

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(1, 150), st.integers(1, 12), st.booleans(), st.booleans())
def test_first_elements_in_their_order(width: int, count: int, greatest: bool, equal: bool) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "places"], axis=1, largest=int(greatest), sorted=1)
    model = cases.simple([node], [2, width], {"y": FLOAT, "places": INT64}, k=np.array([min(count, width)]))
    rows = np.random.default_rng(width).normal(size=(8, 2, width)).astype(np.float32)
    cases.agree(model, np.round(rows) if equal else rows, cases.HOST)


@pytest.mark.parametrize("power", [0.5, 1.5, 3.0, 7.0, -0.7, 0.31])
def test_powers(power: float) -> None:
    rows = np.abs(np.random.default_rng(0).normal(size=(40, 1, 5)).astype(np.float32)) * 9
    rows[0, 0] = [0 if power > 0 else 2, 1, 1e-20, 1e3, 1e-3]
    if power == 7.0:
        rows = np.minimum(rows, 9) * np.float32(-1)
    node = helper.make_node("Pow", ["x", "p"], ["y"])
    cases.agree(cases.simple([node], [1, 5], {"y": FLOAT}, p=np.array(power, np.float32)), rows, cases.V2, rtol=1e-6)


@pytest.mark.parametrize("kind", ["Cos", "Sin", "Ceil"])
def test_turns(kind: str) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 1, 5)).astype(np.float32) * 50
    rows[0, 0] = [0, np.pi, -np.pi / 2, 1e-20, 100000]
    cases.agree(cases.simple([helper.make_node(kind, ["x"], ["y"])], [1, 5], {"y": FLOAT}), rows, cases.V2, rtol=1e-6)


def test_any_broadcasting() -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["rows"]),
        helper.make_node("Unsqueeze", ["x", "two"], ["columns"]),
        helper.make_node("LessOrEqual", ["rows", "columns"], ["less"]),
        helper.make_node("Cast", ["less"], ["counted"], to=FLOAT),
        helper.make_node("Mul", ["counted", "wide"], ["weighted"]),
        helper.make_node("Mean", ["weighted", "columns"], ["y"]),
    ]
    stored = {"one": np.array([1]), "two": np.array([2]), "wide": np.arange(4, dtype=np.float32).reshape(4, 1)}
    model = cases.simple(nodes, [2, 4], {"y": FLOAT}, **stored)
    cases.agree(model, np.random.default_rng(0).normal(size=(9, 2, 4)).astype(np.float32), cases.V2)


@pytest.mark.parametrize("kind", ["two", "three", "text"])
@pytest.mark.parametrize("estimator", [svm.SVC(probability=True), svm.NuSVC(nu=0.2), svm.SVC(kernel="poly")], ids=str)
def test_support_vectors_of_any_classes(estimator: Any, kind: str) -> None:
    rows, labels = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    target = {"two": labels > 0, "three": labels, "text": np.array(["a", "b", "c"])[labels]}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(rows[::2], target[::2])
        model = cases.prepared(frontend.convert(estimator, input_name="x", opset_max=17, rows=rows))
        expected = estimator.predict(rows)
    cases.agree(model, rows[::5, None], cases.V2)
    if kind != "text":
        np.testing.assert_array_equal(cases.native(model, rows[:, None], cases.HOST)[0].reshape(-1), expected)

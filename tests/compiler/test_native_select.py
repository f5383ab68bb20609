"""Comparisons, choices, moves and support vectors in generated C beside ONNX Runtime, pipelines beside scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from sklearn import ensemble, impute, naive_bayes, preprocessing, svm
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tests.compiler import native_cases as cases

from skerry_compiler.frontends import sklearn as frontend

FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64
ESTIMATORS: list[Any] = [
    svm.SVC(),
    svm.SVC(kernel="poly"),
    svm.SVC(kernel="linear"),
    svm.SVC(kernel="sigmoid"),
    svm.SVR(),
    naive_bayes.GaussianNB(),
    naive_bayes.MultinomialNB(),
    naive_bayes.BernoulliNB(),
    ensemble.BaggingClassifier(n_estimators=4),
    QuadraticDiscriminantAnalysis(),
    make_pipeline(impute.SimpleImputer(), LogisticRegression()),
    make_pipeline(preprocessing.PolynomialFeatures(2), SelectKBest(k=5), LogisticRegression()),
    make_pipeline(preprocessing.KBinsDiscretizer(3, encode="ordinal"), LogisticRegression()),
    make_pipeline(preprocessing.QuantileTransformer(n_quantiles=20), LogisticRegression()),
    make_pipeline(preprocessing.OneHotEncoder(handle_unknown="ignore"), LogisticRegression()),
    make_pipeline(
        ColumnTransformer([("a", preprocessing.StandardScaler(), [2, 0]), ("b", preprocessing.MinMaxScaler(), [1])]),
        LogisticRegression(),
    ),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda each: "-".join(str(each).split())[:60])
def test_estimators(estimator: Any) -> None:
    rows, labels = load_iris(return_X_y=True)
    rows = np.round(rows.astype(np.float32)) if "OneHot" in str(estimator) else rows.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(rows, labels)
        expected = estimator.predict(rows[::3])
        model = cases.prepared(frontend.convert(estimator, input_name="x", opset_max=17, rows=rows))
    cases.agree(model, rows[::3, None], cases.V2)
    found = cases.native(model, rows[::3, None], cases.HOST)[0].reshape(-1)
    if hasattr(estimator, "classes_"):
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def rows_of_every_kind() -> np.ndarray:
    random = np.random.default_rng(0)
    rows = (random.normal(size=(40, 1, 4)) * 3).astype(np.float32)
    rows[0, 0], rows[1, 0] = [0.0, -0.0, 1.0, -1.0], [np.inf, -np.inf, 0.5, 2.0]
    rows[2, 0], rows[3, 0] = [np.nan, 1e-40, -1e-40, 1e30], [2.0**23, -(2.0**23) - 1, 1e9, -1e9]
    return rows


@pytest.mark.parametrize("kind", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
def test_comparisons(kind: str) -> None:
    node = helper.make_node(kind, ["x", "limit"], ["y"])
    model = cases.simple([node], [1, 4], {"y": BOOL}, limit=np.array([0, 1, 0.5, 2], np.float32))
    cases.agree(model, rows_of_every_kind(), cases.V2)


@pytest.mark.parametrize("kind", ["Floor", "Sign", "Softplus", "Log", "Reciprocal", "IsNaN"])
def test_maps(kind: str) -> None:
    rows = rows_of_every_kind()
    if kind == "Floor":
        rows = rows[2:]
    elif kind != "IsNaN":  # of infinity and of no number others say other things
        rows = np.clip(np.nan_to_num(rows), -80, 80) if kind == "Softplus" else np.abs(np.nan_to_num(rows)) + 0.01
    model = cases.simple([helper.make_node(kind, ["x"], ["y"])], [1, 4], {"y": BOOL if kind == "IsNaN" else FLOAT})
    cases.agree(model, rows, cases.V2, rtol=1e-6)


def test_moves_and_choices() -> None:
    nodes = [
        helper.make_node("IsNaN", ["x"], ["missing"]),
        helper.make_node("Not", ["missing"], ["there"]),
        helper.make_node("Where", ["there", "x", "zero"], ["filled"]),
        helper.make_node("Gather", ["filled", "places"], ["taken"], axis=1),
        helper.make_node("Slice", ["filled", "one", "three", "one"], ["middle"]),
        helper.make_node("Concat", ["taken", "middle"], ["y"], axis=1),
        helper.make_node("ArgMin", ["filled"], ["least"], axis=1),
        helper.make_node("Gather", ["table", "least"], ["z"], axis=0),
        helper.make_node("Transpose", ["z"], ["turned"], perm=[2, 0, 1]),
        helper.make_node("ReduceSumSquare", ["y"], ["squares"], axes=[1]),
    ]
    model = cases.simple(
        nodes,
        [1, 4],
        {"y": FLOAT, "turned": FLOAT, "squares": FLOAT},
        zero=np.zeros(1, np.float32),
        places=np.array([3, -4], np.int64),
        one=np.array([1], np.int64),
        three=np.array([3], np.int64),
        table=np.arange(12, dtype=np.float32).reshape(4, 3),
    )
    rows = rows_of_every_kind()
    rows[~np.isfinite(rows) & ~np.isnan(rows)] = 7
    rows[3] = 1
    rows[2, 0, 3] = 3
    cases.agree(model, rows, cases.SCALAR)

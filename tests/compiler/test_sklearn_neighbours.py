"""Nearest neighbours in generated C beside scikit-learn: every metric and weight, points that are equal, and ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, RadiusNeighborsClassifier
from tests.compiler import native_cases as cases

from skerry_compiler.engines.native import fuse, ir, lower
from skerry_compiler.frontends import sklearn as frontend

METRICS = ["euclidean", "manhattan", "chebyshev", "cosine", "minkowski", "sqeuclidean"]


def converted(estimator: Any, rows: np.ndarray) -> Any:
    return cases.prepared(frontend.convert(estimator, input_name="x", opset_max=17, rows=rows))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from(METRICS),
    st.sampled_from(["uniform", "distance"]),
    st.integers(1, 90),
    st.integers(1, 20),
    st.integers(1, 9),
    st.sampled_from([cases.SCALAR, cases.V2, cases.HOST, cases.WIDE]),
)
def test_answers_are_scikit_learns(
    metric: str, weights: str, rows: int, features: int, count: int, machine: Any
) -> None:
    random = np.random.default_rng(rows * 31 + features)
    known = random.normal(size=(rows, features)).astype(np.float32)
    asked = np.concatenate([random.normal(size=(20, features)), known[:10]]).astype(np.float32)
    options = {"n_neighbors": min(count, rows), "weights": weights, "metric": metric, "algorithm": "brute"}
    if metric == "minkowski":
        options["p"] = 3
    values = random.normal(size=(rows, 2))
    estimator = KNeighborsRegressor(**options).fit(known.astype(np.float64), values)
    found = cases.native(converted(estimator, asked), asked[:, None], machine)[0].reshape(len(asked), -1)
    exact = ~np.any(np.all(asked[:, None] == known[None], axis=2), axis=1) | (weights == "uniform")
    np.testing.assert_allclose(found[exact], estimator.predict(asked.astype(np.float64))[exact], rtol=1e-3, atol=1e-4)
    if metric not in ("cosine", "minkowski"):  # whose distances to an equal point are only nearly 0
        np.testing.assert_allclose(found[~exact], estimator.predict(asked[~exact].astype(np.float64)) if
                                   np.any(~exact) else found[~exact], rtol=1e-4, atol=1e-5)  # fmt: skip


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(1, 7), st.integers(2, 5), st.integers(2, 40), st.booleans())
def test_of_equal_distances_the_first_rows_count(count: int, classes: int, rows: int, text: bool) -> None:
    random = np.random.default_rng(count + 7 * rows)
    known = random.integers(0, 3, (rows + count, 2)).astype(np.float32)
    labels = random.integers(0, classes, len(known))
    labels[:classes] = np.arange(classes)[: len(labels)]
    names = np.array(list("abcde"))[labels] if text else labels * 3
    estimator = KNeighborsClassifier(count, algorithm="brute").fit(known, names)
    asked = np.stack(np.meshgrid(np.arange(3), np.arange(3)), axis=-1).reshape(-1, 2).astype(np.float32)
    from skerry_compiler.frontends.estimators import convert

    model = cases.prepared(convert.convert(estimator, "x", 2))
    label, shares = cases.native(model, asked[:, None], cases.HOST)
    apart = ((asked[:, None] - known[None]) ** 2).sum(axis=2)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, :count]
    votes = np.stack([np.bincount(labels[each], minlength=classes) for each in nearest])[:, np.unique(labels)]
    np.testing.assert_allclose(shares.reshape(len(asked), -1), votes / count, atol=1e-6)
    best = label.reshape(-1)
    np.testing.assert_array_equal(best if text else np.searchsorted(estimator.classes_, best), votes.argmax(axis=1))


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "chebyshev"])
def test_distances_become_one_kernel(metric: str) -> None:
    random = np.random.default_rng(0)
    known = random.normal(size=(30, 5)).astype(np.float32)
    estimator = KNeighborsClassifier(3, metric=metric).fit(known, np.arange(30) % 3)
    kinds = [type(op) for op in fuse.fuse(lower.lower(converted(estimator, known))).ops]
    assert ir.Kernel in kinds and ir.First in kinds


def test_no_number_and_infinity_stay_in_bounds() -> None:
    known = np.random.default_rng(0).normal(size=(70, 3)).astype(np.float32)
    estimator = KNeighborsClassifier(5, weights="distance").fit(known, np.arange(70) % 2)
    rows = np.array([[np.nan] * 3, [np.inf] * 3, [-np.inf, 0, 0], [3e38, -3e38, 0]], np.float32)
    label, _ = cases.native(converted(estimator, known), rows[:, None], cases.HOST)
    assert set(label.reshape(-1).tolist()) <= {0, 1}


def test_neighbours_in_a_radius() -> None:
    random = np.random.default_rng(1)
    known, labels = random.normal(size=(60, 3)).astype(np.float32), random.integers(0, 3, 60)
    estimator = RadiusNeighborsClassifier(1.0, outlier_label=2).fit(known, labels)
    asked = random.normal(size=(40, 3)).astype(np.float32) * 2
    label, shares = cases.native(converted(estimator, asked), asked[:, None], cases.V2)
    np.testing.assert_array_equal(label.reshape(-1), estimator.predict(asked))
    np.testing.assert_allclose(shares.reshape(40, -1), estimator.predict_proba(asked), atol=1e-6)

"""AdaBoost and isolation forests: the same leaves as in scikit-learn, also where a row lies on a threshold."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import AdaBoostClassifier, AdaBoostRegressor, IsolationForest
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from tests.compiler import native_cases as cases

from skerry_compiler.engines.native import emit_forest
from skerry_compiler.frontends.estimators import convert


def on_thresholds(trees: list[object], features: int, random: np.random.Generator) -> np.ndarray:
    """Return rows whose values are thresholds, as float32 has them, and its neighbours on both sides."""
    found = np.concatenate([each.tree_.threshold[each.tree_.feature >= 0] for each in trees])  # type: ignore[attr-defined]
    rows = random.choice(found, (90, features)).astype(np.float32)
    rows[::3] = np.nextafter(rows[::3], np.float32(np.inf))
    rows[1::3] = np.nextafter(rows[1::3], np.float32(-np.inf))
    return rows


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.integers(2, 4), st.integers(1, 4))
def test_adaboost(seed: int, classes: int, depth: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(120, 3))
    labels = np.digitize(rows[:, 0] + rows[:, 1] * rows[:, 2], np.linspace(-1, 1, classes - 1))
    tree = DecisionTreeClassifier(max_depth=depth)
    estimator = AdaBoostClassifier(tree, n_estimators=8, random_state=0).fit(rows, labels)
    asked = on_thresholds(estimator.estimators_, 3, random)
    model = cases.prepared(convert.convert(estimator, "x", 3))
    label, shares = cases.native(model, asked[:, None], cases.HOST, emit_forest.TABLE)
    expected = estimator.predict_proba(asked.astype(np.float64))
    np.testing.assert_allclose(shares.reshape(len(asked), -1), expected, atol=1e-6)
    first = np.sort(expected, axis=1)
    clear = first[:, -1] - first[:, -2] > 1e-6  # of equal votes rounding decides in either
    np.testing.assert_array_equal(label.reshape(-1)[clear], estimator.predict(asked.astype(np.float64))[clear])


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from(["linear", "square"]))
def test_weighted_medians(seed: int, loss: str) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(100, 3))
    tree = DecisionTreeRegressor(max_depth=3)
    estimator = AdaBoostRegressor(tree, n_estimators=9, loss=loss, random_state=0).fit(rows, rows[:, 0] * rows[:, 1])
    asked = on_thresholds(estimator.estimators_, 3, random)
    model = cases.prepared(convert.convert(estimator, "x", 3))
    found = cases.native(model, asked[:, None], cases.HOST)[0].reshape(-1)
    np.testing.assert_allclose(found, estimator.predict(asked.astype(np.float64)), rtol=1e-6, atol=1e-6)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.floats(0.4, 1.0))
def test_isolation_forests(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(150, 4)).astype(np.float32)
    estimator = IsolationForest(n_estimators=15, max_features=share, contamination=0.1, random_state=0).fit(rows)
    asked = on_thresholds(estimator.estimators_, 4, random)
    model = cases.prepared(convert.convert(estimator, "x", 4))
    label, score = cases.native(model, asked[:, None], cases.HOST)
    expected = estimator.decision_function(asked)
    np.testing.assert_allclose(score.reshape(-1), expected, atol=1e-6)
    clear = np.abs(expected) > 1e-6
    np.testing.assert_array_equal(label.reshape(-1)[clear], estimator.predict(asked)[clear])

"""Estimators converted by our own hand: generated C beside scikit-learn's own answers, most rows not trained on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn import (
    calibration,
    compose,
    cross_decomposition,
    decomposition,
    ensemble,
    gaussian_process,
    impute,
    isotonic,
    kernel_approximation,
    kernel_ridge,
    linear_model,
    model_selection,
    multiclass,
    multioutput,
    neighbors,
    preprocessing,
    svm,
)
from sklearn.cluster import Birch, BisectingKMeans, KMeans, MeanShift
from sklearn.covariance import EllipticEnvelope
from sklearn.datasets import load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # makes IterativeImputer importable
from sklearn.gaussian_process import kernels
from sklearn.naive_bayes import CategoricalNB, GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from tests.compiler import native_cases as cases

from skerry_compiler.engines.native import fuse, lower
from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends import sklearn as frontend

LOGISTIC, RIDGE, TREE = linear_model.LogisticRegression(), linear_model.Ridge(), DecisionTreeClassifier(max_depth=3)
NAMED = [("a", LOGISTIC), ("b", TREE), ("c", GaussianNB())]
NUMBERS = [("a", RIDGE), ("b", DecisionTreeRegressor(max_depth=3))]
TWO = np.array(["no", "yes"])
CLASSES: list[Any] = [
    ensemble.AdaBoostClassifier(n_estimators=12, random_state=0),
    ensemble.AdaBoostClassifier(LOGISTIC, n_estimators=3, random_state=0),
    ensemble.VotingClassifier(NAMED, voting="soft", weights=[1, 2, 3]),
    ensemble.VotingClassifier(NAMED, voting="hard"),
    ensemble.StackingClassifier(NAMED, cv=3),
    ensemble.StackingClassifier([("a", svm.SVC()), ("b", TREE)], passthrough=True, cv=3),
    ensemble.BaggingClassifier(neighbors.KNeighborsClassifier(3), n_estimators=3, max_features=0.5, random_state=0),
    calibration.CalibratedClassifierCV(svm.SVC(), cv=2),
    calibration.CalibratedClassifierCV(TREE, method="isotonic", cv=2),
    calibration.CalibratedClassifierCV(LOGISTIC, method="temperature", cv=2),
    multiclass.OneVsRestClassifier(LOGISTIC),
    multiclass.OneVsOneClassifier(svm.LinearSVC()),
    multiclass.OutputCodeClassifier(LOGISTIC, code_size=2, random_state=0),
    model_selection.GridSearchCV(neighbors.KNeighborsClassifier(), {"n_neighbors": [3, 4]}, cv=2),
    make_pipeline(preprocessing.PowerTransformer(), LOGISTIC),
    make_pipeline(preprocessing.SplineTransformer(4, extrapolation="linear"), LOGISTIC),
    make_pipeline(
        preprocessing.KBinsDiscretizer(4, encode="onehot", quantile_method="averaged_inverted_cdf"), LOGISTIC
    ),
    make_pipeline(kernel_approximation.Nystroem(n_components=20, random_state=0), LOGISTIC),
    make_pipeline(decomposition.FastICA(4, random_state=0), LOGISTIC),
    neighbors.NearestCentroid(priors="empirical"),
    ensemble.BaggingClassifier(svm.SVC(), n_estimators=3, random_state=0),
    calibration.CalibratedClassifierCV(ensemble.GradientBoostingClassifier(n_estimators=3), cv=2),
    ensemble.VotingClassifier([("a", ensemble.HistGradientBoostingClassifier(max_iter=3)), ("b", TREE)], voting="soft"),
    make_pipeline(preprocessing.PowerTransformer(), KMeans(4, random_state=0), LOGISTIC),
    make_pipeline(preprocessing.PowerTransformer(), LinearDiscriminantAnalysis(), LOGISTIC),
]
PAIRS: list[Any] = [
    ensemble.AdaBoostClassifier(n_estimators=12, random_state=0),
    ensemble.StackingClassifier(NAMED, cv=3),
    calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2),
    calibration.CalibratedClassifierCV(TREE, method="isotonic", cv=2),
    multiclass.OneVsRestClassifier(LOGISTIC),
    multiclass.OneVsOneClassifier(LOGISTIC),
    model_selection.FixedThresholdClassifier(LOGISTIC, threshold=0.7, pos_label="yes"),
    neighbors.KNeighborsClassifier(4, weights="distance"),
]
VALUES: list[Any] = [
    ensemble.AdaBoostRegressor(n_estimators=9, random_state=0),
    ensemble.VotingRegressor(NUMBERS, weights=[1, 3]),
    ensemble.StackingRegressor(NUMBERS, cv=2),
    kernel_ridge.KernelRidge(kernel="rbf", gamma=0.05),
    gaussian_process.GaussianProcessRegressor(
        kernels.Matern() + kernels.WhiteKernel(), normalize_y=True, optimizer=None
    ),
    compose.TransformedTargetRegressor(RIDGE, func=np.log1p, inverse_func=np.expm1),
    cross_decomposition.CCA(1),
    make_pipeline(preprocessing.QuantileTransformer(n_quantiles=30), RIDGE),
    linear_model.GammaRegressor(),
    make_pipeline(preprocessing.StandardScaler(), preprocessing.PolynomialFeatures(2, interaction_only=True), RIDGE),
]
OTHERS: list[Any] = [
    ensemble.IsolationForest(n_estimators=20, max_features=0.5, random_state=0),
    EllipticEnvelope(random_state=0),
    svm.OneClassSVM(nu=0.2),
    neighbors.LocalOutlierFactor(novelty=True),
    MeanShift(),
    Birch(n_clusters=3),
    BisectingKMeans(5, random_state=0),
    make_pipeline(preprocessing.PowerTransformer(), KMeans(4, random_state=0)),
    make_pipeline(preprocessing.PowerTransformer(), svm.OneClassSVM(nu=0.2)),
]


def wine() -> tuple[np.ndarray, np.ndarray]:
    rows, labels = load_wine(return_X_y=True)
    return preprocessing.scale(rows).astype(np.float32), labels


def name(each: Any) -> str:
    return "-".join(str(each).split())[:70]


def compared(estimator: Any, rows: np.ndarray, targets: Any, *, run: bool = True) -> None:
    """Fit on one of four rows; compare on all. `run`: compile and run the C, else only lower."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(rows[::4], targets[::4])
        expected = np.asarray(estimator.predict(rows))
        model = cases.prepared(frontend.convert(estimator, input_name="x", opset_max=17, rows=rows))
    if not run:
        assert fuse.fuse(lower.lower(model)).ops
        return
    answers = cases.native(model, rows[:, None], cases.HOST)
    found = answers[0].reshape(len(rows), -1)
    if hasattr(estimator, "classes_"):
        np.testing.assert_array_equal(estimator.classes_[found.reshape(-1)] if expected.dtype.kind in "OU" else
                                      found.reshape(-1), expected)  # fmt: skip
        if hasattr(estimator, "predict_proba"):
            np.testing.assert_allclose(answers[1].reshape(len(rows), -1), estimator.predict_proba(rows), atol=2e-5)
    else:
        np.testing.assert_allclose(found, expected.reshape(len(rows), -1), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("estimator", CLASSES, ids=name)
def test_classes(estimator: Any) -> None:
    rows, labels = wine()
    compared(estimator, rows, labels, run=estimator in CLASSES[:10:2])


@pytest.mark.parametrize("estimator", PAIRS, ids=name)
def test_two_classes_of_text(estimator: Any) -> None:
    rows, labels = wine()
    compared(estimator, rows, TWO[(labels > 0).astype(int)], run=estimator in PAIRS[::3])


@pytest.mark.parametrize("estimator", VALUES, ids=name)
def test_values(estimator: Any) -> None:
    rows, labels = wine()
    compared(estimator, rows, labels + 0.5 * np.abs(rows[:, 0]), run=estimator in VALUES[::2])


@pytest.mark.parametrize("estimator", OTHERS, ids=name)
def test_outliers_and_clusters(estimator: Any) -> None:
    rows, labels = wine()
    compared(estimator, rows, labels, run=estimator in OTHERS[::3])


@pytest.mark.parametrize(
    "imputer",
    [impute.IterativeImputer(max_iter=3, random_state=0), impute.KNNImputer(n_neighbors=3), impute.MissingIndicator()],
    ids=name,
)
def test_missing_values(imputer: Any) -> None:
    rows, labels = wine()
    rows = np.where(np.random.default_rng(0).random(rows.shape) < 0.1, np.nan, rows[:, :]).astype(np.float32)
    compared(make_pipeline(imputer, RIDGE), rows, labels.astype(float))


def test_categories_of_numbers() -> None:
    random = np.random.default_rng(0)
    rows = np.concatenate([np.tile([[1.5], [2.0], [7.25], [-3.0]], (30, 3)), random.integers(0, 3, (120, 1))], axis=1)
    rows, target = random.permuted(rows, axis=0).astype(np.float32), random.normal(size=120)
    for encoder in (
        preprocessing.OneHotEncoder(handle_unknown="ignore", drop="if_binary"),
        preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        preprocessing.TargetEncoder(random_state=0),
    ):
        compared(make_pipeline(encoder, RIDGE), rows, target, run="Target" in str(encoder))
    compared(CategoricalNB(min_categories=9), np.abs(np.round(rows)), (target > 0).astype(int), run=False)


def test_several_outputs() -> None:
    rows, labels = wine()
    targets = np.stack([labels > 0, labels > 1], axis=1).astype(int)
    for estimator in (multioutput.MultiOutputClassifier(LOGISTIC), multioutput.ClassifierChain(LOGISTIC, order=[1, 0])):
        estimator.fit(rows, targets)
        model = cases.prepared(frontend.convert(estimator, input_name="x", opset_max=17, rows=rows))
        found = cases.native(model, rows[:, None], cases.V2)
        np.testing.assert_array_equal(found[0].reshape(len(rows), -1), estimator.predict(rows))
    chain = multioutput.RegressorChain(RIDGE).fit(rows, targets + rows[:, :2])
    frontend.convert(chain, input_name="x", opset_max=17, rows=rows)


def test_several_outputs_that_are_refused() -> None:
    rows, labels = wine()
    targets = np.stack([labels > 0, labels > 1], axis=1).astype(int)
    for estimator in (neighbors.KNeighborsClassifier(), MLPClassifier((3,), max_iter=5)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(rows, targets)
        with pytest.raises(UnsupportedError, match="of several outputs") as caught:
            frontend.convert(estimator, input_name="x", opset_max=17, rows=rows)
        assert "MultiOutputClassifier" in caught.value.hint


def test_the_same_estimator_gives_the_same_bytes(tmp_path: Path) -> None:
    rows, labels = wine()
    estimator = ensemble.StackingClassifier([*NAMED, ("d", neighbors.KNeighborsClassifier())], cv=2).fit(rows, labels)
    skops.io.dump(estimator, tmp_path / "m.skops")
    made = set()
    for _ in range(2):
        again = frontend.load(tmp_path / "m.skops", trust_pickle=False)
        made.add(frontend.convert(again, input_name="x", opset_max=17, rows=rows).SerializeToString(deterministic=True))
    assert len(made) == 1


def test_one_column() -> None:
    rows, labels = wine()
    line = isotonic.IsotonicRegression(out_of_bounds="clip").fit(rows[:, :1], labels)
    model = cases.prepared(frontend.convert(line, input_name="x", opset_max=17, rows=rows[:, :1]))
    found = cases.native(model, rows[:, None, :1], cases.V2)[0].reshape(-1)
    np.testing.assert_allclose(found, line.predict(rows[:, :1]), atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (neighbors.KNeighborsClassifier(weights=lambda each: each), "weighted by a function"),
        (neighbors.KNeighborsClassifier(metric="canberra"), "distance 'canberra'"),
        (make_pipeline(preprocessing.FunctionTransformer(lambda each: each), RIDGE), "the function <lambda>"),
        (make_pipeline(preprocessing.QuantileTransformer(output_distribution="normal"), RIDGE), "normal"),
        (make_pipeline(decomposition.NMF(2), RIDGE), "no conversion for NMF"),
    ],
    ids=name,
)  # fmt: skip
def test_what_is_refused_says_why(estimator: Any, reason: str) -> None:
    rows, labels = wine()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(np.abs(rows), labels)
    with pytest.raises(UnsupportedError, match=reason) as caught:
        frontend.convert(estimator, input_name="x", opset_max=17, rows=np.abs(rows))
    assert "\n" not in str(caught.value)

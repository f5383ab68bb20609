"""Linear maps, clusters, thresholds on another estimator's scores, and what only hands on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends.estimators import functions
from skerry_compiler.frontends.estimators.maker import DECISION, INDEX, PROBA, VALUES, Handler, Maker
from skerry_compiler.frontends.estimators.sheet import Sheet, f32, i64

CLUSTERS = ("MeanShift", "AffinityPropagation", "Birch", "BisectingKMeans")
OUTLIERS = ("LocalOutlierFactor", "IsolationForest", "EllipticEnvelope")
# Those that skl2onnx writes, as (label, scores).
MORE_CLUSTERS = ("KMeans", "MiniBatchKMeans", "GaussianMixture", "BayesianGaussianMixture")
MORE_OUTLIERS = ("OneClassSVM", "SGDOneClassSVM")


def finds_outliers(estimator: Any) -> bool:
    """Return whether an estimator answers 1 for what is normal and -1 for what is not."""
    return type(_last(estimator)).__name__ in OUTLIERS + MORE_OUTLIERS


def finds_clusters(estimator: Any) -> bool:
    """Return whether an estimator answers the number of a cluster."""
    return type(_last(estimator)).__name__ in CLUSTERS + MORE_CLUSTERS


def _last(estimator: Any) -> Any:
    """Return the last step of a pipeline, or the estimator itself."""
    while getattr(estimator, "steps", None):
        estimator = estimator.steps[-1][1]
    return estimator


def is_linear(estimator: Any) -> bool:
    """Return whether a classifier's decision is a linear function with known coefficients."""
    coefficients = getattr(estimator, "coef_", None)
    kind = getattr(estimator, "kernel", "linear")
    return isinstance(coefficients, np.ndarray) and hasattr(estimator, "intercept_") and kind == "linear"


def linear_decision(sheet: Sheet, estimator: Any, x: str) -> str:
    """Return the decision of a linear classifier, f32[n, 1] of two classes."""
    weight = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
    bias = np.broadcast_to(np.asarray(estimator.intercept_, np.float64).reshape(-1), (len(weight),))
    return sheet.linear(x, weight.T, bias)


def _ica(maker: Maker, estimator: Any, x: str, want: str) -> str:
    mean = estimator.mean_ if estimator.whiten else np.zeros(estimator.n_features_in_)
    return _centred(maker.sheet, x, mean, np.asarray(estimator.components_).T)


def _centred(sheet: Sheet, x: str, mean: Any, weight: Any) -> str:
    """Return (x - mean) times weight."""
    return sheet.linear(sheet.add("Sub", x, f32(mean).reshape(1, -1)), weight)


def _factors(maker: Maker, estimator: Any, x: str, want: str) -> str:
    loadings = np.asarray(estimator.components_, np.float64)
    weighted = loadings / estimator.noise_variance_
    inverse = np.linalg.inv(np.eye(len(loadings)) + weighted @ loadings.T)
    return _centred(maker.sheet, x, estimator.mean_, weighted.T @ inverse)


def _projection(maker: Maker, estimator: Any, x: str, want: str) -> str:
    parts = estimator.components_
    return maker.sheet.linear(x, np.asarray(parts.toarray() if hasattr(parts, "toarray") else parts).T)


def _means(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Means of groups of columns."""
    if estimator.pooling_func is not np.mean:
        raise UnsupportedError("FeatureAgglomeration with another function than the mean")
    groups = np.asarray(estimator.labels_)
    weight = np.eye(int(groups.max()) + 1)[groups]
    return maker.sheet.linear(x, weight / weight.sum(axis=0))


def _partial_least_squares(maker: Maker, estimator: Any, x: str, want: str) -> str:
    if want == VALUES:
        centred = maker.sheet.add("Sub", x, f32(estimator._x_mean).reshape(1, -1))
        return maker.sheet.linear(centred, np.asarray(estimator.coef_).T, estimator.intercept_)
    scale = np.asarray(estimator._x_std, np.float64).reshape(-1, 1)
    weights = estimator.x_weights_ if type(estimator).__name__ == "PLSSVD" else estimator.x_rotations_
    return _centred(maker.sheet, x, estimator._x_mean, weights / scale)


def _boltzmann(maker: Maker, estimator: Any, x: str, want: str) -> str:
    hidden = maker.sheet.linear(x, np.asarray(estimator.components_).T, estimator.intercept_hidden_)
    return maker.sheet.add("Sigmoid", hidden)


def _nearest_centre(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Return the number of the nearest centre, int64[n]."""
    sheet, kind = maker.sheet, type(estimator).__name__
    if kind == "BisectingKMeans":
        return _bisected(sheet, estimator, x)
    centres = estimator.subcluster_centers_ if kind == "Birch" else estimator.cluster_centers_
    if not len(centres):
        raise UnsupportedError("clusters without centres: the fit did not converge")
    place = sheet.add("ArgMin", sheet.squared_distances(x, np.asarray(centres)), axis=1, keepdims=0)
    if kind != "Birch":
        return place
    labels = np.asarray(estimator.subcluster_labels_, np.int64)
    return sheet.add("Gather", labels, place, axis=0)


def _bisected(sheet: Sheet, estimator: Any, x: str) -> str:
    """Walk the tree of halves: at each branch the nearer centre of two."""
    if hasattr(estimator, "_X_mean"):
        x = sheet.add("Sub", x, f32(estimator._X_mean).reshape(1, -1))

    def walk(node: Any) -> str | np.ndarray:
        if node.left is None:
            return np.array([node.label], np.int64)
        apart = sheet.squared_distances(x, np.stack([node.left.center, node.right.center]))
        # the whole tree is written out: a choice between two answers a branch
        second = sheet.add("Less", sheet.columns(apart, [1]), sheet.columns(apart, [0]))
        flat = sheet.add("Reshape", second, i64(-1))
        return sheet.add("Where", flat, walk(node.right), walk(node.left))

    found = walk(estimator._bisecting_tree)
    if isinstance(found, np.ndarray):
        raise UnsupportedError("a BisectingKMeans of one cluster")
    return found


def _threshold(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Compare another estimator's score of one class with a threshold."""
    sheet, inner = maker.sheet, getattr(estimator, "estimator_", estimator.estimator)
    if want != INDEX:
        return maker.make(inner, x, want)
    method = estimator._get_response_method()
    methods = [method] if isinstance(method, str) else list(method)
    use = next((each for each in methods if hasattr(inner, each)), "")
    if use not in (PROBA, DECISION):
        raise UnsupportedError(f"a threshold on {use or 'nothing'}")
    limit = getattr(estimator, "best_threshold_", None)
    if limit is None:
        limit = estimator.threshold if estimator.threshold != "auto" else 0.5 if use == PROBA else 0.0
    classes = list(inner.classes_)
    curve = getattr(estimator, "_curve_scorer", None)
    positive = curve._get_pos_label() if curve is not None else estimator.pos_label
    place = 1 if positive is None else classes.index(positive)
    score = maker.make(inner, x, use)
    score = sheet.columns(score, [place]) if use == PROBA else score
    if use == DECISION and place == 0:
        score = sheet.add("Neg", score)
    reached = sheet.add("GreaterOrEqual", score, f32([[float(limit)]]))
    chosen = sheet.add("Where", reached, i64(place).reshape(1, 1), i64(1 - place).reshape(1, 1))
    return sheet.add("Reshape", chosen, i64(-1))


def _transformed_target(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Undo on the answer what was done to the target."""
    answer = maker.make(estimator.regressor_, x, VALUES)
    return functions.undo(maker.sheet, estimator.transformer_, answer)


def _selected(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Columns that were chosen when fitting, and the estimator behind them."""
    columns = maker.sheet.columns(x, np.flatnonzero(estimator.get_support()).tolist())
    return columns if want == "transform" else maker.make(estimator.estimator_, columns, want)


def _dummy(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """The same answer for every row."""
    sheet = maker.sheet
    nothing = np.zeros((int(estimator.n_features_in_), 1))
    if want == VALUES:
        constant = np.asarray(estimator.constant_, np.float64).reshape(-1)
        return sheet.linear(x, np.repeat(nothing, len(constant), axis=1), constant)
    if estimator.strategy in ("stratified", "uniform"):
        raise UnsupportedError(f"a DummyClassifier that answers at random ({estimator.strategy})")
    prior, classes = np.asarray(estimator.class_prior_), len(estimator.classes_)
    best = int(np.argmax(prior))
    if estimator.strategy == "constant":
        best = int(np.flatnonzero(estimator.classes_ == np.asarray(estimator.constant).reshape(-1)[0])[0])
    shares = prior if estimator.strategy == "prior" else np.eye(classes)[best]
    scores = sheet.linear(x, np.repeat(nothing, classes, axis=1), shares if want == PROBA else np.eye(classes)[best])
    return scores if want == PROBA else sheet.best(scores)


def _discriminant(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Rows along the directions that tell classes apart."""
    if estimator.solver == "lsqr":
        raise UnsupportedError("a LinearDiscriminantAnalysis by least squares that transforms", hint="use solver='svd'")
    mean = estimator.xbar_ if estimator.solver == "svd" else np.zeros(int(estimator.n_features_in_))
    return _centred(maker.sheet, x, mean, np.asarray(estimator.scalings_)[:, : estimator._max_components])


def _constant(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """One class of a code that is the same for all classes."""
    nothing = np.zeros((int(estimator.n_features_in_), 1))
    return maker.sheet.linear(x, nothing, [float(np.asarray(estimator.y_).reshape(-1)[0])])


def _categorical(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Naive Bayes over numbered categories."""
    sheet = maker.sheet
    parts = []
    for place, logs in enumerate(estimator.feature_log_prob_):
        column = sheet.add("Floor", sheet.columns(x, [place]))
        kinds = np.arange(logs.shape[1], dtype=np.float32).reshape(1, -1)
        parts.append(sheet.linear(sheet.floats(sheet.add("Equal", column, kinds)), np.asarray(logs).T))
    total = sheet.add("Sum", *parts) if len(parts) > 1 else parts[0]
    total = sheet.add("Add", total, f32(estimator.class_log_prior_).reshape(1, -1))
    return sheet.best(total) if want == INDEX else sheet.add("Softmax", total, axis=1)


def _inner(name: str) -> Handler:
    return lambda maker, estimator, x, want: maker.make(getattr(estimator, name), x, want)


def _elliptic(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Squared Mahalanobis distance, by a root of the precision so that no terms cancel; minus the limit."""
    sheet = maker.sheet
    values, vectors = np.linalg.eigh(np.asarray(estimator.get_precision(), np.float64))
    root = vectors * np.sqrt(np.maximum(values, 0))
    turned = _centred(sheet, x, estimator.location_, root)
    square = sheet.total(sheet.add("Mul", turned, turned))
    if not math.isfinite(float(estimator.offset_)):
        raise UnsupportedError("an EllipticEnvelope without a finite offset")
    return sheet.add("Sub", f32([[-float(estimator.offset_)]]), square)


# Classifiers that also transform; their answers are skl2onnx's.
TRANSFORMS: dict[str, Handler] = {"LinearDiscriminantAnalysis": _discriminant}
HANDLERS: dict[str, Handler] = {
    "FastICA": _ica,
    "FactorAnalysis": _factors,
    "SparseRandomProjection": _projection,
    "FeatureAgglomeration": _means,
    "CCA": _partial_least_squares,
    "PLSCanonical": _partial_least_squares,
    "PLSSVD": _partial_least_squares,
    "BernoulliRBM": _boltzmann,
    **dict.fromkeys(CLUSTERS, _nearest_centre),
    "FixedThresholdClassifier": _threshold,
    "TunedThresholdClassifierCV": _threshold,
    "TransformedTargetRegressor": _transformed_target,
    "RFE": _selected,
    "RFECV": _selected,
    "SequentialFeatureSelector": _selected,
    "DummyClassifier": _dummy,
    "DummyRegressor": _dummy,
    "SelfTrainingClassifier": _inner("estimator_"),
    "EllipticEnvelope": _elliptic,
    "_ConstantPredictor": _constant,
    "CategoricalNB": _categorical,
}

"""Nearest neighbours by comparing with every training row: classes, values, outliers, centroids.

Of neighbours at the same distance those that come first in the training data count, as in scikit-learn's brute-force
search; its trees may choose others of them. Squares of distances below 1e-45 are 0 in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends.estimators.maker import DECISION, INDEX, PROBA, VALUES, Handler, Maker
from skerry_compiler.frontends.estimators.sheet import Sheet, f32, i64


def distances(sheet: Sheet, x: str, points: np.ndarray, metric: str, power: float = 2.0) -> tuple[str, str]:
    """Return what orders points by distance, f32[n, m], and the operator that makes distances of it ("" for none).

    Raises:
        UnsupportedError: a metric that is not written here.
    """
    points = np.asarray(points, np.float64)
    if metric in ("euclidean", "l2") or (metric == "minkowski" and power == 2):
        return sheet.squared_distances(x, points), "Sqrt"
    if metric == "sqeuclidean":
        return sheet.squared_distances(x, points), ""
    if metric == "cosine":
        norms = np.linalg.norm(points, axis=1, keepdims=True)
        units = points / np.where(norms == 0, 1, norms)
        size = sheet.add("Sqrt", sheet.total(sheet.add("Mul", x, x)))
        zero = sheet.add("Equal", size, f32([[0.0]]))
        product = sheet.add("Div", sheet.linear(x, units.T), sheet.add("Where", zero, f32([[1.0]]), size))
        return sheet.add("Max", sheet.add("Sub", f32([[1.0]]), product), f32(0.0)), ""
    apart = sheet.add("Abs", sheet.differences(x, points))
    if metric in ("manhattan", "cityblock", "l1") or (metric == "minkowski" and power == 1):
        return sheet.total(apart, 2, 0), ""
    if metric in ("chebyshev", "infinity") or (metric == "minkowski" and power == math.inf):
        return sheet.add("ReduceMax", apart, axes=[2], keepdims=0), ""
    if metric == "minkowski":
        sums = sheet.total(sheet.add("Pow", apart, f32(power)), 2, 0)
        return sheet.add("Pow", sums, f32(1 / power)), ""
    raise UnsupportedError(
        f"neighbours by the distance {metric!r:.40}", hint="use euclidean, manhattan, chebyshev, minkowski or cosine"
    )


def nearest(sheet: Sheet, estimator: Any, x: str, count: int) -> tuple[str, str]:
    """Return places and distances of the nearest training rows, int64[n, count] and f32[n, count]."""
    points = estimator._fit_X
    if not isinstance(points, np.ndarray):
        raise UnsupportedError("neighbours of sparse or precomputed rows", hint="fit on a plain array")
    order, finish = _order(sheet, estimator, x, points)
    found, places = sheet.several("TopK", 2, order, i64(count), axis=1, largest=0, sorted=1)
    return places, sheet.add(finish, found) if finish else found


def _order(sheet: Sheet, estimator: Any, x: str, points: np.ndarray) -> tuple[str, str]:
    """Return the distances as `distances` does, by an estimator's own metric."""
    given = dict(estimator.effective_metric_params_ or {})
    options = {key: each for key, each in given.items() if each is not None}
    power = float(options.pop("p", 2.0))
    if callable(estimator.effective_metric_) or options:
        raise UnsupportedError(f"neighbours by a distance with {', '.join(options) or 'a function of its own'}")
    return distances(sheet, x, points, estimator.effective_metric_, power)


def _weights(sheet: Sheet, estimator: Any, found: str) -> str | None:
    """Return the neighbours' weights, f32[n, count, 1]; None where all count the same. Those at distance 0 count
    alone.
    """
    if estimator.weights in (None, "uniform"):
        return None
    if estimator.weights != "distance":
        raise UnsupportedError("neighbours weighted by a function", hint="use weights='uniform' or 'distance'")
    zero = sheet.floats(sheet.add("Equal", found, f32([[0.0]])))
    most = sheet.add("ReduceMax", zero, axes=[1], keepdims=1)
    alone = sheet.add("Greater", most, f32([[0.0]]))
    weight = sheet.add("Where", alone, zero, sheet.add("Reciprocal", found))
    return sheet.add("Unsqueeze", weight, i64(2))


def _mean(sheet: Sheet, estimator: Any, x: str, table: np.ndarray) -> str:
    """Return the weighted mean of the neighbours' rows of a table[training rows, columns]."""
    places, found = nearest(sheet, estimator, x, int(estimator.n_neighbors))
    rows = sheet.add("Gather", f32(table), places, axis=0)
    weight = _weights(sheet, estimator, found)
    if weight is None:
        return sheet.add("ReduceMean", rows, axes=[1], keepdims=0)
    return sheet.add("Div", sheet.total(sheet.add("Mul", rows, weight), 1, 0), sheet.total(weight, 1, 0))


def _classifier(maker: Maker, estimator: Any, x: str, want: str) -> str:
    if estimator.outputs_2d_:
        raise UnsupportedError("neighbours that answer several classes at once", hint="fit one classifier an output")
    classes = len(estimator.classes_)
    votes = _mean(maker.sheet, estimator, x, np.eye(classes)[np.asarray(estimator._y).reshape(-1)])
    return maker.sheet.best(votes) if want == INDEX else votes


def _regressor(maker: Maker, estimator: Any, x: str, want: str) -> str:
    targets = np.asarray(estimator._y)
    return _mean(maker.sheet, estimator, x, targets.reshape(len(targets), -1))


def _within(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Rows within a radius: every training row takes part with its weight or 0."""
    sheet = maker.sheet
    if estimator.weights not in (None, "uniform"):
        raise UnsupportedError("neighbours in a radius with weights", hint="use weights='uniform'")
    order, finish = _order(sheet, estimator, x, np.asarray(estimator._fit_X))
    radius = float(estimator.radius)
    near = sheet.floats(sheet.add("LessOrEqual", order, f32([[radius**2 if finish else radius]])))
    targets = np.asarray(estimator._y)
    if want == VALUES:
        sums = sheet.linear(near, targets.reshape(len(targets), -1))
        return sheet.add("Div", sums, sheet.total(near))  # no neighbours: no number, as scikit-learn answers
    if estimator.outputs_2d_ or estimator.outlier_label_ is None:
        raise UnsupportedError("neighbours in a radius without an outlier_label", hint="set outlier_label")
    kinds = len(estimator.classes_)
    votes = sheet.linear(near, np.eye(kinds)[targets.reshape(-1)])
    label = np.flatnonzero(np.asarray(estimator.classes_) == estimator.outlier_label_[0])
    if not len(label):
        raise UnsupportedError("an outlier_label that is no class", hint="set it to one of the classes")
    alone = sheet.add("Equal", sheet.total(near), f32([[0.0]]))
    shares = sheet.shares(sheet.add("Where", alone, f32(np.eye(kinds)[label[:1]]), votes))
    return sheet.best(shares) if want == INDEX else shares


def _outlier_factor(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Local outlier factor (Breunig et al. 2000) of rows that were not trained on."""
    sheet, count = maker.sheet, int(estimator.n_neighbors_)
    if not estimator.novelty:
        raise UnsupportedError("LocalOutlierFactor of its own training rows", hint="fit with novelty=True")
    places, found = nearest(sheet, estimator, x, count)
    reach = sheet.add("Gather", f32(estimator._distances_fit_X_[:, count - 1]), places, axis=0)
    mean = sheet.add("ReduceMean", sheet.add("Max", found, reach), axes=[1], keepdims=1)
    density = sheet.add("Gather", f32(estimator._lrd), places, axis=0)
    ratio = sheet.add("ReduceMean", sheet.add("Mul", density, sheet.add("Add", mean, f32(1e-10))), axes=[1])
    return sheet.add("Sub", f32([[-float(estimator.offset_)]]), ratio)


def _centroid(maker: Maker, estimator: Any, x: str, want: str) -> str:
    sheet = maker.sheet
    deviation = np.asarray(estimator.within_class_std_dev_, np.float64)
    scale = np.where(deviation == 0, 1, deviation)
    prior = np.asarray(estimator.class_prior_, np.float64)
    plain = bool(np.isclose(prior, 1 / len(prior)).all())
    if want == INDEX and plain:
        order, _ = distances(sheet, x, estimator.centroids_, estimator.metric)
        return sheet.add("ArgMin", order, axis=1, keepdims=0)
    scaled = sheet.add("Div", x, f32(scale).reshape(1, -1))
    order, finish = distances(sheet, scaled, estimator.centroids_ / scale, estimator.metric)
    square = order if finish else sheet.add("Mul", order, order)
    scores = sheet.add("Sub", f32(2 * np.log(prior)).reshape(1, -1), square)
    if want == DECISION and len(prior) == 2:
        return sheet.add("Sub", sheet.columns(scores, [1]), sheet.columns(scores, [0]))
    if want == PROBA:
        return sheet.add("Softmax", scores, axis=1)
    return sheet.best(scores) if want == INDEX else scores


HANDLERS: dict[str, Handler] = {
    "KNeighborsClassifier": _classifier,
    "KNeighborsRegressor": _regressor,
    "RadiusNeighborsClassifier": _within,
    "RadiusNeighborsRegressor": _within,
    "LocalOutlierFactor": _outlier_factor,
    "NearestCentroid": _centroid,
}

"""Missing values filled in from the other columns, marked as missing, or filled from the nearest rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends.estimators.maker import VALUES, Handler, Maker
from skerry_compiler.frontends.estimators.sheet import Sheet, f32


def missing(sheet: Sheet, x: str, value: Any) -> str:
    """Return which elements are missing, bool[n, columns]."""
    if isinstance(value, (int, float)) and math.isnan(value):
        return sheet.add("IsNaN", x)
    if not isinstance(value, (int, float)):
        raise UnsupportedError("missing values that are no numbers")
    return sheet.add("Equal", x, f32([[float(value)]]))


def _indicator(maker: Maker, estimator: Any, x: str, want: str) -> str:
    flags = maker.sheet.floats(missing(maker.sheet, x, estimator.missing_values))
    places = [int(each) for each in estimator.features_]
    if not places:
        raise UnsupportedError("a MissingIndicator that saw no missing values")
    return maker.sheet.columns(flags, places)


def _with_indicator(maker: Maker, estimator: Any, x: str, filled: str) -> str:
    if not estimator.add_indicator:
        return filled
    return maker.sheet.beside([filled, _indicator(maker, estimator.indicator_, x, "transform")])


def _iterative(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Regressions of each column on the others, in the order in which they were fitted (van Buuren 2011)."""
    sheet, width = maker.sheet, int(estimator.n_features_in_)
    if estimator.sample_posterior:
        raise UnsupportedError("an IterativeImputer that draws at random", hint="use sample_posterior=False")
    first = np.asarray(estimator.initial_imputer_.statistics_, np.float64)
    if np.any(np.isnan(first)):
        raise UnsupportedError("an IterativeImputer with columns that were never seen")
    gone = missing(sheet, x, estimator.missing_values)
    start = sheet.add("Where", gone, f32(first).reshape(1, -1), x)
    columns = [sheet.columns(start, [place]) for place in range(width)]
    flags = sheet.floats(gone)
    for step in estimator.imputation_sequence_ if estimator.n_iter_ else []:
        place = int(step.feat_idx)
        others = sheet.beside([columns[int(each)] for each in step.neighbor_feat_idx])
        answer = maker.make(step.estimator, others, VALUES)
        low, high = float(estimator._min_value[place]), float(estimator._max_value[place])
        if math.isfinite(low):
            answer = sheet.add("Max", answer, f32([[low]]))
        if math.isfinite(high):
            answer = sheet.add("Min", answer, f32([[high]]))
        hole = sheet.add("Greater", sheet.columns(flags, [place]), f32([[0.0]]))
        columns[place] = sheet.add("Where", hole, answer, columns[place])
    return _with_indicator(maker, estimator, x, sheet.beside(columns))


def _nearest(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """The mean of the nearest rows that have the value, by distances over what both have."""
    sheet = maker.sheet
    count = int(estimator.n_neighbors)
    rows = np.asarray(estimator._fit_X, np.float64)
    holes = np.asarray(estimator._mask_fit_X, bool)
    if estimator.weights != "uniform" or estimator.metric != "nan_euclidean":
        raise UnsupportedError("a KNNImputer with weights or a metric of its own", hint="use the default ones")
    if not np.all(estimator._valid_mask) or np.any((~holes).sum(axis=0) < count):
        raise UnsupportedError(f"a KNNImputer with columns of fewer than {count} values")
    gone = missing(sheet, x, estimator.missing_values)
    filled = sheet.add("Where", gone, f32([[0.0]]), x)
    there = sheet.floats(sheet.add("Not", gone))
    both = sheet.linear(there, (~holes).astype(np.float64).T)
    apart = sheet.differences(filled, np.where(holes, 0, rows))
    seen = sheet.add("Mul", sheet.add("Unsqueeze", there, np.array([1])), f32(~holes)[None])
    apart = sheet.add("Mul", apart, seen)
    order = sheet.add("Div", sheet.total(sheet.add("Mul", apart, apart), 2, 0), both)
    order = sheet.add("Where", sheet.add("Equal", both, f32(0.0)), f32([[np.inf]]), order)
    columns = []
    for place in range(rows.shape[1]):
        use = np.flatnonzero(~holes[:, place])
        near = sheet.columns(order, use.tolist())
        found, places = sheet.several("TopK", 2, near, np.array([count]), axis=1, largest=0, sorted=1)
        values = sheet.add("Gather", f32(rows[use, place]), places, axis=0)
        usable = sheet.floats(sheet.add("Less", found, f32([[np.inf]])))
        total = sheet.total(usable)
        mean = sheet.add("Div", sheet.total(sheet.add("Mul", values, usable)), total)
        whole = float(rows[use, place].mean())
        mean = sheet.add("Where", sheet.add("Equal", total, f32([[0.0]])), f32([[whole]]), mean)
        hole = sheet.columns(gone, [place])
        columns.append(sheet.add("Where", hole, mean, sheet.columns(x, [place])))
    return _with_indicator(maker, estimator, x, sheet.beside(columns))


HANDLERS: dict[str, Handler] = {
    "MissingIndicator": _indicator,
    "IterativeImputer": _iterative,
    "KNNImputer": _nearest,
}

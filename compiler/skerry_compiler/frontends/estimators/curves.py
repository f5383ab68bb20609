"""Functions of one column that are given piece by piece: broken lines, quantiles, splines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends.estimators.maker import Handler, Maker
from skerry_compiler.frontends.estimators.sheet import Sheet, f32


def interpolate(
    sheet: Sheet, x: str, places: Any, values: Any, exactly: Callable[[np.ndarray], np.ndarray] | None = None
) -> str:
    """Return the broken line through (places, values) at x, f32[n, 1]; flat outside.

    Where several values stand at one place, as float32 has it, the line steps there; `exactly` tells what it is at
    such places f32[m] themselves, else the last value.
    """
    at, to = f32(places).reshape(-1), np.asarray(values, np.float64).reshape(-1)
    if len(at) < 2:
        return sheet.linear(x, [[0.0]], [float(to[0])])
    width, rise = np.diff(at.astype(np.float64)), np.diff(to)
    steep = width <= 0
    sums = []
    if np.any(~steep):
        done = sheet.add("Max", sheet.add("Sub", x, at[:-1][~steep].reshape(1, -1)), f32(0.0))
        done = sheet.add("Min", done, f32(width[~steep]).reshape(1, -1))
        sums.append(sheet.linear(done, (rise[~steep] / width[~steep])[:, None]))
    if np.any(steep):
        here = at[:-1][steep].reshape(1, -1)
        share = _shares(here.reshape(-1), at, to, exactly)
        above, reached = sheet.floats(sheet.add("Greater", x, here)), sheet.add("GreaterOrEqual", x, here)
        sums.append(sheet.linear(above, (rise[steep] * (1 - share))[:, None]))
        sums.append(sheet.linear(sheet.floats(reached), (rise[steep] * share)[:, None]))
    whole = sums[0] if len(sums) == 1 else sheet.add("Sum", *sums)
    return sheet.add("Add", whole, f32([[to[0]]]))


def _shares(
    here: np.ndarray, at: np.ndarray, to: np.ndarray, exactly: Callable[[np.ndarray], np.ndarray] | None
) -> np.ndarray:
    """Return how much of each step is done at its very place."""
    if exactly is None:
        return np.ones(len(here))
    low, high = to[np.searchsorted(at, here, "left")], to[np.searchsorted(at, here, "right") - 1]
    rise = np.where(high == low, 1.0, high - low)
    return np.asarray((exactly(here) - low) / rise, np.float64)


def _isotonic(maker: Maker, estimator: Any, x: str, want: str) -> str:
    if estimator.out_of_bounds != "clip":
        raise UnsupportedError(
            f"an IsotonicRegression with out_of_bounds={estimator.out_of_bounds!r}", hint="use out_of_bounds='clip'"
        )
    return interpolate(maker.sheet, x, estimator.X_thresholds_, estimator.y_thresholds_)


def _quantiles(maker: Maker, estimator: Any, x: str, want: str) -> str:
    if estimator.output_distribution != "uniform":
        raise UnsupportedError(
            "a QuantileTransformer to a normal distribution", hint="use output_distribution='uniform'"
        )
    sheet, quantiles = maker.sheet, np.asarray(estimator.quantiles_)
    columns = [sheet.columns(x, [place]) for place in range(quantiles.shape[1])]
    made = []
    for at, column in enumerate(columns):

        def exactly(here: np.ndarray, own: np.ndarray = quantiles[:, at]) -> np.ndarray:
            return np.asarray(estimator._transform_col(here.copy(), own, False), np.float64)

        made.append(interpolate(sheet, column, quantiles[:, at], estimator.references_, exactly))
    return sheet.beside(made)


def _splines(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """B-splines (de Boor 1978) as polynomials of the distance from the knot before."""
    sheet, parts = maker.sheet, []
    if getattr(estimator, "handle_missing", "error") != "error":
        raise UnsupportedError("a SplineTransformer of missing values")
    for place, spline in enumerate(estimator.bsplines_):
        column = sheet.columns(x, [place])
        low, high = float(spline.t[spline.k]), float(spline.t[len(spline.t) - spline.k - 1])
        if estimator.extrapolation == "periodic":
            turn = high - low
            turns = sheet.add("Mul", sheet.add("Sub", column, f32([[low]])), f32([[1 / turn]]))
            rest = sheet.add("Sub", turns, sheet.add("Floor", turns))
            column = sheet.add("Add", sheet.add("Mul", rest, f32([[turn]])), f32([[low]]))
        elif estimator.extrapolation == "constant":
            column = sheet.add("Min", sheet.add("Max", column, f32([[low]])), f32([[high]]))
        starts, pieces = _pieces(spline, low, high, estimator.extrapolation == "linear")
        basis = _polynomials(sheet, column, starts, pieces)
        outputs = pieces.shape[2] - (0 if estimator.include_bias else 1)
        parts.append(basis if estimator.include_bias else sheet.columns(basis, range(outputs)))
    return sheet.beside(parts)


def _pieces(spline: Any, low: float, high: float, straight: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return where each piece starts, the first at the left end, and coefficients[power, pieces, splines]."""
    from scipy.interpolate import PPoly

    count = spline.c.shape[1]
    each = [PPoly.from_spline((spline.t, spline.c[:, at], spline.k)) for at in range(count)]
    knots = each[0].x
    use = [at for at in range(len(knots) - 1) if knots[at + 1] > knots[at] and low <= knots[at] < high]
    starts = knots[use]
    pieces = np.stack([one.c[::-1, use] for one in each], axis=2)
    if straight:
        ends = np.zeros((len(pieces), 2, count))
        for side, at in enumerate((low, high)):
            ends[0, side], ends[1, side] = spline(at), spline(at, 1)
        pieces = np.concatenate([ends[:, :1], pieces, ends[:, 1:]], axis=1)
        starts = np.concatenate([[low], starts, [high]])
    return starts, pieces


def _polynomials(sheet: Sheet, x: str, starts: np.ndarray, pieces: np.ndarray) -> str:
    """Return the polynomials of the piece in which x lies. The first piece also takes what lies before all."""
    begins = f32(starts).reshape(1, -1)
    reached = sheet.floats(sheet.add("GreaterOrEqual", x, begins[:, 1:])) if len(starts) > 1 else None
    count = len(starts)
    if reached is None:
        inside = sheet.add("Add", sheet.add("Mul", x, f32([[0.0]])), f32([[1.0]]))
    else:
        step = np.zeros((count - 1, count))
        for at in range(count - 1):
            step[at, at], step[at, at + 1] = -1, 1
        first = np.zeros(count)
        first[0] = 1
        inside = sheet.linear(reached, step, first)
    away = sheet.add("Sub", x, begins)
    power, sums = inside, []
    for coefficients in pieces:
        sums.append(sheet.linear(power, coefficients))
        power = sheet.add("Mul", power, away)
    return sums[0] if len(sums) == 1 else sheet.add("Sum", *sums)


HANDLERS: dict[str, Handler] = {
    "IsotonicRegression": _isotonic,
    "QuantileTransformer": _quantiles,
    "SplineTransformer": _splines,
}

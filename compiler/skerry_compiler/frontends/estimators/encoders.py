"""Preprocessing: bins, categories of numbers, splines, power transforms, imputers that look at other columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends.ensemble import at_most
from skerry_compiler.frontends.estimators import curves, functions, imputers
from skerry_compiler.frontends.estimators.maker import Handler, Maker
from skerry_compiler.frontends.estimators.sheet import Sheet, f32


def numbers(categories: Any) -> np.ndarray:
    """Return the categories of one column as float32, which rows hold.

    Raises:
        UnsupportedError: they are text.
    """
    kinds = np.asarray(categories)
    if kinds.dtype.kind not in "iufb":
        raise UnsupportedError("categories of text", hint="encode them as whole numbers before the model")
    return f32(kinds)


def _known(sheet: Sheet, x: str, kinds: np.ndarray) -> str:
    """Return which category a column holds, f32[n, kinds] of 0 and 1; a missing value is the category NaN."""
    there = np.where(np.isnan(kinds), np.float32(np.inf), kinds)
    if not np.any(np.isnan(kinds)):
        return sheet.floats(sheet.add("Equal", x, there.reshape(1, -1)))
    missing = sheet.add("IsNaN", x)
    filled = sheet.add("Where", missing, f32([[np.inf]]), x)
    return sheet.floats(sheet.add("Equal", filled, there.reshape(1, -1)))


def _ordinal(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """The number of a category; of an unknown one what was asked for."""
    sheet, parts = maker.sheet, []
    for place, categories in enumerate(estimator.categories_):
        kinds = numbers(categories)
        known = _known(sheet, sheet.columns(x, [place]), kinds)
        codes = np.arange(len(kinds), dtype=np.float64)
        if getattr(estimator, "_infrequent_enabled", False):
            raise UnsupportedError("an OrdinalEncoder that groups infrequent categories")
        missing = np.isnan(kinds)
        lost = float(estimator.encoded_missing_value)
        if math.isnan(lost) and np.any(missing):
            raise UnsupportedError("missing categories encoded as NaN", hint="set encoded_missing_value to a number")
        codes[missing] = lost
        unknown = float(estimator.unknown_value) if estimator.handle_unknown == "use_encoded_value" else -1.0
        if math.isnan(unknown):
            raise UnsupportedError("unknown categories encoded as NaN", hint="set unknown_value to a number")
        parts.append(sheet.linear(known, (codes - unknown)[:, None], [unknown]))
    return sheet.beside(parts)


def _one_hot(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """One column a category; none of them for an unknown one."""
    sheet, parts = maker.sheet, []
    if getattr(estimator, "_infrequent_enabled", False):
        raise UnsupportedError("a OneHotEncoder that groups infrequent categories")
    drop: Any = [None] * len(estimator.categories_) if estimator.drop_idx_ is None else estimator.drop_idx_
    for place, categories in enumerate(estimator.categories_):
        kinds = numbers(categories)
        keep = [at for at in range(len(kinds)) if drop[place] is None or at != int(drop[place])]
        if keep:
            parts.append(_known(sheet, sheet.columns(x, [place]), kinds[keep]))
    return sheet.beside(parts)


def _bins(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """How many inner edges a value has reached, as a number or as one column a bin."""
    sheet, parts = maker.sheet, []
    for place, edges in enumerate(estimator.bin_edges_):
        column = sheet.columns(x, [place])
        inner = [_at_least(float(each)) for each in np.asarray(edges)[1:-1]]
        reached = sheet.floats(sheet.add("GreaterOrEqual", column, f32([inner]))) if inner else None
        if estimator.encode == "ordinal":
            zero = sheet.add("Mul", column, f32([[0.0]]))
            parts.append(sheet.total(reached) if reached is not None else zero)
            continue
        kinds = [int(each) for each in estimator._encoder.categories_[place]]
        steps = np.zeros((len(inner), len(kinds)))
        first = np.array([1.0 if kind == 0 else 0.0 for kind in kinds])
        for at, kind in enumerate(kinds):
            if kind > 0:
                steps[kind - 1, at] += 1
            if kind < len(inner):
                steps[kind, at] -= 1
        if reached is None:
            parts.append(sheet.linear(column, np.zeros((1, len(kinds))), first))
        else:
            parts.append(sheet.linear(reached, steps, first))
    return sheet.beside(parts)


def _at_least(edge: float) -> float:
    """Return the least float32 that is at least a float64: float32 rows compare with it as with the float64."""
    return -at_most(-edge)


def _target(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """The mean target of a category, for each class where there are several; of an unknown one the mean of all."""
    sheet, parts = maker.sheet, []
    means = np.asarray(estimator.target_mean_, np.float64).reshape(-1)
    classes = len(means) if estimator.target_type_ == "multiclass" else 1
    for place, categories in enumerate(estimator.categories_):
        known = _known(sheet, sheet.columns(x, [place]), numbers(categories))
        encoded = [np.asarray(each) for each in estimator.encodings_[place * classes : (place + 1) * classes]]
        base = means[:classes] if classes > 1 else means[:1]
        parts.append(sheet.linear(known, np.stack(encoded, axis=1) - base, base))
    return sheet.beside(parts)


def _function(maker: Maker, estimator: Any, x: str, want: str) -> str:
    if estimator.kw_args:
        raise UnsupportedError("a FunctionTransformer with arguments")
    return functions.named(maker.sheet, estimator.func, x)


def _power(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Box-Cox (1964) and Yeo-Johnson (2000), then the scaler."""
    sheet = maker.sheet
    lambdas = np.asarray(estimator.lambdas_, np.float64)
    if estimator.method == "box-cox":
        made = _boxcox(sheet, sheet.add("Log", x), lambdas)
    else:
        size = functions.log1p(sheet, sheet.add("Abs", x))
        positive = _boxcox(sheet, size, lambdas)
        negative = sheet.add("Neg", _boxcox(sheet, size, 2 - lambdas))
        made = sheet.add("Where", sheet.add("GreaterOrEqual", x, f32([[0.0]])), positive, negative)
    if not estimator.standardize:
        return made
    scaler = estimator._scaler
    centred = sheet.add("Sub", made, f32(scaler.mean_).reshape(1, -1))
    return sheet.add("Mul", centred, f32(1 / np.asarray(scaler.scale_)).reshape(1, -1))


def _boxcox(sheet: Sheet, logs: str, lambdas: np.ndarray) -> str:
    """Return (exp(lambda logs) - 1) / lambda, which is logs where lambda is 0."""
    zero = np.abs(lambdas) < 1e-7
    safe = np.where(zero, 1.0, lambdas)
    powers = functions.expm1(sheet, sheet.add("Mul", logs, f32(safe).reshape(1, -1)))
    made = sheet.add("Mul", powers, f32(1 / safe).reshape(1, -1))
    return sheet.add("Where", zero.reshape(1, -1), logs, made) if np.any(zero) else made


HANDLERS: dict[str, Handler] = {
    "OrdinalEncoder": _ordinal,
    "OneHotEncoder": _one_hot,
    "KBinsDiscretizer": _bins,
    "TargetEncoder": _target,
    "FunctionTransformer": _function,
    "PowerTransformer": _power,
    **imputers.HANDLERS,
    **curves.HANDLERS,
}

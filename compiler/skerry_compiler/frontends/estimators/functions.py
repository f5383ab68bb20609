"""Known functions of numpy on every element, and how transformations are undone."""

from __future__ import annotations

from typing import Any

import numpy as np

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends.estimators.sheet import Sheet, f32

_PLAIN = {
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "absolute": "Abs",
    "negative": "Neg",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "tanh": "Tanh",
    "sin": "Sin",
    "cos": "Cos",
    "reciprocal": "Reciprocal",
    "rint": "Round",
}


def named(sheet: Sheet, function: Any, x: str) -> str:
    """Return a function of numpy or scipy.special of every element.

    Raises:
        UnsupportedError: a function that is not known here.
    """
    if function is None:
        return x
    name = function.__name__ if isinstance(function, np.ufunc) else ""
    if name in _PLAIN:
        return sheet.add(_PLAIN[name], x)
    if name == "log1p":
        return log1p(sheet, x)
    if name == "expm1":
        return expm1(sheet, x)
    if name == "square":
        return sheet.add("Mul", x, x)
    if name == "cbrt":
        return sheet.add("Mul", sheet.add("Sign", x), sheet.add("Pow", sheet.add("Abs", x), f32(1 / 3)))
    if name in ("log2", "log10"):
        return sheet.add("Mul", sheet.add("Log", x), f32(1 / np.log(2 if name == "log2" else 10)))
    if name == "expit":
        return sheet.add("Sigmoid", x)
    said = getattr(function, "__name__", type(function).__name__)
    raise UnsupportedError(
        f"the function {said:.40}", hint=f"known are numpy's {', '.join(sorted(_PLAIN))}, log1p, expm1"
    )


def log1p(sheet: Sheet, x: str) -> str:
    """Return log(1 + x) without loss for small x: log(u) x / (u - 1) with u = 1 + x (Kahan; Goldberg 1991)."""
    u = sheet.add("Add", x, f32(1.0))
    rest = sheet.add("Sub", u, f32(1.0))
    whole = sheet.add("Mul", sheet.add("Log", u), sheet.add("Div", x, rest))
    infinite = sheet.add("Equal", u, f32(np.inf))
    none = sheet.add("Equal", rest, f32(0.0))
    return sheet.add("Where", sheet.add("Or", none, infinite), x, whole)


def expm1(sheet: Sheet, x: str) -> str:
    """Return exp(x) - 1 without loss for small x: 2 tanh(x/2) / (1 - tanh(x/2)) there."""
    half = sheet.add("Tanh", sheet.add("Mul", x, f32(0.5)))
    small = sheet.add("Div", sheet.add("Mul", half, f32(2.0)), sheet.add("Sub", f32(1.0), half))
    near = sheet.add("Less", sheet.add("Abs", x), f32(0.5))
    return sheet.add("Where", near, small, sheet.add("Sub", sheet.add("Exp", x), f32(1.0)))


def undo(sheet: Sheet, transformer: Any, y: str) -> str:
    """Return what a transformer was given, from what it answered.

    Raises:
        UnsupportedError: a transformer that is not undone here.
    """
    kind = type(transformer).__name__
    if kind == "FunctionTransformer":
        return named(sheet, transformer.inverse_func, y)
    if kind == "StandardScaler":
        scale = 1.0 if transformer.scale_ is None or not transformer.with_std else transformer.scale_
        mean = 0.0 if transformer.mean_ is None or not transformer.with_mean else transformer.mean_
        return _scaled(sheet, y, scale, mean)
    if kind == "MinMaxScaler":
        scale = 1 / np.asarray(transformer.scale_, np.float64)
        return _scaled(sheet, y, scale, -np.asarray(transformer.min_) * scale)
    if kind == "RobustScaler":
        scale = 1.0 if transformer.scale_ is None else transformer.scale_
        return _scaled(sheet, y, scale, 0.0 if transformer.center_ is None else transformer.center_)
    if kind == "MaxAbsScaler":
        return _scaled(sheet, y, transformer.scale_, 0.0)
    raise UnsupportedError(f"a target transformed by {kind}", hint="use a function of numpy or a linear scaler")


def _scaled(sheet: Sheet, y: str, scale: Any, shift: Any) -> str:
    scaled = sheet.add("Mul", y, f32(scale).reshape(1, -1))
    return sheet.add("Add", scaled, f32(shift).reshape(1, -1))

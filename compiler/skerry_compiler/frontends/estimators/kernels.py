"""Kernels of all training rows, and what is linear in them: ridge, Gaussian processes, approximated kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends.estimators.maker import DECISION, INDEX, Handler, Maker
from skerry_compiler.frontends.estimators.sheet import Sheet, f32


def pairwise(sheet: Sheet, x: str, points: np.ndarray, kind: str, options: dict[str, Any]) -> str:
    """Return scikit-learn's kernel between x and points[m, columns], f32[n, m].

    Raises:
        UnsupportedError: a kernel that is not written here.
    """
    if not isinstance(kind, str):
        raise UnsupportedError("a kernel that is a function of its own")
    points = np.asarray(points, np.float64)
    gamma = options.get("gamma")
    gamma = 1.0 / points.shape[1] if gamma is None else float(gamma)
    coef0, degree = options.get("coef0"), options.get("degree")
    coef0, degree = 1.0 if coef0 is None else float(coef0), 3.0 if degree is None else float(degree)
    if kind == "rbf":
        return sheet.add("Exp", sheet.add("Mul", sheet.squared_distances(x, points), f32(-gamma)))
    if kind == "laplacian":
        apart = sheet.total(sheet.add("Abs", sheet.differences(x, points)), 2, 0)
        return sheet.add("Exp", sheet.add("Mul", apart, f32(-gamma)))
    if kind == "linear":
        return sheet.linear(x, points.T)
    if kind == "cosine":
        size = sheet.add("Sqrt", sheet.total(sheet.add("Mul", x, x)))
        zero = sheet.add("Equal", size, f32([[0.0]]))
        norms = np.linalg.norm(points, axis=1, keepdims=True)
        units = points / np.where(norms == 0, 1, norms)
        return sheet.add("Div", sheet.linear(x, units.T), sheet.add("Where", zero, f32([[1.0]]), size))
    if kind in ("poly", "polynomial", "sigmoid"):
        product = sheet.linear(x, points.T * gamma, np.full(len(points), coef0))
        if kind == "sigmoid":
            return sheet.add("Tanh", product)
        return whole_power(sheet, product, degree)
    raise UnsupportedError(f"the kernel {kind:.40}", hint="use rbf, laplacian, linear, polynomial, sigmoid or cosine")


def whole_power(sheet: Sheet, x: str, degree: float) -> str:
    """Return x to a power; whole ones as products, so that negative numbers have them."""
    if degree != int(degree) or not 1 <= degree <= 16:
        return sheet.add("Pow", x, f32(degree))
    made = x
    for _ in range(int(degree) - 1):
        made = sheet.add("Mul", made, x)
    return made


def _options(estimator: Any) -> dict[str, Any]:
    if estimator.kernel_params:
        return dict(estimator.kernel_params)
    return {"gamma": estimator.gamma, "degree": estimator.degree, "coef0": estimator.coef0}


def _ridge(maker: Maker, estimator: Any, x: str, want: str) -> str:
    kernel = pairwise(maker.sheet, x, estimator.X_fit_, estimator.kernel, _options(estimator))
    dual = np.asarray(estimator.dual_coef_, np.float64)
    return maker.sheet.linear(kernel, dual.reshape(len(dual), -1))


def _nystroem(maker: Maker, estimator: Any, x: str, want: str) -> str:
    options = dict(estimator._get_kernel_params())
    kernel = pairwise(maker.sheet, x, estimator.components_, estimator.kernel, options)
    return maker.sheet.linear(kernel, np.asarray(estimator.normalization_).T)


def _fourier(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Random Fourier features (Rahimi and Recht 2007). The angle is taken into one turn, where float32 is fine."""
    sheet = maker.sheet
    turn = 2 * math.pi
    turns = sheet.linear(x, np.asarray(estimator.random_weights_) / turn, np.asarray(estimator.random_offset_) / turn)
    rest = sheet.add("Sub", turns, sheet.add("Floor", turns))
    wave = sheet.add("Cos", sheet.add("Mul", rest, f32(turn)))
    return sheet.add("Mul", wave, f32(math.sqrt(2.0 / int(estimator.n_components))))


def _skewed(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """Features of the skewed chi-squared kernel (Li et al. 2010)."""
    sheet = maker.sheet
    logs = sheet.add("Log", sheet.add("Add", x, f32([[float(estimator.skewedness)]])))
    turn = 2 * math.pi
    weights, offset = np.asarray(estimator.random_weights_) / turn, np.asarray(estimator.random_offset_) / turn
    turns = sheet.linear(logs, weights, offset)
    rest = sheet.add("Sub", turns, sheet.add("Floor", turns))
    wave = sheet.add("Cos", sheet.add("Mul", rest, f32(turn)))
    return sheet.add("Mul", wave, f32(math.sqrt(2.0) / math.sqrt(int(estimator.n_components))))


def _process(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """The mean of a Gaussian process (Rasmussen and Williams 2006, algorithm 2.1)."""
    sheet = maker.sheet
    if not hasattr(estimator, "X_train_"):
        raise UnsupportedError("a Gaussian process without training rows")
    alpha = np.asarray(estimator.alpha_, np.float64)
    alpha = alpha.reshape(len(alpha), -1) * np.asarray(estimator._y_train_std, np.float64).reshape(1, -1)
    mean = np.broadcast_to(np.asarray(estimator._y_train_mean, np.float64).reshape(-1), (alpha.shape[1],))
    kernel = _covariance(sheet, x, np.asarray(estimator.X_train_, np.float64), estimator.kernel_)
    if isinstance(kernel, float):
        return sheet.linear(x, np.zeros((int(estimator.n_features_in_), alpha.shape[1])), kernel * alpha.sum(0) + mean)
    return sheet.linear(kernel, alpha, mean)


def _covariance(sheet: Sheet, x: str, points: np.ndarray, kernel: Any) -> str | float:
    """Return the covariance between x and other points, f32[n, m], or a number where it is the same for all.

    Raises:
        UnsupportedError: a kernel that is not written here.
    """
    kind = type(kernel).__name__
    if kind == "ConstantKernel":
        return float(kernel.constant_value)
    if kind == "WhiteKernel":
        return 0.0
    if kind in ("Sum", "Product"):
        one, two = (_covariance(sheet, x, points, each) for each in (kernel.k1, kernel.k2))
        if isinstance(one, float) and isinstance(two, float):
            return one + two if kind == "Sum" else one * two
        if isinstance(one, float) and one == (0.0 if kind == "Sum" else 1.0):
            return two
        if isinstance(two, float) and two == (0.0 if kind == "Sum" else 1.0):
            return one
        parts = [f32(each) if isinstance(each, float) else each for each in (one, two)]
        return sheet.add("Add" if kind == "Sum" else "Mul", *parts)
    if kind == "Exponentiation":
        inner = _covariance(sheet, x, points, kernel.kernel)
        power = float(kernel.exponent)
        return inner**power if isinstance(inner, float) else whole_power(sheet, inner, power)
    if kind == "DotProduct":
        return sheet.linear(x, points.T, np.full(len(points), float(kernel.sigma_0) ** 2))
    if kind in ("RBF", "Matern", "RationalQuadratic"):
        scale = np.asarray(kernel.length_scale, np.float64).reshape(1, -1)
        square = sheet.squared_distances(sheet.add("Mul", x, f32(1 / scale)), points / scale)
        return _radial(sheet, square, kind, kernel)
    raise UnsupportedError(
        f"the covariance {kind}", hint="use RBF, Matern, RationalQuadratic, DotProduct, sums of them"
    )


def _radial(sheet: Sheet, square: str, kind: str, kernel: Any) -> str:
    """Return a covariance that depends on the squared scaled distance alone."""
    nu = float(getattr(kernel, "nu", math.inf))
    if kind == "RBF" or (kind == "Matern" and nu == math.inf):
        return sheet.add("Exp", sheet.add("Mul", square, f32(-0.5)))
    if kind == "RationalQuadratic":
        alpha = float(kernel.alpha)
        logs = sheet.add("Log", sheet.add("Add", sheet.add("Mul", square, f32(0.5 / alpha)), f32(1.0)))
        return sheet.add("Exp", sheet.add("Mul", logs, f32(-alpha)))
    if nu not in (0.5, 1.5, 2.5):
        raise UnsupportedError(f"Matern with nu {nu:g}", hint="use 0.5, 1.5, 2.5 or inf")
    apart = sheet.add("Mul", sheet.add("Sqrt", square), f32(math.sqrt(2 * nu)))
    decay = sheet.add("Exp", sheet.add("Neg", apart))
    if nu == 0.5:
        return decay
    front = sheet.add("Add", apart, f32(1.0))
    if nu == 2.5:
        front = sheet.add("Add", front, sheet.add("Mul", square, f32(5.0 / 3.0)))
    return sheet.add("Mul", front, decay)


def _support(maker: Maker, estimator: Any, x: str, want: str) -> str:
    """A support vector classifier inside another estimator: pairs of classes vote (libsvm's C-SVC)."""
    sheet, classes = maker.sheet, len(estimator.classes_)
    options = {"gamma": estimator._gamma, "degree": estimator.degree, "coef0": estimator.coef0}
    if not isinstance(estimator.support_vectors_, np.ndarray):
        raise UnsupportedError("support vectors of sparse rows")
    kernel = pairwise(sheet, x, estimator.support_vectors_, estimator.kernel, options)
    if classes == 2:
        decision = sheet.linear(kernel, np.asarray(estimator._dual_coef_).T, estimator._intercept_)
        decision = sheet.add("Neg", decision)
        if want == DECISION:
            return decision
        if want == INDEX:
            return sheet.above(decision, 0.0)
        raise UnsupportedError("probabilities of SVC inside another estimator", hint="use CalibratedClassifierCV")
    if want != DECISION or estimator.decision_function_shape != "ovr":
        raise UnsupportedError("SVC of several classes inside another estimator by other than its scores")
    weights, signs, votes, base = _pairs(estimator, classes)
    sure = sheet.linear(kernel, weights, np.asarray(estimator._intercept_))
    first = sheet.floats(sheet.add("Greater", sure, f32(0.0)))  # libsvm: above 0 is for the first of a pair
    sums = sheet.linear(sure, signs)
    squeezed = sheet.add("Div", sums, sheet.add("Mul", sheet.add("Add", sheet.add("Abs", sums), f32(1.0)), f32(3.0)))
    return sheet.add("Add", sheet.linear(first, votes, base), squeezed)


def _pairs(estimator: Any, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return of all pairs: weights[vectors, pairs], signs of confidences and votes[pairs, classes], and the votes of
    pairs that are all for their second.
    """
    sizes = np.asarray(estimator._n_support)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    dual = np.asarray(estimator._dual_coef_, np.float64)
    pairs = [(one, other) for one in range(classes) for other in range(one + 1, classes)]
    weights = np.zeros((int(starts[-1]), len(pairs)))
    signs, votes, base = np.zeros((len(pairs), classes)), np.zeros((len(pairs), classes)), np.zeros(classes)
    for place, (one, other) in enumerate(pairs):
        weights[starts[one] : starts[one + 1], place] = dual[other - 1, starts[one] : starts[one + 1]]
        weights[starts[other] : starts[other + 1], place] = dual[one, starts[other] : starts[other + 1]]
        signs[place, [one, other]] = votes[place, [one, other]] = 1, -1
        base[other] += 1
    return weights, signs, votes, base


HANDLERS: dict[str, Handler] = {
    "KernelRidge": _ridge,
    "Nystroem": _nystroem,
    "RBFSampler": _fourier,
    "SkewedChi2Sampler": _skewed,
    "GaussianProcessRegressor": _process,
}
INSIDE: dict[str, Handler] = {"SVC": _support, "NuSVC": _support}

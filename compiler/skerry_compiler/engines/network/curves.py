"""Smooth functions of one value that end in a byte, as SiLU, GELU or tanh behind a convolution: a polynomial for each
of sixteen segments, whose coefficients one instruction fetches from a register.

The value is brought into units of segments by the multiply-add that an accumulator needs anyway. The error is at most
a small part of a byte before rounding; what cannot be had to this accuracy stays as it is. A processor must be able to
permute sixteen floats by an index (AVX-512).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.curve import SEGMENTS, Curve, Values
from skerry_compiler.engines.network.graph import Constant, Input, Network, Op, Output, Step

ERROR = 1 / 24  # of a byte, before it is rounded
DEGREES = (1, 2, 3)
KEPT_BITS = 22  # of each coefficient: the last bits of numpy's functions differ between processors
FAR, GRID = 1e3, 1 << 15
EXPENSIVE = {
    "sigmoid", "tanh", "exp", "erf", "elu", "gelu", "gelu_tanh", "softplus", "softsign", "mish", "reciprocal",
}  # fmt: skip
KEEP_SIZE = {"add", "sub", "relu", "clip", "min", "max"}  # steps that do not magnify an error


def _erf(v: Values) -> Values:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(v), np.float64)


def _sigmoid(v: Values) -> Values:
    return 1 / (1 + np.exp(-v))


def _softplus(v: Values) -> Values:
    return np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))


UNARY: dict[str, Callable[[Values], Values]] = {
    "relu": lambda v: np.maximum(v, 0),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "exp": np.exp,
    "erf": _erf,
    "neg": lambda v: -v,
    "abs": np.abs,
    "square": lambda v: v * v,
    "cube": lambda v: v * v * v,
    "identity": lambda v: v,
    "reciprocal": lambda v: 1 / v,
    "hardswish": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
    "gelu": lambda v: 0.5 * v * (1 + _erf(v * 0.5**0.5)),
    "gelu_tanh": lambda v: v * _sigmoid(1.5957691216057308 * (v + 0.044715 * v * v * v)),
    "softplus": _softplus,
    "softsign": lambda v: v / (1 + np.abs(v)),
    "mish": lambda v: v * np.tanh(_softplus(v)),
}
BINARY: dict[str, Callable[[Values, Values | float], Values]] = {
    "add": lambda v, o: v + o,
    "sub": lambda v, o: v - o,
    "rsub": lambda v, o: o - v,
    "mul": lambda v, o: v * o,
    "div": lambda v, o: v / o,
    "rdiv": lambda v, o: o / v,
    "min": np.minimum,
    "max": np.maximum,
    "prelu": lambda v, o: np.maximum(v, 0) + o * np.minimum(v, 0),
}


def choose(network: Network, machine: Machine) -> int:
    """Replace runs of steps by curves where the output is bytes and the machine can; returns how many."""
    if machine.lanes != SEGMENTS:
        return 0
    count = 0
    known: dict[tuple[object, ...], Curve | None] = {}
    for op in network.ops:
        if op.y.quant is None or isinstance(op, (Input, Output, Constant)):
            continue
        span = run_of(op.steps)
        if span is None:
            continue
        start, end = span
        run, after = op.steps[start:end], op.steps[end:]
        if not all(step.name in KEEP_SIZE for step in after):
            continue
        key = (op.y.quant, bool(after), *((s.name, s.values, _scalar(s)) for s in run))
        if key not in known:
            known[key] = fit(run, op, last=not after)
        curve = known[key]
        if curve is not None:
            op.steps = [*op.steps[:start], Step("curve", curve=curve), *after]
            count += 1
    return count


def run_of(steps: Sequence[Step]) -> tuple[int, int] | None:
    """Return first and end of the steps around an expensive one that depend on nothing but the value."""
    place = next((i for i, step in enumerate(steps) if step.name in EXPENSIVE), None)
    if place is None:
        return None
    start, end = place, place + 1
    while start > 0 and _alone(steps[start - 1]):
        start -= 1
    while end < len(steps) and _alone(steps[end]):
        end += 1
    saves = [step.name for step in steps[start:end] if step.name == "save" or step.name.endswith("_saved")]
    whole = not saves or (saves[0] == "save" and saves.count("save") == 1)
    return (start, end) if whole and not any(s.name.endswith("_saved") for s in steps[end:]) else None


def _alone(step: Step) -> bool:
    if step.operand is None:
        return step.name in UNARY or step.name in ("save", "clip", "hardsigmoid", "elu") or step.name.endswith("_saved")
    return step.name in BINARY and _scalar(step) is not None


def _scalar(step: Step) -> float | None:
    return float(step.operand.ravel()[0]) if isinstance(step.operand, np.ndarray) and step.operand.size == 1 else None


def evaluate(steps: Sequence[Step], values: Values) -> Values:
    """Return what steps make of values."""
    v, saved = values, values
    with np.errstate(all="ignore"):
        for step in steps:
            if step.name == "save":
                saved = v
            elif step.name == "clip":
                v = np.clip(v, step.values[0], step.values[1])
            elif step.name == "hardsigmoid":
                v = np.clip(v * step.values[0] + step.values[1], 0, 1)
            elif step.name == "elu":
                v = np.where(v < 0, step.values[0] * np.expm1(np.minimum(v, 0)), v)
            elif step.name.endswith("_saved"):
                v = BINARY[step.name.removesuffix("_saved")](v, saved)
            elif step.operand is not None:
                v = BINARY[step.name](v, _scalar(step) or 0.0)
            else:
                v = UNARY[step.name](v)
    return v


def fit(steps: Sequence[Step], op: Op, last: bool) -> Curve | None:
    """Return the curve of steps whose results end in the bytes of op.y, or None where it would be too far off."""
    quant = op.y.quant
    assert quant is not None

    def wanted(values: Values) -> Values:
        return evaluate(steps, values) / quant.scale + (quant.zero if last else 0)

    grid = np.linspace(-FAR, FAR, GRID + 1)
    exact = wanted(grid)
    if not np.isfinite(exact[np.abs(grid) < 64]).all():
        return None
    beyond = (_flat if last else _straight)(wanted)
    if beyond is None:
        return None
    rest = np.clip(exact, -1, 256) if last else exact
    off = np.abs(rest - np.where(grid < 0, *(np.polyval(line, grid) for line in beyond))) > ERROR / 4
    if not off.any():
        return None
    step = grid[1] - grid[0]
    low, high = grid[off.argmax()] - step, grid[len(off) - 1 - off[::-1].argmax()] + step
    margin = 0.0 if last else 0.5  # beyond the outer halves of the last segments everything is a line
    scale = (SEGMENTS - 1 - 2 * margin) / (high - low)
    shift = margin - low * scale
    for degree in DEGREES:
        curve = Curve(scale, shift, _pieces(wanted, scale, shift, degree, None if last else beyond), last)
        fine = np.linspace(2 * low - high, 2 * high - low, GRID + 1)
        found, exact = curve.at(fine), wanted(fine)
        if last:
            found, exact = np.clip(found, 0, 255), np.clip(exact, 0, 255)
        if np.abs(found - exact).max() < ERROR:
            return curve
    return None


Line = tuple[float, float]


def _flat(wanted: Callable[[Values], Values]) -> tuple[Line, Line] | None:
    """Return the constants that bytes end at on both sides."""
    ends = np.clip(wanted(np.array([-1e9, -FAR, FAR, 1e9])), -1, 256)
    if not np.isfinite(ends).all() or abs(ends[0] - ends[1]) > ERROR / 4 or abs(ends[2] - ends[3]) > ERROR / 4:
        return None
    return (0.0, float(ends[1])), (0.0, float(ends[2]))


def _straight(wanted: Callable[[Values], Values]) -> tuple[Line, Line] | None:
    """Return slope and height of the lines that results approach on both sides."""
    lines = []
    for side in (-1.0, 1.0):
        near, far, check = wanted(side * np.array([FAR, 2 * FAR, 1e6]))
        slope = float(far - near) / (side * FAR)
        line = (slope, float(near) - slope * side * FAR)
        if not math.isfinite(check) or abs(np.polyval(line, side * 1e6) - check) > 1e-3 * max(1.0, abs(check)):
            return None
        lines.append(line)
    return lines[0], lines[1]


def _pieces(
    wanted: Callable[[Values], Values], scale: float, shift: float, degree: int, lines: tuple[Line, Line] | None
) -> Values:
    """Return coefficients in u, by interpolation at Chebyshev's points of each segment; lines at both ends."""
    count = degree + 1
    points = np.cos((2 * np.arange(count) + 1) * np.pi / (2 * count)) / 2
    table = np.zeros((count, SEGMENTS))
    for segment in range(SEGMENTS):
        u = segment + points
        if lines and segment in (0, SEGMENTS - 1):
            slope, height = lines[segment > 0]
            row = [height - slope * shift / scale, slope / scale, *[0.0] * (degree - 1)]
        else:
            row = _newton(u, wanted((u - shift) / scale))
        table[:, segment] = row
    return _short(table)


def _newton(x: Values, y: Values) -> list[float]:
    """Return the coefficients, lowest first, of the polynomial through points: divided differences, multiplied out."""
    difference = [float(v) for v in y]
    for order in range(1, len(x)):
        for i in range(len(x) - 1, order - 1, -1):
            difference[i] = (difference[i] - difference[i - 1]) / float(x[i] - x[i - order])
    row = [difference[-1]]
    for i in range(len(x) - 2, -1, -1):
        row = [difference[i] - float(x[i]) * row[0]] + [
            (row[k - 1] - float(x[i]) * row[k]) if k < len(row) else row[k - 1] for k in range(1, len(row) + 1)
        ]
    return row


def _short(table: Values) -> Values:
    """Return numbers with only their leading bits."""
    part, exponent = np.frexp(table)
    return np.asarray(np.ldexp(np.rint(np.ldexp(part, KEPT_BITS)), exponent - KEPT_BITS), np.float64)

"""The tail of a kernel: what happens to an accumulator between the last multiply-add and the store.

Values of a byte output are kept in units of its scale as long as every step allows that (additions, maxima, slopes),
so that quantising costs one rounding and no multiplication.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler.engines.network.code import Code, Tables, at, number
from skerry_compiler.engines.network.curve import SEGMENTS, Curve
from skerry_compiler.engines.network.graph import Conv, Op, Step, Tensor

MAGIC = 12582912.0  # 1.5 * 2^23: adding it leaves a rounded integer in the low bits, see quantised.py
BYTE_LIMIT = 32000
HOMOGENEOUS = {
    "add",
    "sub",
    "rsub",
    "min",
    "max",
    "relu",
    "clip",
    "prelu",
    "save",
    "add_saved",
    "sub_saved",
    "rsub_saved",
    "neg",
    "abs",
}
SCALES = {"add", "sub", "rsub", "min", "max"}  # their operand is in the value's units
BINARY = {
    "add": "{v} + {o}", "sub": "{v} - {o}", "rsub": "{o} - {v}",
    "mul": "{v} * {o}", "div": "{v} / {o}", "rdiv": "{o} / {v}",
    "min": "min{n}({v}, {o})", "max": "max{n}({v}, {o})",
    "prelu": "max{n}({v}, all{n}(0.f)) + {o} * min{n}({v}, all{n}(0.f))",
    "slope_of": "max{n}({o}, all{n}(0.f)) + {v} * min{n}({o}, all{n}(0.f))",
    "add_saved": "{v} + {s}", "mul_saved": "{v} * {s}", "sub_saved": "{v} - {s}", "rsub_saved": "{s} - {v}",
}  # fmt: skip
UNARY = {
    "relu": "max{n}({v}, all{n}(0.f))",
    "sigmoid": "sigmoid{n}({v})", "tanh": "tanh{n}({v})", "exp": "exp{n}({v})", "log": "log{n}({v})",
    "erf": "erf{n}({v})",
    "sqrt": "sqrt{n}({v})", "reciprocal": "1.f / {v}", "neg": "-{v}", "abs": "abs{n}({v})", "square": "{v} * {v}",
    "cube": "{v} * {v} * {v}", "identity": "{v}",
    "hardswish": "{v} * min{n}(max{n}({v} * 0.166666667f + 0.5f, all{n}(0.f)), all{n}(1.f))",
    "gelu": "0.5f * {v} * (1.f + erf{n}({v} * 0.707106781f))",
    "gelu_tanh": "{v} * sigmoid{n}(1.59576912f * ({v} + 0.044715f * {v} * {v} * {v}))",
    "softplus": "max{n}({v}, all{n}(0.f)) + log{n}(1.f + exp{n}(-abs{n}({v})))",
    "softsign": "{v} / (1.f + abs{n}({v}))",
    "mish": "{v} * tanh{n}(max{n}({v}, all{n}(0.f)) + log{n}(1.f + exp{n}(-abs{n}({v}))))",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a vector of values lies in the output: C expressions of its row, column and first channel."""

    row: str
    column: str
    channel: str


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """A finished vector: its variable, its place, and how many lanes count (a C expression; "" for all)."""

    name: str
    place: Place
    lanes: str = ""


def index(tensor: Tensor, place: Place, spans: tuple[bool, bool, bool]) -> str:
    """Return the C expression of an element's offset from the origin."""
    terms = []
    if spans[0]:
        terms.append(f"({place.row}) * {tensor.row}")
    if spans[1]:
        terms.append(f"({place.column}) * {tensor.c}")
    if spans[2]:
        terms.append(f"({place.channel})")
    return " + ".join(t for t in terms if t != "(0)" and not t.startswith("(0) *")) or "0"


def unit_of(op: Op) -> float:
    """Return the unit in which values enter the steps: the output's scale, or a curve's, if what is ahead allows it."""
    for step in op.steps:
        if step.curve is not None:
            return 1 / step.curve.scale
        if step.name not in HOMOGENEOUS:
            return 1.0
    return op.y.quant.scale if op.y.quant else 1.0


class Tail:
    """Emits the steps of one operation for vectors of n lanes."""

    def __init__(self, op: Op, tables: Tables, tile: int = 1) -> None:
        self.op, self.tables, self.tile = op, tables, tile
        self.quant = op.y.quant
        self.first = self.unit = unit_of(op)
        self.constants: dict[int, str] = {}
        self.bounded = any(s.curve is not None and s.curve.last for s in op.steps)
        # What is added first, the zero point of bytes and the start of a curve, can be taken over by the bias.
        self.offset, self.folded = 0.0, None
        self.shifted = False
        first = op.steps[0] if op.steps else None
        if isinstance(op, Conv) and op.x.quant and first and first.name == "add" and isinstance(first.operand, Tensor):
            other = first.operand.quant
            if other is not None and first.operand.c == op.y.c:
                self.offset, self.folded = -other.zero * other.scale, first
        before = op.steps[1:] if self.folded else op.steps
        if isinstance(op, Conv) and op.x.quant and before and before[0].curve is not None:
            self.offset, self.shifted = self.offset + before[0].curve.shift * self.unit, True

    def prove(self, reach: float) -> None:
        """Note that values enter the steps within +-reach, in units of `unit`: whether they are proved to end within
        16 bits, so that MAGIC may round them.
        """
        if self.bounded:
            return
        for step in self.op.steps:
            if step.name == "add" and isinstance(step.operand, Tensor) and step.operand.quant:
                reach += 256 * step.operand.quant.scale / self.unit
            elif step.name == "prelu" and isinstance(step.operand, np.ndarray):
                reach *= max(1.0, float(np.abs(step.operand).max()))
            elif step.name not in ("relu", "clip"):
                return
        self.bounded = self.quant is not None and reach < BYTE_LIMIT

    def clamps(self) -> tuple[int, int] | None:
        """Return the byte bounds if the steps are only clamps of a byte output, else None."""
        if self.quant is None:
            return None
        low, high = 0, 255
        for step in self.op.steps:
            if step.name == "relu":
                low = max(low, self.quant.zero)
            elif step.name == "clip":
                low = max(low, int(np.clip(round(step.values[0] / self.quant.scale) + self.quant.zero, 0, 255)))
                high = min(high, int(np.clip(round(step.values[1] / self.quant.scale) + self.quant.zero, 0, 255)))
            else:
                return None
        return low, high

    def steps(self, code: Code, v: str, place: Place, n: int, lanes: str = "") -> None:
        """Write the steps on variable v (in units of `unit`)."""
        self.unit = self.first
        zero = self.quant.zero if self.quant is not None else 0
        for step in self.op.steps:
            if step.curve is None:
                self._step(code, step, v, place, n, lanes)
                continue
            self._curve(code, step.curve, v, n)
            assert self.quant is not None
            self.unit, zero = self.quant.scale, 0 if step.curve.last else zero
        if self.quant is not None:
            scale = self.unit / self.quant.scale
            factor, term = "" if scale == 1.0 else f" * {number(scale)}", zero + (MAGIC if self.bounded else 0)
            if factor and term:
                code.line(f"{v} = madd{n}({v}, all{n}({number(scale)}), all{n}({number(term)}));")
            elif factor or term:
                code.line(f"{v} = {v}{factor}{f' + {number(term)}' if term else ''};")
        self.unit = self.first

    def _curve(self, code: Code, curve: Curve, v: str, n: int) -> None:
        """Write a curve: the value in units of segments, the segment, and the polynomial."""
        scale = curve.scale * self.unit
        factor = "" if abs(scale - 1.0) < 1e-9 else f" * {number(scale)}"
        shift = "" if self.shifted else f" + {number(curve.shift)}"
        if self.tables.exact and factor and shift:  # rounded once, as without being exact
            code.line(f"{v} = madd{n}({v}, all{n}({number(scale)}), all{n}({number(curve.shift)}));")
        elif factor or shift:
            code.line(f"{v} = {v}{factor}{shift};")
        table = self.tables.add(curve.coefficients, "float32")
        inside = f"min{n}(max{n}({v}, all{n}(0.f)), all{n}({SEGMENTS - 1}.f))"
        if curve.last:
            code.line(f"{v} = {inside};")
            inside = v
        code.open("")
        code.line(f"const i32x{n} segment = as_int{n}({inside} + {number(MAGIC)});")
        terms = [f"lookup{n}({table} + {SEGMENTS * i}, segment)" for i in range(curve.degree + 1)]
        text = terms[-1]
        for term in terms[-2::-1]:
            text = f"madd{n}({text}, {v}, {term})" if self.tables.exact else f"({text}) * {v} + {term}"
        code.line(f"{v} = {text};")
        code.close()

    def _step(self, code: Code, step: Step, v: str, place: Place, n: int, lanes: str) -> None:
        if step.name == "save":
            code.line(f"const f32x{n} {v}_saved = {v};")
            return
        if step.name == "clip":
            low, high = (b / self.unit for b in step.values)
            if step.values[0] > -3e38:
                code.line(f"{v} = max{n}({v}, all{n}({number(low)}));")
            if step.values[1] < 3e38:
                code.line(f"{v} = min{n}({v}, all{n}({number(high)}));")
        elif step.name == "hardsigmoid":
            a, b = step.values
            code.line(f"{v} = min{n}(max{n}({v} * {number(a)} + {number(b)}, all{n}(0.f)), all{n}(1.f));")
        elif step.name == "elu":
            code.line(f"{v} = select{n}({v} < 0.f, {number(step.values[0])} * (exp{n}({v}) - 1.f), {v});")
        elif step.name in UNARY:
            code.line(f"{v} = {UNARY[step.name].format(v=v, n=n)};")
        else:
            operand, guard = self._operand(step, place, n, lanes), ""
            if isinstance(step.operand, Tensor) and 1 < step.operand.c < self.op.y.c:
                guard = f"if ({place.channel} < {step.operand.c}) "
            text = BINARY[step.name]
            if step.name == "prelu" and isinstance(step.operand, np.ndarray) and step.operand.max() <= 1.0:
                text = "max{n}({v}, {v} * {o})"
            if step.name == "add" and isinstance(step.operand, Tensor) and step.operand.quant:
                value, scale = bytes_of(step.operand, self.op.y, place, n, self.unit, step is self.folded)
                code.line(f"{guard}{v} = madd{n}({value}, all{n}({scale}), {v});")
                return
            code.line(f"{guard}{v} = {text.format(v=v, o=operand, n=n, s=v + '_saved')};")

    def _operand(self, step: Step, place: Place, n: int, lanes: str) -> str:
        operand = step.operand
        if operand is None:
            return ""
        scale = self.unit if step.name in SCALES else 1.0
        if isinstance(operand, Tensor):
            return operand_of(operand, self.op.y, place, n, scale, step is self.folded)
        if operand.size == 1:
            return f"all{n}({number(float(operand.ravel()[0]) / scale)})"
        y, key = self.op.y, id(step)
        if key not in self.constants:
            data = operand.astype(np.float64) / scale
            row = np.tile(data, (1, 1, self.tile)) if data.shape[2] > 1 else data
            self.constants[key] = self.tables.add(np.concatenate([row.ravel(), np.zeros(64)]), "float32")
        h, w, c = operand.shape
        c = c * self.tile if c > 1 else c
        place_at = " + ".join(
            t
            for t, s in (
                (f"({place.row}) * {w * c}", h > 1),
                (f"({place.column}) * {c}", w > 1),
                (place.channel, c > 1),
            )
            if s
        )
        assert (h in (1, y.h)) and (w in (1, y.w))
        return f"load{n}({self.constants[key]} + {place_at})" if c > 1 else f"all{n}({self.constants[key]}[{place_at}])"


def operand_of(x: Tensor, y: Tensor, place: Place, n: int, unit: float, folded: bool = False) -> str:
    """Return the expression of n values of tensor x at a place of y, broadcast where x is one wide, divided by unit.

    `folded`: the zero point of bytes is accounted for elsewhere.
    """
    spans = _spans(x, y)
    where = f"{at(x)} + {x.origin} + {index(x, place, spans)}"
    if x.quant is None:
        value = f"load{n}({where})" if spans[2] else f"all{n}(*({where}))"
        return value if unit == 1.0 else f"{value} * {number(1 / unit)}"
    return " * ".join(bytes_of(x, y, place, n, unit, folded))


def bytes_of(x: Tensor, y: Tensor, place: Place, n: int, unit: float, folded: bool) -> tuple[str, str]:
    """Return the two factors of `operand_of` where x is bytes: a vector and a number."""
    assert x.quant is not None
    spans = _spans(x, y)
    where = f"{at(x)} + {x.origin} + {index(x, place, spans)}"
    value = f"loadu{n}({where})" if spans[2] else f"all{n}((float)*({where}))"
    zero = x.quant.zero if not folded else 0
    return f"({value} - {number(zero)})" if zero else value, number(x.quant.scale / unit)


def _spans(x: Tensor, y: Tensor) -> tuple[bool, bool, bool]:
    """Return along which axes x has as many values as y."""
    return x.h > 1 or y.h == 1, x.w > 1 or y.w == 1, x.c > 1 or y.c == 1

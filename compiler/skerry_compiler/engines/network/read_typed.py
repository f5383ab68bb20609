"""Reading elementwise operators of any type and any broadcasting, as loops over single elements.

float32 with simple broadcasting takes the vectorised way of read_map.py instead, where that has the operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from skerry_compiler.engines.network.graph import Tensor
from skerry_compiler.engines.network.loops import Access, Loops
from skerry_compiler.engines.network.read import HALF, KINDS, Handler, Node, Reader
from skerry_compiler.engines.network.tensors import CTYPES
from skerry_compiler.engines.network.values import Value, fold, identity

Side = Value | NDArray[Any]
Text = Callable[[Node, str], str]
MOST_AXES = 24


def side(reader: Reader, node: Node, index: int) -> Side:
    """Return an input as a value or a constant array.

    Raises:
        UnsupportedError: of a type that this engine does not have.
    """
    if not node.given(index):
        raise node.fail(f"input {index} is missing")
    name = node.inputs[index]
    found: Side = reader.values[name] if name in reader.values else reader.constants[name]
    if kind_of(found) not in CTYPES or math.prod(found.shape) == 0:
        raise node.fail(f"input {index} is {kind_of(found)}{list(found.shape)}")
    return found


def kind_of(side: Side) -> str:
    """Return the type of a side."""
    return side.kind if isinstance(side, Value) else str(side.dtype)


def operand(side: Side) -> Tensor | NDArray[Any]:
    """Return a side as an operand of loops."""
    return side.tensor if isinstance(side, Value) else np.ascontiguousarray(side)


def steps_of(side: Side) -> tuple[int, ...]:
    """Return the element strides of a side on its logical axes."""
    if isinstance(side, Value):
        return side.strides
    return tuple(math.prod(side.shape[i + 1 :]) for i in range(side.ndim))


def spread(side: Side, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a side that is broadcast to a shape."""
    lead = len(shape) - len(side.shape)
    own = zip(side.shape, steps_of(side), strict=True)
    return (0,) * lead + tuple(0 if n == 1 else s for n, s in own)


def nest(
    reader: Reader, node: Node, shape: Sequence[int], order: Sequence[int], sides: Sequence[Side],
    walks: Sequence[Access | Sequence[int]], text: str, kind: str, folded: tuple[int, ...] = (), start: str = "",
    each: str = "",
) -> Value:  # fmt: skip
    """Append loops over a shape in a memory order, and inside them over the extents `folded`.

    `walks` say how each side is read: strides on the logical axes, or a whole Access in the order of the loops.
    """
    if len(shape) > MOST_AXES or math.prod(shape) * math.prod(folded) == 0:
        raise node.fail(f"a result of shape {list(shape)}")
    memory = tuple(shape[a] for a in order)
    y = Tensor(node.outputs[0], *fold(memory), kind=kind)
    found = [s if isinstance(s, Access) else Access(tuple(s[a] for a in order)) for s in walks]
    natural = tuple(math.prod(memory[i + 1 :]) for i in range(len(memory)))
    reader.add(
        Loops(
            label=node.name, y=y, dims=memory + folded, operands=[operand(s) for s in sides], access=found,
            target=Access(natural + (0,) * len(folded)), text=text, folds=len(folded), start=start, each=each,
        )
    )  # fmt: skip
    return Value(y, tuple(shape), tuple(order))


def elementwise(reader: Reader, node: Node, sides: Sequence[Side], text: str, kind: str) -> Value:
    """Append an expression of broadcast sides: {0}, {1} ... are their elements."""
    shape = np.broadcast_shapes(*(s.shape for s in sides))
    whole = [s for s in sides if isinstance(s, Value) and s.shape == shape]
    chief = next((v for v in whole if v.order != identity(len(shape))), whole[0] if whole else None)
    order = chief.order if chief else identity(len(shape))
    return nest(reader, node, shape, order, sides, [spread(s, shape) for s in sides], text, kind)


def cast_text(kind: str, to: str) -> str:
    """Return the expression that brings an element of one type to another."""
    if to == "bool":
        return "({0} != 0)"
    if kind.startswith("float") and not to.startswith("float"):
        return f"({CTYPES[to]})fn_whole((double){{0}})"
    return "{0}" if CTYPES[kind] == CTYPES[to] else f"({CTYPES[to]}){{0}}"


def cast(reader: Reader, node: Node) -> None:
    """Cast and CastLike; to integers towards zero."""
    if node.op_type == "CastLike":
        to = reader.kind(node, 1)
        if node.inputs[0] in reader.constants:
            reader.constants[node.outputs[0]] = reader.constants[node.inputs[0]].astype(to)
            return
    else:
        number = int(node.attributes["to"])
        if number == HALF and node.outputs[0] in reader.halves:
            number = int(onnx.TensorProto.FLOAT)  # rounded while it is given to the caller
        if number not in KINDS:
            raise node.fail(f"a cast to type {number}")
        to = KINDS[number]
    reader.view(node, converted(reader, node, reader.typed(node, 0), to))


def converted(reader: Reader, node: Node, value: Value, to: str) -> Value:
    """Return a value as another type."""
    if value.kind == to:
        return value
    return elementwise(reader, node, [value], cast_text(value.kind, to), to)


def binary_text(op: str, kind: str) -> str:
    """Return the expression of an arithmetic operator of one type. Integers wrap around, without undefined cases."""
    c = CTYPES[kind]
    if kind.startswith("float"):
        sign = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "Sum": "+"}.get(op)
    else:
        if op == "Div":
            return f"({c}){'fn_udiv' if kind.startswith('u') else 'fn_div'}({{0}}, {{1}})"
        sign = {"Add": "+", "Sub": "-", "Mul": "*", "Sum": "+"}.get(op)
        if sign:
            return f"({c})((uint64_t){{0}} {sign} (uint64_t){{1}})"
    if sign:
        return f"({{0}} {sign} {{1}})"
    order = {"Min": "<", "Max": ">"}[op]
    return f"(({{0}} {order} {{1}} || {{0}} != {{0}}) ? {{0}} : {{1}})"


def arithmetic(reader: Reader, node: Node) -> None:
    """Add, Sub, Mul, Div, Min, Max, Sum and Mean of any one type."""
    sides = [side(reader, node, i) for i in range(len(node.inputs))]
    kind = kind_of(sides[0])
    op = "Add" if node.op_type == "Mean" else node.op_type
    total: Side = sides[0]
    for other in sides[1:]:
        total = elementwise(reader, node, [total, other], binary_text(op, kind), kind)
    if node.op_type == "Mean":
        total = elementwise(reader, node, [total], f"({{0}} / ({CTYPES[kind]}){len(sides)})", kind)
    if not isinstance(total, Value):
        total = reader.typed(node, 0)
    reader.view(node, total)


def expression(text: Text | str, kind: str | None = None) -> Handler:
    """Return the handler of an operator that is one expression of its inputs; `kind` of the result, else theirs."""

    def handle(reader: Reader, node: Node) -> None:
        sides = [side(reader, node, i) for i in range(len(node.inputs))]
        own = kind_of(sides[0])
        said = text if isinstance(text, str) else text(node, own)
        reader.view(node, elementwise(reader, node, sides, said, kind or own))

    return handle


def modulo(node: Node, kind: str) -> str:
    """Mod."""
    c = CTYPES[kind]
    if kind.startswith("float"):
        if not node.attributes.get("fmod", 0):
            raise node.fail("fmod=0 on real numbers")
        return f"({c})fn_fmod({{0}}, {{1}})"
    if kind.startswith("u"):
        return f"({c})({{0}} - fn_udiv({{0}}, {{1}}) * {{1}})"
    return f"({c}){'fn_rem' if node.attributes.get('fmod', 0) else 'fn_mod'}({{0}}, {{1}})"


def power(reader: Reader, node: Node) -> None:
    """Pow of any types; the result has the base's."""
    base, exponent = side(reader, node, 0), side(reader, node, 1)
    kind, c = kind_of(base), CTYPES[kind_of(base)]
    if not kind.startswith("float") and not kind_of(exponent).startswith("float"):
        text = f"({c})fn_ipow({{0}}, {{1}})"
    elif kind.startswith("float"):
        text = f"({c})fn_pow({{0}}, {{1}})"
    else:
        text = f"({c})fn_whole(fn_pow((double){{0}}, {{1}}))"
    reader.view(node, elementwise(reader, node, [base, exponent], text, kind))


def where(reader: Reader, node: Node) -> None:
    """Where."""
    sides = [side(reader, node, i) for i in range(3)]
    reader.view(node, elementwise(reader, node, sides, "({0} ? {1} : {2})", kind_of(sides[1])))


def clip(reader: Reader, node: Node) -> None:
    """Clip of any type, by bounds known at run time too."""
    value = side(reader, node, 0)
    sides, text = [value], "{0}"
    for index, order in ((1, "<"), (2, ">")):
        if node.given(index):
            sides.append(side(reader, node, index))
            bound = f"{{{len(sides) - 1}}}"
            text = f"({text} {order} {bound} ? {bound} : {text})"
    reader.view(node, elementwise(reader, node, sides, text, kind_of(value)))


def shift(node: Node, kind: str) -> str:
    """BitShift: by the width or more leaves only the sign."""
    bits, c = 8 * np.dtype(kind).itemsize, CTYPES[kind]
    if node.attributes["direction"] == "LEFT":
        return f"({c})((uint64_t){{1}} < {bits} ? (uint64_t){{0}} << {{1}} : 0)"
    return f"({c})((uint64_t){{1}} < {bits} ? {{0}} >> {{1}} : {{0}} < 0 ? -1 : 0)"


def wide(text: str) -> Text:
    """Return an expression computed in double."""
    return lambda node, kind: f"({CTYPES[kind]})({text.replace('{0}', '(double){0}')})"


def is_infinite(node: Node, kind: str) -> str:
    """IsInf."""
    high, low = (int(node.attributes.get(f"detect_{name}", 1)) for name in ("positive", "negative"))
    return f"(({high} && {{0}} == __builtin_inf()) || ({low} && {{0}} == -__builtin_inf()))"


def negated(node: Node, kind: str) -> str:
    """Neg."""
    return "(-{0})" if kind.startswith("float") else f"({CTYPES[kind]})(0 - (uint64_t){{0}})"


def absolute(node: Node, kind: str) -> str:
    """Abs."""
    return "{0}" if kind[0] in "ub" else f"({{0}} < 0 ? {negated(node, kind)} : {{0}} + 0)"


COMPARED = {
    name: expression(f"({{0}} {sign} {{1}})", "bool")
    for name, sign in (
        ("Equal", "=="), ("Less", "<"), ("Greater", ">"), ("LessOrEqual", "<="), ("GreaterOrEqual", ">="),
        ("And", "&&"), ("Or", "||"), ("Xor", "!="),
    )
}  # fmt: skip
HANDLERS: dict[str, Handler] = {
    **COMPARED,
    "Cast": cast,
    "CastLike": cast,
    "Not": expression("(!{0})", "bool"),
    "Where": where,
    "Mod": expression(modulo),
    "BitShift": expression(shift),
    **{
        f"Bitwise{name}": expression(lambda node, kind, sign=sign: f"({CTYPES[kind]})({{0}} {sign} {{1}})")  # type: ignore[misc]
        for name, sign in (("And", "&"), ("Or", "|"), ("Xor", "^"))
    },
    "BitwiseNot": expression(lambda node, kind: f"({CTYPES[kind]})~{{0}}"),
    "IsNaN": expression("({0} != {0})", "bool"),
    "IsInf": expression(is_infinite, "bool"),
    "Sign": expression("({0} > 0 ? 1 : {0} < 0 ? -1 : 0)"),
    **{
        name: expression(wide(f"fn_{name.lower()}({{0}})"))
        for name in (
            "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Ceil", "Floor",
            "Round",
        )
    },
}  # fmt: skip
# What float32 has in read_map.py, for all other types.
OTHER: dict[str, Handler] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean"), arithmetic),
    **{name: expression(wide(f"fn_{name.lower()}({{0}})")) for name in ("Exp", "Log", "Sqrt", "Tanh", "Erf")},
    "Neg": expression(negated),
    "Abs": expression(absolute),
    "Pow": power,
    "Clip": clip,
    "Relu": expression("({0} > 0 ? {0} : 0)"),
    "Reciprocal": expression("(1 / {0})"),
    "Sigmoid": expression(wide("1. / (1. + fn_exp(-{0}))")),
}

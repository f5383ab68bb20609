"""Reading models that are quantised already: exactly what their integers mean, in whole numbers or float32."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_typed import Side, elementwise, kind_of, side
from skerry_compiler.engines.network.read_window import conv_any, each_image
from skerry_compiler.engines.network.tensors import CTYPES
from skerry_compiler.engines.network.values import Value


def aligned(reader: Reader, node: Node, index: int, shape: tuple[int, ...]) -> Side:
    """Return a scale or zero point for every element or along `axis`, ready to be broadcast."""
    given = side(reader, node, index)
    axis = int(node.attributes.get("axis", 1))
    if math.prod(given.shape) == 1:
        target: tuple[int, ...] = ()
    elif len(given.shape) == 1:
        axis %= len(shape)
        target = tuple(n if a == axis else 1 for a, n in enumerate(shape))
        if given.shape[0] != shape[axis]:
            raise node.fail(f"{given.shape[0]} scales for {shape[axis]} places")
    else:
        raise node.fail("blocks of elements; scales for the tensor or along one axis are supported")
    if isinstance(given, Value):
        return reader.layouts.reshaped(given, target)
    return given.reshape(target)


def bounds(kind: str) -> tuple[int, int]:
    """Return the range of an integer type."""
    return int(np.iinfo(kind).min), int(np.iinfo(kind).max)


def quantize(reader: Reader, node: Node) -> None:
    """QuantizeLinear: round(x / scale) + zero, to even, saturated."""
    x = reader.value(node, 0)
    kind = reader.kind(node, 2) if node.given(2) else "uint8"
    if not node.given(2) and node.attributes.get("output_dtype", 0):
        kind = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}.get(int(node.attributes["output_dtype"]), "")
    if kind not in ("uint8", "int8", "uint16", "int16"):
        raise node.fail("its type; 8 and 16 bits are supported")
    sides: list[Side] = [x, aligned(reader, node, 1, x.shape)]
    if node.given(2):
        sides.append(aligned(reader, node, 2, x.shape))
    low, high = bounds(kind)
    zero = " + {2}" if node.given(2) else ""
    text = f"({CTYPES[kind]})fn_limit(fn_near({{0}} / {{1}}){zero}, {low}, {high})"
    value = elementwise(reader, node, sides, text, kind)
    reader.rounded[id(value.tensor)] = (value, x, sides[1], sides[2] if node.given(2) else None)
    reader.view(node, value)


def dequantize(reader: Reader, node: Node) -> None:
    """DequantizeLinear: (x - zero) * scale; right behind its counterpart both become one rounding of float32."""
    x = side(reader, node, 0)
    kind = kind_of(x)
    scale = aligned(reader, node, 1, x.shape)
    if kind_of(scale) != "float32" or kind not in ("uint8", "int8", "uint16", "int16", "int32"):
        raise node.fail(f"{kind} by {kind_of(scale)}; integers by float32 are supported")
    zero = aligned(reader, node, 2, x.shape) if node.given(2) else None
    sides = [x, scale, *([zero] if zero is not None else [])]
    less = " - (int32_t){2}" if zero is not None else ""
    known = reader.rounded.get(id(x.tensor)) if isinstance(x, Value) else None
    if known is not None and known[0] == x and _equal(known[2], scale) and _equal(known[3], zero):
        low, high = bounds(kind)
        add = less.replace("-", "+")
        sides[0] = known[1]
        text = f"(float)(fn_limit(fn_near({{0}} / {{1}}){add}, {low}, {high}){less}) * {{1}}"
    else:
        text = f"(float)((int32_t){{0}}{less}) * {{1}}"
    reader.view(node, elementwise(reader, node, sides, text, "float32"))


def _equal(one: Side | None, two: Side | None) -> bool:
    if one is None or two is None:
        return one is two
    return isinstance(one, np.ndarray) and isinstance(two, np.ndarray) and np.array_equal(one, two)


def centred(reader: Reader, node: Node, index: int, zero: int) -> str:
    """Name an input less its zero point, as whole numbers in float32; returns the name."""
    name = f"{node.outputs[0]}/{index}"
    if node.inputs[index] in reader.constants:
        array = reader.constants[node.inputs[index]].astype(np.float32)
        point = reader.constant(node, zero).astype(np.float32) if node.given(zero) else np.float32(0)
        point = point.reshape(-1, *(1,) * (array.ndim - 1)) if point.size > 1 else point.reshape(())
        reader.constants[name] = array - point
        return name
    sides = [side(reader, node, index)] + ([_point(reader, node, zero)] if node.given(zero) else [])
    text = "(float)((int32_t){0} - (int32_t){1})" if len(sides) > 1 else "(float){0}"
    reader.values[name] = elementwise(reader, node, sides, text, "float32")
    return name


def _point(reader: Reader, node: Node, index: int) -> Side:
    given = side(reader, node, index)
    if math.prod(given.shape) != 1:
        raise node.fail("several zero points of activations")
    return given.reshape(()) if isinstance(given, np.ndarray) else reader.layouts.reshaped(given, ())


def conv_integer(reader: Reader, node: Node) -> None:
    """ConvInteger and QLinearConv: sums are exact in float32 as long as they stay below 2^24."""
    qlinear = node.op_type == "QLinearConv"
    at, zeros = ((0, 3), (2, 5)) if qlinear else ((0, 1), (2, 3))
    weight = reader.constant(node, at[1])
    if weight[0].size * 255 * 255 >= 1 << 24:
        raise node.fail("sums beyond 24 bits; smaller kernels are supported")
    names = [centred(reader, node, i, z) for i, z in zip(at, zeros, strict=True)]
    if qlinear and node.given(8):
        names.append(f"{node.outputs[0]}/bias")
        reader.constants[names[2]] = reader.constant(node, 8).astype(np.float32)
    total = f"{node.outputs[0]}/sums"
    each_image(conv_any)(reader, dataclasses.replace(node, inputs=tuple(names), outputs=(total,)))
    value = reader.values[total]
    if not qlinear:
        reader.view(node, elementwise(reader, node, [value], "(int32_m)fn_near({0})", "int32"))
        return
    scales = [reader.constant(node, i).astype(np.float32) for i in (1, 4, 6)]
    factor = (scales[0] * scales[1] / scales[2]).reshape(-1, *(1,) * (len(value.shape) - 2))
    kind, zero = reader.kind(node, 7), side(reader, node, 7)
    text = "({c})fn_limit(fn_near({{0}} * {{1}}) + {{2}}, {low}, {high})"
    low, high = bounds(kind)
    said = text.format(c=CTYPES[kind], low=low, high=high)
    reader.view(node, elementwise(reader, node, [value, factor, zero], said, kind))


HANDLERS: dict[str, Handler] = {
    "QuantizeLinear": quantize, "DequantizeLinear": dequantize, "ConvInteger": conv_integer,
    "QLinearConv": conv_integer,
}  # fmt: skip

"""Reading Resize and Upsample: every mode and coordinate transformation, as weights computed in advance.

The rules are those of ONNX's reference (onnx/reference/ops/op_resize.py). Images of a batch of one by nearest or
linear take the way of `Resize`; everything else mixes one axis after the other.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.graph import Resize, Tensor
from skerry_compiler.engines.network.loops import Mix
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_linear import image, image_shape
from skerry_compiler.engines.network.read_typed import elementwise
from skerry_compiler.engines.network.values import Value, channels_last, fold

ROUNDING = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda v: math.ceil(v - 0.5),
    "round_prefer_ceil": lambda v: math.floor(v + 0.5),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """How one axis is resized: `span` is the part of it that tf_crop_and_resize looks at."""

    size: int
    out: int
    scale: float
    span: tuple[float, float] = (0.0, 1.0)

    def coordinate(self, node: Node, i: int) -> float:
        """Return where in the source an output index lies."""
        default = "asymmetric" if node.opset < 11 else "half_pixel"
        mode = node.attributes.get("coordinate_transformation_mode", default)
        n, out, scale = self.size, self.out, self.scale
        low, high = self.span
        shift = n / 2 * (1 - out / (n * scale)) if mode == "half_pixel_symmetric" else 0.0
        found = {
            "asymmetric": i / scale,
            "half_pixel": (i + 0.5) / scale - 0.5,
            "half_pixel_symmetric": shift + (i + 0.5) / scale - 0.5,
            "tf_half_pixel_for_nn": (i + 0.5) / scale,
            "pytorch_half_pixel": (i + 0.5) / scale - 0.5 if out > 1 else 0.0,
            "align_corners": i * (n - 1) / (out - 1) if out > 1 else 0.0,
            "tf_crop_and_resize": low * (n - 1) + i * (high - low) * (n - 1) / (out - 1)
            if out > 1
            else 0.5 * (low + high) * (n - 1),
        }.get(mode)
        if found is None:
            raise node.fail(f"coordinate_transformation_mode {mode}")
        return found


def taps(node: Node, axis: Axis) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the source places and their shares [out, taps] of every output index."""
    mode = node.attributes.get("mode", "nearest")
    sharp = min(axis.scale, 1.0) if node.attributes.get("antialias", 0) else 1.0
    places, shares = [], []
    for i in range(axis.out):
        at = axis.coordinate(node, i)
        if mode == "nearest":
            nearest = node.attributes.get("nearest_mode", "floor" if node.opset < 11 else "round_prefer_floor")
            places.append([min(max(ROUNDING[nearest](at), 0), axis.size - 1)])
            shares.append([1.0])
            continue
        base = math.floor(at)
        reach = (1 if mode == "linear" else 2) / sharp
        around = list(range(math.floor(-reach) + 1, math.ceil(reach) + 1))
        a = float(node.attributes.get("cubic_coeff_a", -0.5 if node.opset < 11 else -0.75))
        weights = np.array([kernel(mode, (k - (at - base)) * sharp, a) for k in around])
        index = np.array([base + k for k in around])
        if node.attributes.get("exclude_outside", 0):
            weights = np.where((index >= 0) & (index < axis.size), weights, 0.0)
        if sharp < 1.0 or node.attributes.get("exclude_outside", 0):
            weights = weights / weights.sum()
        places.append(np.clip(index, 0, axis.size - 1).tolist())
        shares.append(weights.tolist())
    return np.array(places, np.int32), np.array(shares, np.float32)


def kernel(mode: str, x: float, a: float) -> float:
    """Return the weight of a sample at distance x, linear or cubic (Keys, 1981)."""
    x = abs(x)
    if mode == "linear":
        return max(1.0 - x, 0.0)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


def resize(reader: Reader, node: Node) -> None:
    """Resize and Upsample by constant scales or sizes."""
    value = reader.typed(node, 0)
    mode = {"bilinear": "linear"}.get(node.attributes.get("mode", "nearest"), node.attributes.get("mode", "nearest"))
    node = dataclasses.replace(node, attributes={**node.attributes, "mode": mode})
    if mode not in ("nearest", "linear", "cubic"):
        raise node.fail(f"mode {mode}")
    axes = _axes(reader, node, value)
    if value.kind != "float32":
        raise node.fail(f"{value.kind}; float32 is supported here")
    plain = not any(node.attributes.get(k, 0) for k in ("antialias", "exclude_outside"))
    outside = node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    single = len(value.shape) in (3, 4) and value.shape[0] == 1 and all(a >= 2 for a in axes)
    if single and plain and not outside and mode != "cubic":
        _image(reader, node, value, axes)
        return
    made = value
    for number, axis in axes.items():
        made = _mixed(reader, node, made, number, *taps(node, axis))
    if outside:
        made = _extrapolated(reader, node, made, axes)
    reader.view(node, made)


def _axes(reader: Reader, node: Node, value: Value) -> dict[int, Axis]:
    """Return the axes that change."""
    rank = len(value.shape)
    chosen = [int(a) % rank for a in node.attributes.get("axes") or range(rank)]
    place = 1 if node.op_type == "Upsample" or node.opset < 11 else 2
    extents = [value.shape[a] for a in chosen]
    if node.given(3):
        sizes = [int(n) for n in reader.constant(node, 3).tolist()]
        policy = node.attributes.get("keep_aspect_ratio_policy", "stretch")
        scales = [o / n for o, n in zip(sizes, extents, strict=True)]
        if policy != "stretch":
            one = (min if policy == "not_larger" else max)(scales)
            sizes, scales = [math.floor(one * n + 0.5) for n in extents], [one] * len(extents)
    else:
        given = node.attributes.get("scales")
        scales = [float(s) for s in (reader.constant(node, place).tolist() if given is None else given)]
        sizes = [math.floor(n * s + 1e-9) for n, s in zip(extents, scales, strict=True)]
    spans = [(0.0, 1.0)] * len(chosen)
    if node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        roi = reader.constant(node, 1).ravel().tolist()
        spans = list(zip(roi[: len(chosen)], roi[len(chosen) :], strict=True))
    if min(sizes) < 1:
        raise node.fail("its output is empty")
    aligned = node.attributes.get("coordinate_transformation_mode") == "align_corners"
    if aligned and any(abs(n * s - o) > 1e-4 for n, s, o in zip(extents, scales, sizes, strict=True)):
        raise node.fail("align_corners by a scale that gives no whole size, which runtimes read differently")
    found = {a: Axis(n, o, s, p) for a, n, o, s, p in zip(chosen, extents, sizes, scales, spans, strict=True)}
    return {a: axis for a, axis in found.items() if (axis.out, axis.scale, axis.span) != (axis.size, 1.0, (0.0, 1.0))}


def _image(reader: Reader, node: Node, value: Value, axes: dict[int, Axis]) -> None:
    x, rank = image(reader, node, value)
    pairs: list[tuple[tuple[int, int, float], ...]] = []
    for number in range(2, 4):
        axis = axes.get(number - (2 - rank), Axis(x.h if number == 2 else x.w, x.h if number == 2 else x.w, 1.0))
        if rank == 1 and number == 2:
            pairs.append(((0, 0, 0.0),))
            continue
        places, shares = taps(node, axis)
        pairs.append(tuple((int(p[0]), int(p[-1]), float(s[-1]) if len(s) > 1 else 0.0)
                           for p, s in zip(places, shares, strict=True)))  # fmt: skip
    y = Tensor(node.outputs[0], len(pairs[0]), len(pairs[1]), x.c)
    reader.add(Resize(label=node.name, x=x, y=y, rows=pairs[0], columns=pairs[1]))
    reader.give(node, y, image_shape(rank, y.h, y.w, y.c), channels_last(rank + 2))


def _mixed(
    reader: Reader, node: Node, value: Value, axis: int, places: NDArray[np.int32], shares: NDArray[np.float32]
) -> Value:
    """Append the mixing of one axis."""
    memory, place = value.memory, value.order.index(axis)
    dims = (math.prod(memory[:place]), memory[place], math.prod(memory[place + 1 :]))
    shape = tuple(len(places) if a == axis else n for a, n in enumerate(value.shape))
    y = Tensor(f"{node.outputs[0]}/{axis}", *fold(tuple(shape[a] for a in value.order)))
    reader.add(Mix(label=node.name, x=value.tensor, y=y, dims=dims, places=places, shares=shares))
    return Value(y, shape, value.order)


def _extrapolated(reader: Reader, node: Node, value: Value, axes: dict[int, Axis]) -> Value:
    """Replace what lies outside of the source by the extrapolation value."""
    outside = np.zeros(value.shape, bool)
    for number, axis in axes.items():
        at = np.array([axis.coordinate(node, i) for i in range(axis.out)])
        row = (at < 0) | (at > axis.size - 1)
        outside |= row.reshape([-1 if a == number else 1 for a in range(len(value.shape))])
    fill = np.array(node.attributes.get("extrapolation_value", 0.0), np.float32)
    return elementwise(reader, node, [value, outside, fill], "({1} ? {2} : {0})", "float32")


HANDLERS: dict[str, Handler] = {"Resize": resize, "Upsample": resize}

"""Reading pools, reductions, normalisations, softmax and resizing."""

from __future__ import annotations

import math

import numpy as np

from skerry_compiler.engines.network.graph import Normalise, Pool, Reduce, Resize, Softmax, Step, Tensor
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_linear import border, image, image_shape, spatial
from skerry_compiler.engines.network.values import Value, channels_last, identity, significant


def pool(reader: Reader, node: Node) -> None:
    """MaxPool and AveragePool with windows, strides, dilations, pads and ceil_mode."""
    x, rank = image(reader, node, reader.value(node, 0))
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.fail("indices of the maxima")
    kernel = spatial(node.attributes["kernel_shape"], rank, 1)
    stride = spatial(node.attributes.get("strides"), rank, 1)
    dilation = spatial(node.attributes.get("dilations"), rank, 1)
    pads = list(border(node, (x.h, x.w), kernel, stride, dilation, rank))
    size = []
    for i, n in enumerate((x.h, x.w)):
        spare = n + pads[i] + pads[i + 2] - dilation[i] * (kernel[i] - 1) - 1
        out = spare // stride[i] + 1
        if node.attributes.get("ceil_mode", 0):
            out = -(-spare // stride[i]) + 1
            out -= (out - 1) * stride[i] >= n + pads[i]  # a window must start inside the input
        size.append(out)
    if min(size) < 1:
        raise node.fail("its output is empty")
    counted = bool(node.attributes.get("count_include_pad", 0))
    mean = node.op_type == "AveragePool"
    y = Tensor(node.outputs[0], size[0], size[1], x.c)
    border4 = (pads[0], pads[1], pads[2], pads[3])
    op = Pool(
        label=node.name,
        x=x,
        y=y,
        mean=mean,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        pads=border4,
        counted=counted,
    )
    reader.add(op)
    reader.give(node, y, image_shape(rank, y.h, y.w, y.c), channels_last(rank + 2))


def reduced(reader: Reader, node: Node, value: Value, axes: list[int], keep: bool, how: str) -> Value:
    """Reduce some axes of a value."""
    rank = len(value.shape)
    kept = [a for a in range(rank) if a not in axes]
    shape = tuple(1 if a in axes else n for a, n in enumerate(value.shape))
    big = significant(value.shape, value.order)
    inner = [a for a in big if a in kept]
    if inner and big[-len(inner) :] == inner and len(inner) == 1:  # only the innermost axis stays
        x = value.tensor
        c = value.shape[inner[0]]
        if x.c != c:
            x = reader.layouts.shaped(x, 1, x.elements // c, c)
        y, axis = Tensor(node.outputs[0], 1, 1, c), "hw"
    else:
        order = tuple([a for a in value.order if a in kept] + [a for a in value.order if a in axes])
        count = math.prod(value.shape[a] for a in axes)
        rows = math.prod(value.shape[a] for a in kept)
        x = reader.layouts.tensor(value, order, (1, rows, count))
        value = Value(x, value.shape, order)
        y, axis = Tensor(node.outputs[0], 1, rows, 1), "c"
    reader.add(Reduce(label=node.name, x=x, y=y, how=how, axis=axis))
    out = Value(y, shape, value.order)
    return out if keep else reader.layouts.reshaped(out, tuple(value.shape[a] for a in kept))


def reduce_handler(how: str) -> Handler:
    """Return the handler of a reduction."""

    def handle(reader: Reader, node: Node) -> None:
        value = reader.value(node, 0)
        axes = node.attributes.get("axes")
        if axes is None and node.given(1):
            axes = reader.constant(node, 1).tolist()
        rank = len(value.shape)
        if not axes and node.attributes.get("noop_with_empty_axes", 0):
            reader.view(node, value)
            return
        chosen = sorted(a % rank for a in axes) if axes else list(range(rank))
        reader.view(node, reduced(reader, node, value, chosen, bool(node.attributes.get("keepdims", 1)), how))

    return handle


def global_pool(how: str) -> Handler:
    """Return the handler of a pool over all pixels."""

    def handle(reader: Reader, node: Node) -> None:
        value = reader.value(node, 0)
        reader.view(node, reduced(reader, node, value, list(range(2, len(value.shape))), True, how))

    return handle


def softmax(reader: Reader, node: Node) -> None:
    """Softmax and LogSoftmax over any axis; before opset 13 over all axes from `axis` on."""
    value = reader.value(node, 0)
    rank = len(value.shape)
    axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1) % rank
    if node.opset < 13 and math.prod(value.shape[axis + 1 :]) != 1:
        value = reader.layouts.ordered(value, identity(rank))
        order, c = identity(rank), math.prod(value.shape[axis:])
    else:
        order = (*(a for a in value.order if a != axis), axis)
        c = value.shape[axis]
    ordered = reader.layouts.ordered(value, order)
    x = ordered.tensor
    x = x if x.c == c else reader.layouts.shaped(x, 1, x.elements // c, c)
    y = Tensor(node.outputs[0], x.h, x.w, x.c)
    reader.add(Softmax(label=node.name, x=x, y=y, log=node.op_type == "LogSoftmax"))
    reader.give(node, y, value.shape, ordered.order)


def layer_norm(reader: Reader, node: Node) -> None:
    """LayerNormalization over the last axes with constant scale and bias."""
    value = reader.value(node, 0)
    rank = len(value.shape)
    if any(node.outputs[1:]):
        raise node.fail("outputs of mean and deviation")
    axis = node.attributes.get("axis", -1) % rank
    c = math.prod(value.shape[axis:])
    order = value.order if value.order[axis:] == tuple(range(axis, rank)) else identity(rank)
    x = reader.layouts.tensor(value, order, (1, math.prod(value.shape[:axis]), c))
    steps = [Step("mul", reader.constant(node, 1).astype(np.float32).reshape(1, 1, c))]
    if node.given(2):
        steps.append(Step("add", reader.constant(node, 2).astype(np.float32).reshape(1, 1, c)))
    y = Tensor(node.outputs[0], x.h, x.w, x.c)
    reader.add(Normalise(label=node.name, x=x, y=y, epsilon=node.attributes.get("epsilon", 1e-5), steps=steps))
    reader.give(node, y, value.shape, order)


def _coordinates(node: Node, size: int, out: int, scale: float, linear: bool) -> tuple[tuple[int, int, float], ...]:
    """Return for each output index the two source indices and the share of the second."""
    mode = node.attributes.get("coordinate_transformation_mode", "asymmetric" if node.opset < 11 else "half_pixel")
    nearest = node.attributes.get("nearest_mode", "floor" if node.opset < 11 else "round_prefer_floor")
    rounding = {
        "floor": math.floor,
        "ceil": math.ceil,
        "round_prefer_floor": lambda v: math.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: math.floor(v + 0.5),
    }
    result = []
    for i in range(out):
        at = {
            "asymmetric": i / scale,
            "half_pixel": (i + 0.5) / scale - 0.5,
            "pytorch_half_pixel": (i + 0.5) / scale - 0.5 if out > 1 else 0.0,
            "align_corners": i * (size - 1) / (out - 1) if out > 1 else 0.0,
        }.get(mode)
        if at is None:
            raise node.fail(f"coordinate_transformation_mode {mode}")
        if not linear:
            near = min(max(rounding[nearest](at), 0), size - 1)
            result.append((near, near, 0.0))
            continue
        at = min(max(at, 0.0), float(size - 1))
        low = min(int(at), size - 1)
        result.append((low, min(low + 1, size - 1), at - low))
    return tuple(result)


def resize(reader: Reader, node: Node) -> None:
    """Resize and Upsample of images: nearest and linear, by constant scales or sizes."""
    value = reader.value(node, 0)
    mode = node.attributes.get("mode", "nearest")
    if mode not in ("nearest", "linear") or node.attributes.get("antialias", 0) or node.attributes.get("axes"):
        raise node.fail(f"mode {mode}, antialiasing or axes")
    if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.fail("keep_aspect_ratio_policy")
    place = 1 if node.op_type == "Upsample" or node.opset < 11 else 2
    if node.op_type == "Upsample" and "scales" in node.attributes:
        scales = [float(s) for s in node.attributes["scales"]]
    elif node.given(3):
        sizes = reader.constant(node, 3).tolist()
        scales = [o / n for o, n in zip(sizes, value.shape, strict=True)]
    else:
        scales = [float(s) for s in reader.constant(node, place).tolist()]
    out = [math.floor(n * s + 1e-9) for n, s in zip(value.shape, scales, strict=True)]
    if out[:2] != list(value.shape[:2]):
        raise node.fail("another number of channels")
    x, rank = image(reader, node, value)
    linear = mode == "linear"
    rows = _coordinates(node, x.h, out[2], scales[2], linear) if rank == 2 else ((0, 0, 0.0),)
    columns = _coordinates(node, x.w, out[-1], scales[-1], linear)
    y = Tensor(node.outputs[0], len(rows), len(columns), x.c)
    reader.add(Resize(label=node.name, x=x, y=y, rows=rows, columns=columns))
    reader.give(node, y, image_shape(rank, y.h, y.w, y.c), channels_last(rank + 2))


HANDLERS: dict[str, Handler] = {
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalAveragePool": global_pool("mean"),
    "GlobalMaxPool": global_pool("max"),
    "ReduceMean": reduce_handler("mean"),
    "ReduceSum": reduce_handler("sum"),
    "ReduceMax": reduce_handler("max"),
    "ReduceMin": reduce_handler("min"),
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "LayerNormalization": layer_norm,
    "Resize": resize,
    "Upsample": resize,
}

"""Reading pools, reductions, normalisations, softmax and resizing."""

from __future__ import annotations

import dataclasses
import math

from skerry_compiler.engines.network.graph import Pool, Reduce, Softmax, Tensor
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_linear import border, image, image_shape, spatial
from skerry_compiler.engines.network.values import Value, channels_last, identity, significant


def _windows(node: Node, n: int, before: int, after: int, kernel: int, stride: int, dilation: int) -> int:
    """Return how many windows fit along an axis."""
    spare = n + before + after - dilation * (kernel - 1) - 1
    if not node.attributes.get("ceil_mode", 0):
        return spare // stride + 1
    out = -(-spare // stride) + 1
    return out - ((out - 1) * stride >= n + before)  # a window must start inside the input


def axis_border(node: Node, axis: int, rank: int, n: int, kernel: int) -> tuple[int, int]:
    """Return the padding of one of the spatial axes."""
    stride, dilation = (int((node.attributes.get(k) or [1] * rank)[axis]) for k in ("strides", "dilations"))
    given = node.attributes.get("pads")
    one = {**node.attributes, "pads": [given[axis], given[axis + rank]] if given else None}
    found = border(dataclasses.replace(node, attributes=one), (1, n), (1, kernel), (1, stride), (1, dilation), 1)
    return found[1], found[3]


def pooled_size(node: Node, axis: int, rank: int, n: int) -> tuple[int, int, int, tuple[int, int]]:
    """Return the output extent, stride, dilation and padding of a pool along one of its axes."""
    kernel = int(node.attributes["kernel_shape"][axis])
    stride, dilation = (int((node.attributes.get(k) or [1] * rank)[axis]) for k in ("strides", "dilations"))
    pads = axis_border(node, axis, rank, n, kernel)
    size = _windows(node, n, *pads, kernel, stride, dilation)
    if size < 1:
        raise node.fail("its output is empty")
    return size, stride, dilation, pads


def pool(reader: Reader, node: Node) -> None:
    """MaxPool and AveragePool with windows, strides, dilations, pads and ceil_mode."""
    x, rank = image(reader, node, reader.value(node, 0))
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.fail("indices of the maxima")
    kernel = spatial(node.attributes["kernel_shape"], rank, 1)
    stride = spatial(node.attributes.get("strides"), rank, 1)
    dilation = spatial(node.attributes.get("dilations"), rank, 1)
    pads = list(border(node, (x.h, x.w), kernel, stride, dilation, rank))
    size = [
        _windows(node, n, pads[i], pads[i + 2], kernel[i], stride[i], dilation[i]) for i, n in enumerate((x.h, x.w))
    ]
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


HANDLERS: dict[str, Handler] = {
    "GlobalAveragePool": global_pool("mean"),
    "GlobalMaxPool": global_pool("max"),
    "ReduceMean": reduce_handler("mean"),
    "ReduceSum": reduce_handler("sum"),
    "ReduceMax": reduce_handler("max"),
    "ReduceMin": reduce_handler("min"),
    "Softmax": softmax,
    "LogSoftmax": softmax,
}

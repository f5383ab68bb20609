"""Reading what slides windows over images: transposed convolutions, volumes, pools of any rank; batches of images."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from skerry_compiler.engines.network.graph import Array, Box, Conv, Depthwise, Move, Pool, Step, Tensor
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.read_linear import conv, image
from skerry_compiler.engines.network.read_map import mapped
from skerry_compiler.engines.network.read_pool import axis_border, pool, pooled_size
from skerry_compiler.engines.network.read_shape import along, joined
from skerry_compiler.engines.network.read_typed import elementwise
from skerry_compiler.engines.network.values import Value, channels_last, identity

MOST_IMAGES = 64


def each_image(handler: Handler) -> Handler:
    """Return a handler of any batch from one of a single image: the images are read one after the other."""

    def handle(reader: Reader, node: Node) -> None:
        value = reader.value(node, 0)
        count = value.shape[0]
        if count == 1:
            handler(reader, node)
            return
        if count > MOST_IMAGES:
            raise node.fail(f"a batch of {count}; up to {MOST_IMAGES} is supported")
        made = []
        for i, part in enumerate(_images(reader, node, value)):
            name = f"{node.inputs[0]}/{i}"
            reader.values[name] = part
            inner = dataclasses.replace(node, inputs=(name, *node.inputs[1:]), outputs=(f"{node.outputs[0]}/{i}",))
            handler(reader, inner)
            made.append(reader.values[inner.outputs[0]])
        whole = joined(reader, node, made, 0)
        reader.parts[id(whole.tensor)] = (whole, made)
        reader.view(node, whole)

    return handle


def _images(reader: Reader, node: Node, value: Value) -> list[Value]:
    """Return the images of a batch: those it was joined from, if the operator before left them."""
    known = reader.parts.get(id(value.tensor))
    if known is not None and known[0] == value:  # not a transposed view of it
        return known[1]
    return [along(reader, node, value, 0, [(i, 0, 1, 1)], 1) for i in range(value.shape[0])]


def conv_any(reader: Reader, node: Node) -> None:
    """Conv over one to three axes."""
    if len(reader.shape(node, 0)) == 5:
        volume(reader, node)
        return
    conv(reader, node)


def transposed_border(node: Node, size: list[int], kernel: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Return the leading crops, the output extents and the strides of a transposed convolution."""
    rank = len(size)
    stride = list(node.attributes.get("strides") or [1] * rank)
    dilation = list(node.attributes.get("dilations") or [1] * rank)
    extra = list(node.attributes.get("output_padding") or [0] * rank)
    pads = list(node.attributes.get("pads") or [0] * (2 * rank))
    auto, wanted = node.attributes.get("auto_pad", "NOTSET"), node.attributes.get("output_shape")
    crops, out = [], []
    for i, n in enumerate(size):
        full = stride[i] * (n - 1) + extra[i] + (kernel[i] - 1) * dilation[i] + 1
        if wanted or auto.startswith("SAME"):
            given = int(wanted[len(wanted) - rank + i]) if wanted else n * stride[i]
            if full < given and not wanted:
                raise node.fail(
                    f"auto_pad {auto} with a kernel smaller than its stride, which runtimes read differently"
                )
            total = max(full - given, 0)
            crops.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
            out.append(given)
        elif auto == "VALID":
            crops.append(0)
            out.append(full)
        else:
            crops.append(pads[i])
            out.append(full - pads[i] - pads[i + rank])
    return crops, out, stride


def conv_transpose(reader: Reader, node: Node) -> None:
    """ConvTranspose: every phase of the strides is an ordinary convolution; all phases are channels of one."""
    x, rank = image(reader, node, reader.value(node, 0))
    weight = reader.constant(node, 1).astype(np.float32)
    kernel = list(weight.shape[2:])
    crop, out, stride = transposed_border(node, [x.h, x.w][2 - rank :], kernel)
    dilation = list(node.attributes.get("dilations") or [1] * rank)
    if rank == 1:
        weight, kernel = weight[:, :, None], [1, *kernel]
        crop, out, stride, dilation = [0, *crop], [1, *out], [1, *stride], [1, *dilation]
    groups, each = int(node.attributes.get("group", 1)), weight.shape[1]
    if weight.shape[0] != x.c or x.c % groups or min(out) < 1 or min(crop) < 0:
        raise node.fail(f"weights {weight.shape} in {groups} groups for {x.c} channels, output {out}")
    bias = reader.constant(node, 2).astype(np.float32) if node.given(2) else np.zeros(groups * each, np.float32)
    taps = [(k - 1) * d // s + 1 for k, d, s in zip(kernel, dilation, stride, strict=True)]
    first = [min(c // s, t - 1) for c, s, t in zip(crop, stride, taps, strict=True)]
    last = [max(-(-(c + o) // s), n) for c, o, s, n in zip(crop, out, stride, (x.h, x.w), strict=True)]
    phases = (groups, stride[0], stride[1], each)
    packed = np.zeros((*taps, x.c // groups, *phases), np.float32)
    of_group = weight.reshape(groups, x.c // groups, each, *kernel)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            (t, r), (u, q) = divmod(i * dilation[0], stride[0]), divmod(j * dilation[1], stride[1])
            packed[taps[0] - 1 - t, taps[1] - 1 - u, :, :, r, q] += of_group[..., i, j].transpose(1, 0, 2)
    co = math.prod(phases)
    spread = np.broadcast_to(bias.reshape(groups, 1, 1, each), phases).reshape(co)
    pads = (taps[0] - 1 - first[0], taps[1] - 1 - first[1], last[0] - x.h, last[1] - x.w)
    h, w = last[0] - first[0], last[1] - first[1]
    y = Tensor(node.outputs[0], h, w, co)
    kind = Depthwise if groups == x.c == co and groups > 1 else Conv
    flat: Array = np.ascontiguousarray(packed.reshape(*taps, x.c // groups, co))
    reader.add(kind(label=node.name, x=x, y=y, weight=flat, bias=spread.copy(), pads=pads, groups=groups))
    seen = Value(y, (h, w, *phases), identity(6))
    perm = (0, 3, 1, 4, 2, 5)
    turned = Value(y, tuple(seen.shape[a] for a in perm), tuple(perm.index(a) for a in seen.order))
    whole = reader.layouts.tensor(turned, identity(6), (h * stride[0], w * stride[1], groups * each))
    at = (crop[0] - first[0] * stride[0], crop[1] - first[1] * stride[1], 0)
    if (whole.h, whole.w) != tuple(out):
        cut = Tensor(node.outputs[0], out[0], out[1], whole.c)
        reader.add(Move(label=node.name, y=cut, parts=[(whole, Box(at, (0, 0, 0), (out[0], out[1], whole.c)))]))
        whole = cut
    shape = (1, whole.c, out[1]) if rank == 1 else (1, whole.c, *out)
    reader.give(node, whole, shape, channels_last(rank + 2))


def volume(reader: Reader, node: Node) -> None:
    """Conv over three axes: for each output slice, the input slices under the kernel become channels of one image."""
    value = reader.value(node, 0)
    weight = reader.constant(node, 1).astype(np.float32)
    co, cg, kd = weight.shape[:3]
    _, c, depth, h, w = value.shape
    groups = int(node.attributes.get("group", 1))
    a = node.attributes
    stride, dilation = list(a.get("strides") or [1] * 3), list(a.get("dilations") or [1] * 3)
    borders = [axis_border(node, i, 3, n, weight.shape[2 + i]) for i, n in enumerate((depth, h, w))]
    pads = [before for before, _ in borders] + [after for _, after in borders]
    x = reader.layouts.tensor(value, channels_last(5), (depth, h * w, c))
    flat = {k: [v[1], v[2]] for k, v in (("strides", stride), ("dilations", dilation))}
    attributes = {**flat, "pads": [pads[1], pads[2], pads[4], pads[5]], "group": groups}
    # (co, cg, kd, kh, kw) -> channels of a group: every slice's channels
    name = f"{node.inputs[1]}/slices"
    reader.constants[name] = weight.transpose(0, 2, 1, 3, 4).reshape(co, kd * cg, *weight.shape[3:])
    made = []
    count = (depth + pads[0] + pads[3] - dilation[0] * (kd - 1) - 1) // stride[0] + 1
    if count < 1:
        raise node.fail("its output is empty")
    for i in range(count):
        stack = Tensor(f"{node.outputs[0]}/{i}/slices", 1, h * w, kd * c)
        parts = []
        for k in range(kd):
            at = i * stride[0] + k * dilation[0] - pads[0]
            if 0 <= at < depth:
                for g in range(groups):
                    box = Box((at, 0, g * cg), (0, 0, (g * kd + k) * cg), (1, h * w, cg))
                    parts.append((x, box))
        reader.add(Move(label=node.name, y=stack, parts=parts, fill=0.0))
        inner = f"{node.outputs[0]}/{i}"
        flat_value = reader.layouts.shaped(stack, h, w, kd * c)
        reader.values[stack.name] = Value(flat_value, (1, kd * c, h, w), channels_last(4))
        inputs = (stack.name, name, *node.inputs[2:3])
        conv(reader, dataclasses.replace(node, inputs=inputs, outputs=(inner,), attributes=attributes))
        part = reader.values[inner]
        made.append(reader.layouts.reshaped(part, (1, co, 1, *part.shape[2:])))
    reader.view(node, joined(reader, node, made, 2))


def pool_any(reader: Reader, node: Node) -> None:
    """Pools: images at once; other ranks and batches one axis after the other, which gives the same."""
    value = reader.value(node, 0)
    rank = len(value.shape) - 2
    if rank in (1, 2) and value.shape[0] == 1:
        pool(reader, node)
        return
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.fail("indices of the maxima")
    kernel = list(node.attributes["kernel_shape"])
    value = reader.layouts.ordered(value, channels_last(rank + 2))
    for i in range(rank):
        memory, place = value.memory, i + 1
        hwc = math.prod(memory[:place]), memory[place], math.prod(memory[place + 1 :])
        size, stride, dilation, pads = pooled_size(node, i, rank, memory[place])
        x = reader.layouts.shaped(value.tensor, *hwc)
        y = Tensor(f"{node.outputs[0]}/{i}", hwc[0], size, hwc[2])
        reader.add(
            Pool(label=node.name, x=x, y=y, mean=node.op_type == "AveragePool", kernel=(1, kernel[i]),
                 stride=(1, stride), dilation=(1, dilation), pads=(0, pads[0], 0, pads[1]),
                 counted=bool(node.attributes.get("count_include_pad", 0)))
        )  # fmt: skip
        shape = tuple(size if axis == i + 2 else n for axis, n in enumerate(value.shape))
        value = Value(y, shape, value.order)
    reader.view(node, value)


def lp_pool(reader: Reader, node: Node) -> None:
    """LpPool: powers, a convolution of ones, roots."""
    p = float(node.attributes.get("p", 2))
    value = powers(reader, node, reader.value(node, 0), p)
    c, kernel = value.shape[1], node.attributes["kernel_shape"]
    if node.attributes.get("ceil_mode", 0):
        raise node.fail("ceil_mode")
    names = (f"{node.outputs[0]}/powers", f"{node.outputs[0]}/ones", f"{node.outputs[0]}/sums")
    reader.values[names[0]] = value
    reader.constants[names[1]] = np.ones((c, 1, *kernel), np.float32)
    kept = {k: v for k, v in node.attributes.items() if k in ("auto_pad", "dilations", "pads", "strides")}
    inner = dataclasses.replace(node, inputs=names[:2], outputs=names[2:], attributes={**kept, "group": c})
    each_image(conv_any)(reader, inner)
    reader.view(node, roots(reader, node, reader.values[names[2]], p))


def powers(reader: Reader, node: Node, value: Value, p: float) -> Value:
    """Return |value| to the power p."""
    if p in (1.0, 2.0):
        return mapped(reader, node, value, [Step("abs" if p == 1.0 else "square")], "/powers")
    return elementwise(reader, node, [value], f"(float)fn_pow({{0}} < 0 ? -{{0}} : {{0}}, {p!r})", "float32")


def roots(reader: Reader, node: Node, value: Value, p: float) -> Value:
    """Return the p-th root of value."""
    if p == 1.0:
        return value
    if p == 2.0:
        return mapped(reader, node, value, [Step("sqrt")])
    return elementwise(reader, node, [value], f"(float)fn_pow({{0}}, {1 / p!r})", "float32")


HANDLERS: dict[str, Handler] = {
    "Conv": each_image(conv_any),
    "ConvTranspose": each_image(conv_transpose),
    "MaxPool": pool_any,
    "AveragePool": pool_any,
    "LpPool": lp_pool,
}

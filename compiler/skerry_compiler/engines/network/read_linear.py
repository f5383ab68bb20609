"""Reading convolutions and products: Conv, Gemm, MatMul."""

from __future__ import annotations

import math

import numpy as np

from skerry_compiler.engines.network.graph import Array, Conv, Depthwise, Map, Matmul, Step, Tensor
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.values import Value, channels_last, identity


def spatial(values: list[int] | None, rank: int, default: int) -> tuple[int, int]:
    """Return an attribute of one or two spatial axes for two."""
    given = [default] * rank if values is None else [int(v) for v in values]
    return (default, given[0]) if rank == 1 else (given[0], given[1])


def border(node: Node, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int],
           dilation: tuple[int, int], rank: int) -> tuple[int, int, int, int]:  # fmt: skip
    """Return the padding (top, left, bottom, right) of a convolution or pool, from `pads` or `auto_pad`."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        out = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            out.append((total // 2, total - total // 2) if auto == "SAME_UPPER" else (total - total // 2, total // 2))
        return out[0][0], out[1][0], out[0][1], out[1][1]
    pads = node.attributes.get("pads") if auto == "NOTSET" else None
    if pads is None:
        return 0, 0, 0, 0
    if any(p < 0 for p in pads):
        raise node.fail("negative pads")
    return (0, pads[0], 0, pads[1]) if rank == 1 else (pads[0], pads[1], pads[2], pads[3])


def image(reader: Reader, node: Node, value: Value) -> tuple[Tensor, int]:
    """Return a batch of one as pixels of channels, and how many spatial axes it has."""
    rank = len(value.shape) - 2
    if rank not in (1, 2):
        raise node.fail(f"{rank} spatial axes; 1 or 2 are supported")
    if value.shape[0] != 1:
        raise node.fail(f"a batch of {value.shape[0]}; 1 is supported")
    h, w = (1, value.shape[2]) if rank == 1 else value.shape[2:]
    return reader.layouts.tensor(value, channels_last(rank + 2), (h, w, value.shape[1])), rank


def image_shape(rank: int, h: int, w: int, c: int) -> tuple[int, ...]:
    """Return the ONNX shape of h x w pixels of c channels."""
    return (1, c, w) if rank == 1 else (1, c, h, w)


def conv(reader: Reader, node: Node) -> None:
    """Conv: any groups, strides, dilations and pads, on one or two spatial axes."""
    x, rank = image(reader, node, reader.value(node, 0))
    weight = reader.constant(node, 1).astype(np.float32)
    weight = weight[:, :, None, :] if rank == 1 else weight
    co, cg, kh, kw = weight.shape
    groups = int(node.attributes.get("group", 1))
    if cg * groups != x.c or co % groups:
        raise node.fail(f"weights {weight.shape} in {groups} groups do not fit {x.c} channels")
    bias = reader.constant(node, 2).astype(np.float32) if node.given(2) else np.zeros(co, np.float32)
    stride = spatial(node.attributes.get("strides"), rank, 1)
    dilation = spatial(node.attributes.get("dilations"), rank, 1)
    pads = border(node, (x.h, x.w), (kh, kw), stride, dilation, rank)
    h = (x.h + pads[0] + pads[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    w = (x.w + pads[1] + pads[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    if h < 1 or w < 1:
        raise node.fail("its output is empty")
    y = Tensor(node.outputs[0], h, w, co)
    kind = Depthwise if groups == x.c == co and groups > 1 else Conv
    packed: Array = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
    reader.add(
        kind(
            label=node.name,
            x=x,
            y=y,
            weight=packed,
            bias=bias,
            stride=stride,
            dilation=dilation,
            pads=pads,
            groups=groups,
        )
    )
    reader.give(node, y, image_shape(rank, h, w, co), channels_last(rank + 2))


def dense(reader: Reader, node: Node, value: Value, weight: Array, bias: Array | None) -> Value:
    """Return value[..., k] times weight f32[k, n]: a convolution of one by one over all rows."""
    rank, (k, n) = len(value.shape), weight.shape
    if value.shape[-1] != k:
        raise node.fail(f"{value.shape} times {weight.shape}")
    order = value.order if value.order[-1] == rank - 1 else identity(rank)
    rows = math.prod(value.shape[:-1])
    x = reader.layouts.tensor(value, order, (1, rows, k))
    y = Tensor(node.outputs[0], 1, rows, n)
    zero = np.zeros(n, np.float32)
    reader.add(Conv(label=node.name, x=x, y=y, weight=weight[None, None], bias=zero if bias is None else bias))
    return Value(y, (*value.shape[:-1], n), order)


def gemm(reader: Reader, node: Node) -> None:
    """Gemm with constant B: alpha A B + beta C."""
    value = reader.value(node, 0)
    if node.attributes.get("transA", 0):
        value = transposed(value)
    weight = reader.constant(node, 1).astype(np.float32) * np.float32(node.attributes.get("alpha", 1.0))
    weight = weight.T if node.attributes.get("transB", 0) else weight
    beta = np.float32(node.attributes.get("beta", 1.0))
    bias = reader.constant(node, 2).astype(np.float32) * beta if node.given(2) else None
    if bias is not None and bias.size not in (1, weight.shape[1]):
        raise node.fail(f"C of shape {bias.shape}")
    row = None if bias is None else np.broadcast_to(bias.ravel(), (weight.shape[1],)).astype(np.float32)
    reader.view(node, dense(reader, node, value, np.ascontiguousarray(weight), row))


def transposed(value: Value) -> Value:
    """Return the value with its last two axes exchanged."""
    rank = len(value.shape)
    swap = [*range(rank - 2), rank - 1, rank - 2]
    return Value(value.tensor, tuple(value.shape[a] for a in swap), tuple(swap.index(a) for a in value.order))


def matmul(reader: Reader, node: Node) -> None:
    """MatMul: with a constant on either side, or of two activations."""
    a, b = node.inputs[:2]
    if b in reader.constants:
        weight = reader.constants[b].astype(np.float32)
        if math.prod(weight.shape[:-2]) == 1 and weight.ndim >= 2 and len(reader.shape(node, 0)) >= weight.ndim:
            value = dense(reader, node, reader.value(node, 0), weight.reshape(weight.shape[-2:]), None)
            reader.view(node, value)
            return
    elif a in reader.constants and reader.constants[a].ndim == 2 and len(reader.shape(node, 1)) == 2:
        weight = np.ascontiguousarray(reader.constants[a].astype(np.float32).T)
        reader.view(node, transposed(dense(reader, node, transposed(reader.value(node, 1)), weight, None)))
        return
    product(reader, node, reader.value(node, 0), reader.value(node, 1))


def product(reader: Reader, node: Node, left: Value, right: Value) -> None:
    """Product of two activations, for each index of their common leading axes."""
    if len(left.shape) < 2 or len(right.shape) < 2:
        raise node.fail("a product of vectors")
    rank = max(len(left.shape), len(right.shape))
    left = reader.layouts.reshaped(left, (1,) * (rank - len(left.shape)) + left.shape)
    right = reader.layouts.reshaped(right, (1,) * (rank - len(right.shape)) + right.shape)
    batch = tuple(max(p, q) for p, q in zip(left.shape[:-2], right.shape[:-2], strict=True))
    for p, q, n in zip(left.shape[:-2], right.shape[:-2], batch, strict=True):
        if p not in (1, n) or q not in (1, n):
            raise node.fail(f"{left.shape} times {right.shape}")
    m, k, n = left.shape[-2], left.shape[-1], right.shape[-1]
    if right.shape[-2] != k:
        raise node.fail(f"{left.shape} times {right.shape}")
    if right.order[-1] != rank - 1:  # the kernel reads rows of b
        right = reader.layouts.ordered(right, identity(rank))
    # The heads of attention keep the order of the left side, so that joining them again costs nothing.
    order = left.order if left.order[-1] == rank - 1 and left.shape[:-2] == batch else identity(rank)
    shape = (*batch, m, n)
    memory = tuple(shape[i] for i in order)
    y = Tensor(node.outputs[0], math.prod(memory[:-2]), memory[-2], memory[-1])
    op = Matmul(
        label=node.name, y=y, a=left.tensor, b=right.tensor, batch=batch, size=(m, k, n),
        a_strides=_strides(left, batch), b_strides=_strides(right, batch),
        y_strides=_strides(Value(y, shape, order), batch),
    )  # fmt: skip
    reader.add(op)
    reader.give(node, y, shape, order)


def _strides(value: Value, batch: tuple[int, ...]) -> tuple[int, ...]:
    out = [0] * len(value.shape)
    step = 1
    for axis in reversed(value.order):
        out[axis] = step
        step *= value.shape[axis]
    return tuple(0 if i < len(batch) and value.shape[i] == 1 else s for i, s in enumerate(out))


def batch_norm(reader: Reader, node: Node) -> None:
    """BatchNormalization: a factor and a term for each channel, which the fusing pass folds into weights."""
    value = reader.value(node, 0)
    gamma, beta, mean, variance = (reader.constant(node, i).astype(np.float64) for i in range(1, 5))
    factor = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    order = channels_last(len(value.shape))
    value = reader.layouts.ordered(value, order)
    c = value.shape[1]
    x = reader.layouts.shaped(value.tensor, 1, value.tensor.elements // c, c) if value.tensor.c != c else value.tensor
    steps = [
        Step("mul", factor.astype(np.float32).reshape(1, 1, c)),
        Step("add", (beta - mean * factor).astype(np.float32).reshape(1, 1, c)),
    ]
    y = reader.add(Map(label=node.name, x=x, y=Tensor(node.outputs[0], x.h, x.w, x.c), steps=steps))
    reader.give(node, y, value.shape, order)


HANDLERS: dict[str, Handler] = {
    "MatMul": matmul,
}

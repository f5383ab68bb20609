"""ONNX to TFLite: convolutions, pooling, resizing, dense layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from skerry_compiler.tflite import schema
from skerry_compiler.tflite.builder import Record
from skerry_compiler.tflite.convert_spatial import pads as padding_of
from skerry_compiler.tflite.write import AS_IS, ROWS, Node, Writer

Handler = Callable[[Writer, Node], None]
Window = tuple[list[int], list[int], list[int]]  # strides, dilations, pads: top, left, bottom, right


def _window(node: Node, kernel: Sequence[int], extents: Sequence[int]) -> Window:
    """Return strides, dilations and pads of a node with two spatial axes."""
    strides = list(node.attributes.get("strides", [1, 1]))
    dilations = list(node.attributes.get("dilations", [1, 1]))
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic not in ("NOTSET", "VALID", "SAME_UPPER"):
        raise node.fail(f"auto_pad {automatic}")
    around = list(node.attributes.get("pads", [0, 0, 0, 0]))
    if automatic == "SAME_UPPER":
        both = [padding_of(extents[axis], kernel[axis], strides[axis], dilations[axis], schema.SAME) for axis in (0, 1)]
        around = [both[0][0], both[1][0], both[0][1], both[1][1]]
    return strides, dilations, around


def _padded(
    writer: Writer, node: Node, source: int, window: Window, kernel: Sequence[int], fill: float = 0.0
) -> tuple[int, int]:
    """Return the tensor to read and TFLite's padding for it; padding that is neither SAME nor VALID goes before it."""
    strides, dilations, around = window
    shape = writer.sizes[source]
    if not any(around):
        return source, schema.VALID
    same = [padding_of(shape[1 + axis], kernel[axis], strides[axis], dilations[axis], schema.SAME) for axis in (0, 1)]
    if around == [same[0][0], same[1][0], same[0][1], same[1][1]]:
        return source, schema.SAME
    if min(around) < 0:
        raise node.fail("negative pads")
    widths = np.array([[0, 0], [around[0], around[2]], [around[1], around[3]], [0, 0]], np.int32)
    target = writer.between([shape[axis] + int(widths[axis].sum()) for axis in range(4)], f"{node.outputs[0]} padded")
    operands = [source, writer.store(widths, f"{node.outputs[0]} pads")]
    if fill:
        operands.append(writer.store(np.array([fill], np.float32), f"{node.outputs[0]} fill"))
    writer.emit("PADV2" if fill else "PAD", operands, [target])
    return target, schema.VALID


def _image(writer: Writer, node: Node) -> str:
    name = writer.moving(node)
    if len(writer.shapes[name]) != 4:
        raise node.fail(f"{len(writer.shapes[name]) - 2} spatial axes, two are supported")
    return name


def _conv(writer: Writer, node: Node) -> None:
    name, weight = _image(writer, node), writer.constant(node, 1).astype(np.float32)
    groups, channels = int(node.attributes.get("group", 1)), writer.shapes[name][1]
    kernel = weight.shape[2:]
    window = _window(node, kernel, writer.shapes[name][2:])
    source, padding = _padded(writer, node, writer.get(name, ROWS), window, kernel)
    bias = writer.constant(node, 2).astype(np.float32) if node.given(2) else np.zeros(weight.shape[0], np.float32)
    (down, right), (tall, wide), _ = window
    options = Record().number(0, "b", padding).number(1, "i", right).number(2, "i", down)
    if groups == channels and weight.shape[1] == 1 and groups > 1:
        options.number(3, "i", weight.shape[0] // channels).number(5, "i", wide).number(6, "i", tall)
        kind, stored, version = "DEPTHWISE_CONV_2D", weight.transpose(1, 2, 3, 0), 2 if max(tall, wide) > 1 else 1
    else:
        if groups != 1:
            raise node.fail(f"{groups} groups of {channels} channels")
        options.number(4, "i", wide).number(5, "i", tall)
        kind, stored, version = "CONV_2D", weight.transpose(0, 2, 3, 1), 1
    operands = [source, writer.store(stored, f"{node.inputs[1]} rows"), writer.store(bias, f"{node.outputs[0]} bias")]
    writer.emit(kind, operands, [writer.give(node.outputs[0], ROWS)], options, version)


def _pool(writer: Writer, node: Node) -> None:
    name = _image(writer, node)
    kernel, mean = list(node.attributes["kernel_shape"]), node.kind == "AveragePool"
    window = _window(node, kernel, writer.shapes[name][2:])
    if node.attributes.get("ceil_mode") or max(window[1]) > 1 or len(node.outputs) > 1:
        raise node.fail("ceil_mode, dilations and indices")
    counted = mean and bool(node.attributes.get("count_include_pad"))
    source, padding = _padded(writer, node, writer.get(name, ROWS), window, kernel, 0.0 if mean else -np.inf)
    if mean and any(window[2]) and counted is (padding == schema.SAME):
        raise node.fail("an average that counts its padding otherwise than TFLite does")
    _emit_pool(writer, node, source, padding, window[0], kernel)


def _emit_pool(writer: Writer, node: Node, source: int, padding: int, strides: list[int], kernel: list[int]) -> None:
    options = Record().number(0, "b", padding).number(1, "i", strides[1]).number(2, "i", strides[0])
    options.number(3, "i", kernel[1]).number(4, "i", kernel[0])
    kind = "MAX_POOL_2D" if node.kind.endswith("MaxPool") else "AVERAGE_POOL_2D"
    writer.emit(kind, [source], [writer.give(node.outputs[0], ROWS)], options)


def _global_pool(writer: Writer, node: Node) -> None:
    name = _image(writer, node)
    kernel = list(writer.shapes[name][2:])
    _emit_pool(writer, node, writer.get(name, ROWS), schema.VALID, [1, 1], kernel)


def _resize(writer: Writer, node: Node) -> None:
    name, target = _image(writer, node), writer.shapes[node.outputs[0]]
    if target[:2] != writer.shapes[name][:2]:
        raise node.fail("channels are resized")
    mode, how = (
        node.attributes.get("mode", "nearest"),
        node.attributes.get("coordinate_transformation_mode", "half_pixel"),
    )
    rounding = node.attributes.get("nearest_mode", "round_prefer_floor")
    aligned, half = how == "align_corners", how in ("half_pixel", "pytorch_half_pixel")
    if mode == "nearest" and not (how == "asymmetric" and rounding == "floor"):
        whole = all(new % old == 0 for new, old in zip(target[2:], writer.shapes[name][2:], strict=True))
        if not (half and whole):
            raise node.fail(f"nearest, {how}, {rounding}")
    elif mode not in ("nearest", "linear") or not (aligned or half or how == "asymmetric"):
        raise node.fail(f"{mode}, {how}")
    sizes = writer.store(np.array(target[2:], np.int32), f"{node.outputs[0]} sizes")
    linear = mode == "linear"
    options = Record()
    if linear:
        options.number(2, "B", int(aligned)).number(3, "B", int(half))
    kind = "RESIZE_BILINEAR" if linear else "RESIZE_NEAREST_NEIGHBOR"
    version = 3 if linear and half else 1
    writer.emit(kind, [writer.get(name, ROWS), sizes], [writer.give(node.outputs[0], ROWS)], options, version)


def _gemm(writer: Writer, node: Node) -> None:
    name, weight = writer.moving(node), writer.constant(node, 1).astype(np.float32)
    if node.attributes.get("transA") or len(writer.shapes[name]) != 2:
        raise node.fail("the first operand is transposed")
    if not node.attributes.get("transB"):
        weight = weight.T
    weight = weight * np.float32(node.attributes.get("alpha", 1.0))
    bias = np.zeros(weight.shape[0], np.float32)
    if node.given(2):
        bias = bias + writer.constant(node, 2).astype(np.float32) * np.float32(node.attributes.get("beta", 1.0))
    if bias.size != weight.shape[0]:
        raise node.fail("a bias of its own for each row")
    _dense(writer, node, name, weight, bias.reshape(-1))


def _matmul(writer: Writer, node: Node) -> None:
    name = writer.moving(node)
    if node.inputs[1] in writer.constants and writer.constants[node.inputs[1]].ndim == 2:
        weight = writer.constants[node.inputs[1]].astype(np.float32).T
        _dense(writer, node, name, weight, np.zeros(weight.shape[0], np.float32))
        return
    operands = [writer.get(each, AS_IS) for each in node.inputs]
    if min(len(writer.sizes[each]) for each in operands) < 2:
        raise node.fail("a vector as an operand")
    writer.emit("BATCH_MATMUL", operands, [writer.give(node.outputs[0])])


def _dense(writer: Writer, node: Node, name: str, weight: np.ndarray, bias: np.ndarray) -> None:
    operands = [writer.get(name, AS_IS), writer.store(weight, f"{node.outputs[0]} weights")]
    operands.append(writer.store(bias, f"{node.outputs[0]} bias"))
    keep = int(len(writer.shapes[name]) != 2)
    options = Record().number(2, "B", keep)
    writer.emit("FULLY_CONNECTED", operands, [writer.give(node.outputs[0])], options, 5 if keep else 1)


HANDLERS: dict[str, Handler] = {
    "AveragePool": _pool,
    "Conv": _conv,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Resize": _resize,
}

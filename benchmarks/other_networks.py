"""Networks of other families than the benchmarks list, in small and with random weights: what the generator does badly
shows here first.

Each is a handful of the blocks that make its family: squeeze and excitation, skips with upsampling, factorised kernels,
channel shuffles, depthwise 7x7 with LayerNorm, attention over patches, one-dimensional and recurrent speech models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from benchmarks.wide_builder import Wide
from numpy.typing import NDArray
from onnx import TensorProto, helper


def efficientnet(b: Wide) -> str:
    """Inverted residuals with SiLU and squeeze-excitation, Tan and Le 2019."""
    x = b.silu(b.kernel("x", 32, (3, 3), (2, 2)))
    for expand, out, count, stride, k in ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 112, 2, 2, 5)):
        for i in range(count):
            inside = b.channels[x]
            y = b.silu(b.kernel(x, inside * expand, (1, 1))) if expand > 1 else x
            step = stride if i == 0 else 1
            y = b.silu(b.kernel(y, b.channels[y], (k, k), (step, step), b.channels[y]))
            y = b.kernel(b.excite(y, max(4, inside // 4)), out, (1, 1))
            x = b.node("Add", [y, x]) if i else y
    return b.classifier(b.silu(b.kernel(x, 640, (1, 1))))


def mobilenetv3(b: Wide) -> str:
    """HardSwish, HardSigmoid gates, 5x5 depthwise, Howard et al. 2019."""
    x = b.node("HardSwish", [b.kernel("x", 16, (3, 3), (2, 2))])
    for wide, out, k, stride in ((16, 16, 3, 2), (72, 24, 3, 2), (96, 40, 5, 2), (240, 40, 5, 1), (144, 48, 5, 1)):
        inside = b.channels[x]
        y = b.node("HardSwish", [b.kernel(x, wide, (1, 1))])
        y = b.node("HardSwish", [b.kernel(y, wide, (k, k), (stride, stride), wide)])
        y = b.kernel(b.excite(y, wide // 4, "HardSigmoid"), out, (1, 1))
        x = b.node("Add", [y, x]) if stride == 1 and inside == out else y
    return b.classifier(b.node("HardSwish", [b.kernel(x, 288, (1, 1))]))


def unet(b: Wide) -> str:
    """Skips by concatenation, transposed convolutions upwards, Ronneberger et al. 2015."""
    x, skips = "x", []
    for width in (16, 32, 64):
        x = b.relu(b.conv(b.relu(b.conv(x, width, 3, bias=True)), width, 3, bias=True))
        skips.append(x)
        x = b.pool(x, 2, 2)
    x = b.relu(b.conv(b.relu(b.conv(x, 128, 3, bias=True)), 128, 3, bias=True))
    for width, skip in zip((64, 32, 16), reversed(skips), strict=True):
        x = b.concat([skip, b.up(x, width)])
        x = b.relu(b.conv(b.relu(b.conv(x, width, 3, bias=True)), width, 3, bias=True))
    return b.node("Sigmoid", [b.kernel(x, 1, (1, 1))])


def yolo(b: Wide) -> str:
    """Cross-stage blocks with SiLU, a pyramid of concatenations and nearest resizing, decoupled outputs."""

    def block(x: str, out: int, short: bool) -> str:
        y = b.silu(b.kernel(x, out, (1, 1)))
        parts = [b.node("Slice", [y, *_slice(b, s, s + out // 2)]) for s in (0, out // 2)]
        for part in parts:
            b.channels[part] = out // 2
        z = b.silu(b.kernel(b.silu(b.kernel(parts[1], out // 2, (3, 3))), out // 2, (3, 3)))
        z = b.node("Add", [parts[1], z]) if short else z
        return b.silu(b.kernel(b.concat([*parts, z]), out, (1, 1)))

    x = b.silu(b.kernel("x", 16, (3, 3), (2, 2)))
    levels = []
    for width in (32, 64, 128):
        x = block(b.silu(b.kernel(x, width, (3, 3), (2, 2))), width, True)
        levels.append(x)
    pools = [x := b.silu(b.kernel(x, 64, (1, 1)))]
    for _ in range(3):
        pools.append(b.pool(pools[-1], 5, 1, 2))
    x = b.silu(b.kernel(b.concat(pools), 128, (1, 1)))
    x = block(b.concat([b.resize(x), levels[1]]), 64, False)
    x = block(b.concat([b.resize(x), levels[0]]), 32, False)
    boxes, classes = b.kernel(x, 64, (1, 1)), b.node("Sigmoid", [b.kernel(x, 80, (1, 1))])
    y = b.concat([boxes, classes])
    return b.shape(y, 1, 144, -1)


def _slice(b: Wide, start: int, end: int) -> list[str]:
    return [
        b.constant(f"{k}{len(b.nodes)}_{start}", np.array([v], np.int64))
        for k, v in zip("sea", (start, end, 1), strict=True)
    ]


def resnet18(b: Wide) -> str:
    """Basic blocks, He et al. 2016."""
    x = b.pool(b.relu(b.norm(b.conv("x", 64, 7, 2))), 3, 2, 1)
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for block in range(2):
            step = stride if block == 0 else 1
            y = b.norm(b.conv(b.relu(b.norm(b.conv(x, width, 3, step))), width, 3))
            short = b.norm(b.conv(x, width, 1, step)) if step > 1 else x
            x = b.relu(b.node("Add", [y, short]))
    return b.classifier(x)


def inception(b: Wide) -> str:
    """Factorised 1x7 and 7x1, mean pools inside blocks, Szegedy et al. 2016."""
    x = b.pool(b.relu(b.kernel(b.relu(b.kernel("x", 32, (3, 3), (2, 2))), 64, (3, 3), (2, 2))), 3, 2, 1)
    for width in (64, 64, 96):
        one = b.relu(b.kernel(x, 96, (1, 1)))
        two = b.relu(b.kernel(b.relu(b.kernel(b.relu(b.kernel(x, width, (1, 1))), width, (1, 7))), 96, (7, 1)))
        three = b.relu(b.kernel(b.pool(x, 3, 1, 1, "AveragePool"), 96, (1, 1)))
        x = b.concat([one, two, three])
    return b.classifier(x)


def shufflenet(b: Wide) -> str:
    """Channel split and shuffle, Ma et al. 2018."""
    x = b.pool(b.relu(b.kernel("x", 24, (3, 3), (2, 2))), 3, 2, 1)
    side = 28
    x = b.relu(b.kernel(x, 116, (1, 1), (2, 2)))
    for _ in range(4):
        halves = [b.node("Slice", [x, *_slice(b, s, s + 58)]) for s in (0, 58)]
        for half in halves:
            b.channels[half] = 58
        y = b.relu(b.kernel(halves[1], 58, (1, 1)))
        y = b.relu(b.kernel(b.kernel(y, 58, (3, 3), groups=58), 58, (1, 1)))
        y = b.shape(b.concat([halves[0], y]), 1, 2, 58, side, side)
        x = b.shape(b.order(y, 0, 2, 1, 3, 4), 1, 116, side, side)
        b.channels[x] = 116
    return b.classifier(x)


def convnext(b: Wide) -> str:
    """Depthwise 7x7, LayerNorm over channels, GELU, Liu et al. 2022."""
    x = b.kernel("x", 48, (4, 4), (4, 4))
    for width, blocks in ((48, 2), (96, 2)):
        if b.channels[x] != width:
            x = b.kernel(x, width, (2, 2), (2, 2))
        for _ in range(blocks):
            y = b.layer_norm(b.order(b.kernel(x, width, (7, 7), groups=width), 0, 2, 3, 1), width)
            y = b.order(b.dense(b.gelu(b.dense(y, width, 4 * width)), 4 * width, width), 0, 3, 1, 2)
            b.channels[y] = width
            x = b.node("Add", [x, y])
    return b.classifier(x)


def attend(b: Wide, x: str, length: int, width: int, heads: int) -> str:
    """Multi-head attention over [1, length, width], Vaswani et al. 2017."""
    each = width // heads
    q, k, v = (b.shape(b.dense(x, width, width), 1, length, heads, each) for _ in range(3))
    scores = b.node("MatMul", [b.order(q, 0, 2, 1, 3), b.order(k, 0, 2, 3, 1)])
    factor = b.constant(f"f{len(b.nodes)}", np.array(each**-0.5, np.float32))
    shares = b.node("Softmax", [b.node("Mul", [scores, factor])], axis=-1)
    mixed = b.order(b.node("MatMul", [shares, b.order(v, 0, 2, 1, 3)]), 0, 2, 1, 3)
    return b.dense(b.shape(mixed, 1, length, width), width, width)


def vit(b: Wide) -> str:
    """Patches of 16x16, pre-norm attention, Dosovitskiy et al. 2021."""
    width, length = 192, 196
    x = b.order(b.shape(b.kernel("x", width, (16, 16), (16, 16)), 1, width, length), 0, 2, 1)
    for _ in range(3):
        x = b.node("Add", [x, attend(b, b.layer_norm(x, width), length, width, 3)])
        y = b.dense(b.gelu(b.dense(b.layer_norm(x, width), width, 4 * width)), 4 * width, width)
        x = b.node("Add", [x, y])
    x = b.node("ReduceMean", [b.layer_norm(x, width)], axes=[1], keepdims=0)
    return b.dense(x, width, 100)


def conformer(b: Wide) -> str:
    """Feed-forward, attention and a depthwise convolution over time, Gulati et al. 2020; [1, 128, 80] -> logits."""
    length, width = 128, 144
    x = b.dense("x", 80, width)
    for _ in range(2):
        x = b.node("Add", [x, b.dense(b.silu(b.dense(b.layer_norm(x, width), width, 4 * width)), 4 * width, width)])
        x = b.node("Add", [x, attend(b, b.layer_norm(x, width), length, width, 4)])
        y = b.shape(b.order(b.layer_norm(x, width), 0, 2, 1), 1, width, 1, length)
        b.channels[y] = width
        gate = b.node("Sigmoid", [b.kernel(y, width, (1, 1))])
        y = b.silu(b.kernel(b.node("Mul", [b.kernel(y, width, (1, 1)), gate]), width, (1, 15), groups=width))
        y = b.order(b.shape(b.kernel(y, width, (1, 1)), 1, width, length), 0, 2, 1)
        x = b.node("Add", [x, y])
    return b.dense(b.layer_norm(x, width), width, 32)


def speech(kind: str) -> Callable[[Wide], str]:
    """A convolution over time, two recurrent layers and a dense one; [1, 100, 40] -> logits at each step."""

    def build(b: Wide) -> str:
        y = b.shape(b.order("x", 0, 2, 1), 1, 40, 1, 100)
        b.channels[y] = 40
        y = b.relu(b.kernel(y, 64, (1, 5), (1, 2)))
        y = b.order(b.shape(y, 1, 64, 50), 2, 0, 1)
        y = b.recurrent(kind, b.recurrent(kind, y, 64, 128), 128, 128)
        return b.node("Softmax", [b.dense(y, 128, 32)], axis=-1)

    return build


IMAGE, SPEECH, FRAMES = (1, 3, 224, 224), (1, 128, 80), (1, 100, 40)
NETWORKS: dict[str, tuple[Callable[[Wide], str], tuple[int, ...]]] = {
    "efficientnet": (efficientnet, IMAGE),
    "mobilenetv3": (mobilenetv3, IMAGE),
    "unet": (unet, (1, 3, 128, 128)),
    "yolo": (yolo, (1, 3, 256, 256)),
    "resnet18": (resnet18, IMAGE),
    "inception": (inception, IMAGE),
    "shufflenet": (shufflenet, IMAGE),
    "convnext": (convnext, (1, 3, 160, 160)),
    "vit": (vit, IMAGE),
    "conformer": (conformer, SPEECH),
    "lstm": (speech("LSTM"), FRAMES),
    "gru": (speech("GRU"), FRAMES),
}


def build(name: str, seed: int = 2026) -> onnx.ModelProto:
    """Return a network of one input x."""
    write, shape = NETWORKS[name]
    builder = Wide(seed)
    output = write(builder)
    given: Any = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    taken: Any = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(builder.nodes, name, [given], [taken], builder.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def rows(name: str, count: int, seed: int) -> NDArray[np.float32]:
    """Return inputs: smooth images or frames with noise, f32[count, *shape of one]."""
    random = np.random.default_rng(seed)
    shape = NETWORKS[name][1]
    coarse = random.normal(0.0, 1.0, (count, *(max(1, -(-n // 8)) if i > 1 else n for i, n in enumerate(shape[1:], 1))))
    for axis in range(2, len(shape)):
        coarse = np.repeat(coarse, 8, axis)[(slice(None),) * axis + (slice(shape[axis]),)]
    return (coarse + random.normal(0.0, 0.2, coarse.shape)).astype(np.float32)

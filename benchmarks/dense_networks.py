"""The dense networks of the benchmark as ONNX: ResNet-50, MobileNetV2, DenseNet-121 and SqueezeNet 1.1, built from
their papers with seeded random weights.

Weights follow He et al. 2015 (normal, variance 2 / fan-in). BatchNorm stands where the original has it, near the state
in which a framework leaves it before training. The softmax at the end is left out, so that logits are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 224
CLASSES = 1000
EPSILON = 1e-5


class Builder:
    """Writes nodes and weights, and remembers how many channels each tensor has."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.channels = {"x": 3}

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node; returns its output."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        if inputs[0] in self.channels:
            self.channels[name] = self.channels[inputs[0]]
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Append an initializer."""
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def conv(self, x: str, out: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False) -> str:
        """Convolution with the padding that keeps the size at stride 1."""
        inside = self.channels[x] // groups
        shape = (out, inside, kernel, kernel)
        weight = self.random.normal(0.0, np.sqrt(2.0 / (inside * kernel * kernel)), shape).astype(np.float32)
        inputs = [x, self.constant(f"w{len(self.nodes)}", weight)]
        if bias:
            values = self.random.normal(0.0, 0.05, out).astype(np.float32)
            inputs.append(self.constant(f"b{len(self.nodes)}", values))
        sizes = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "strides": [stride] * 2, "group": groups}
        y = self.node("Conv", inputs, **sizes)
        self.channels[y] = out
        return y

    def norm(self, x: str) -> str:
        """BatchNorm."""
        count, draw = self.channels[x], self.random
        scale, variance = draw.uniform(0.8, 1.2, count), draw.uniform(0.8, 1.2, count)
        shift, mean = draw.normal(0.0, 0.1, count), draw.normal(0.0, 0.1, count)
        inputs = [x]
        for kind, values in (("scale", scale), ("shift", shift), ("mean", mean), ("variance", variance)):
            inputs.append(self.constant(f"{kind}{len(self.nodes)}", values.astype(np.float32)))
        return self.node("BatchNormalization", inputs, epsilon=EPSILON)

    def relu(self, x: str, most: float | None = None) -> str:
        """ReLU, or ReLU6 and the like."""
        if most is None:
            return self.node("Relu", [x])
        low = self.constant(f"l{len(self.nodes)}", np.float32(0))  # type: ignore[arg-type]  # onnx takes scalars
        high = self.constant(f"h{len(self.nodes)}", np.float32(most))  # type: ignore[arg-type]  # onnx takes scalars
        return self.node("Clip", [x, low, high])

    def pool(self, x: str, kernel: int, stride: int, pad: int = 0, kind: str = "MaxPool", ceil: int = 0) -> str:
        """Pool over windows."""
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "ceil_mode": ceil}
        return self.node(kind, [x], **sizes)

    def concat(self, parts: list[str]) -> str:
        """Concatenation of channels."""
        y = self.node("Concat", parts, axis=1)
        self.channels[y] = sum(self.channels[each] for each in parts)
        return y

    def classifier(self, x: str) -> str:
        """Mean over pixels and the dense layer."""
        inside = self.channels[x]
        flat = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        weight = self.random.normal(0.0, np.sqrt(1.0 / inside), (CLASSES, inside)).astype(np.float32)
        shift = self.random.normal(0.0, 0.05, CLASSES).astype(np.float32)
        inputs = [flat, self.constant("classes", weight), self.constant("shift", shift)]
        return self.node("Gemm", inputs, transB=1)


def resnet50(b: Builder) -> str:
    """He et al. 2016, with the stride in the 3x3 convolution as everybody trains it."""
    x = b.pool(b.relu(b.norm(b.conv("x", 64, 7, 2))), 3, 2, 1)
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            step = stride if block == 0 else 1
            y = b.relu(b.norm(b.conv(x, width, 1)))
            y = b.relu(b.norm(b.conv(y, width, 3, step)))
            y = b.norm(b.conv(y, 4 * width, 1))
            short = b.norm(b.conv(x, 4 * width, 1, step)) if block == 0 else x
            x = b.relu(b.node("Add", [y, short]))
    return b.classifier(x)


def mobilenetv2(b: Builder) -> str:
    """Sandler et al. 2018, table 2."""
    x = b.relu(b.norm(b.conv("x", 32, 3, 2)), 6.0)
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, out, blocks, stride in rows:
        for block in range(blocks):
            inside = b.channels[x]
            y = b.relu(b.norm(b.conv(x, inside * expand, 1)), 6.0) if expand > 1 else x
            wide = inside * expand
            y = b.relu(b.norm(b.conv(y, wide, 3, stride if block == 0 else 1, groups=wide)), 6.0)
            y = b.norm(b.conv(y, out, 1))
            x = b.node("Add", [y, x]) if block else y
    return b.classifier(b.relu(b.norm(b.conv(x, 1280, 1)), 6.0))


def densenet121(b: Builder) -> str:
    """Huang et al. 2017, growth 32."""
    x = b.pool(b.relu(b.norm(b.conv("x", 64, 7, 2))), 3, 2, 1)
    for number, layers in enumerate((6, 12, 24, 16)):
        for _ in range(layers):
            y = b.conv(b.relu(b.norm(x)), 128, 1)
            x = b.concat([x, b.conv(b.relu(b.norm(y)), 32, 3)])
        if number < 3:
            y = b.conv(b.relu(b.norm(x)), b.channels[x] // 2, 1)
            x = b.pool(y, 2, 2, kind="AveragePool")
    return b.classifier(b.relu(b.norm(x)))


def squeezenet(b: Builder) -> str:
    """Iandola et al. 2016, version 1.1."""
    x = b.pool(b.relu(b.conv("x", 64, 3, 2, bias=True)), 3, 2, ceil=1)
    for number, (squeeze, wide) in enumerate(((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192))):
        if number in (2, 4):
            x = b.pool(x, 3, 2, ceil=1)
        x = _fire(b, x, squeeze, wide)
    for _ in range(2):
        x = _fire(b, x, 64, 256)
    return b.node("Flatten", [b.node("GlobalAveragePool", [b.relu(b.conv(x, CLASSES, 1, bias=True))])])


def _fire(b: Builder, x: str, squeeze: int, wide: int) -> str:
    x = b.relu(b.conv(x, squeeze, 1, bias=True))
    return b.concat([b.relu(b.conv(x, wide, 1, bias=True)), b.relu(b.conv(x, wide, 3, bias=True))])


NETWORKS: dict[str, Callable[[Builder], str]] = {
    "resnet50": resnet50,
    "mobilenetv2": mobilenetv2,
    "densenet121": densenet121,
    "squeezenet": squeezenet,
}


def build(name: str, seed: int = 2026) -> onnx.ModelProto:
    """Return a network: f32[1, 3, 224, 224] -> f32[1, 1000]."""
    builder = Builder(seed)
    output = NETWORKS[name](builder)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, CLASSES])]
    graph = helper.make_graph(builder.nodes, name, inputs, outputs, builder.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

"""Random networks of the usual parts, their rows, and models for accuracy repair."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper
from tests.compiler.network.conftest import model, random

from skerry_compiler import interface, roles
from skerry_compiler.engines.catalogue import Material
from skerry_compiler.engines.network.calibrate import Feed
from skerry_compiler.repair.workshop import Workshop
from skerry_contracts.bundle import Signature
from skerry_targets import catalogue

node = helper.make_node
SIDE = 8


@dataclasses.dataclass
class Net:
    """Nodes and constants under construction; `x` is the last value, `width` its channels."""

    seed: int
    nodes: list[NodeProto] = dataclasses.field(default_factory=list)
    constants: dict[str, Any] = dataclasses.field(default_factory=dict)
    x: str = "x"
    width: int = 3

    def put(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self.x = f"v{len(self.nodes)}"
        self.nodes.append(node(kind, list(inputs), [self.x], **attributes))
        return self.x

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, np.float32)
        return name

    def some(self, *shape: int, like: float = 1.0) -> np.ndarray:
        """Return numbers whose first axis has channels of very different size, as trained networks have."""
        draw = random(*shape, seed=self.seed + len(self.constants))
        uneven = np.exp(random(shape[0], seed=self.seed + 99 + len(self.constants)))
        return np.asarray(draw * uneven.reshape(-1, *[1] * (len(shape) - 1)) * like, np.float32)

    def conv(self, out: int, kernel: int = 3, groups: int = 1, bias: bool = True) -> str:
        inside = self.width // groups
        names = [self.constant(self.some(out, inside, kernel, kernel, like=(inside * kernel**2) ** -0.5))]
        names += [self.constant(self.some(out, like=0.1))] if bias else []
        self.width = out
        return self.put("Conv", self.x, *names, pads=[kernel // 2] * 4, group=groups)

    def part(self, kind: str) -> None:
        """Append one of the usual parts."""
        if kind == "separable":
            self.conv(self.width, groups=self.width)
            self.put("Relu", self.x)
            self.conv(8, kernel=1, bias=False)
            self.put("Relu", self.x)
        elif kind == "prelu":
            self.conv(8)
            self.put("PRelu", self.x, self.constant(np.abs(self.some(self.width, 1, 1)) / 4))
        elif kind == "norm":
            self.conv(6, bias=False)
            names = [self.constant(np.abs(self.some(self.width)) + 0.1) for _ in range(1)]
            names += [self.constant(self.some(self.width, like=0.1)) for _ in range(2)]
            names += [self.constant(np.abs(self.some(self.width)) + 0.5)]
            self.put("BatchNormalization", self.x, *names)
            self.put("LeakyRelu", self.x, alpha=0.2)
        elif kind == "pool":
            self.conv(6)
            self.put("Relu", self.x)
            self.put("MaxPool", self.x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            self.put("AveragePool", self.x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        elif kind == "residual":
            before = self.x
            self.conv(self.width)
            self.put("Relu", self.x)
            self.conv(self.width)
            self.put("Relu", self.put("Add", self.x, before))
        else:
            self.conv(8)
            self.put("HardSwish" if kind == "hswish" else "Sigmoid", self.x)

    def dense(self, kind: str) -> None:
        """End in dense layers, by Gemm, or by MatMul after a normalisation, and some classes."""
        self.put("GlobalAveragePool", self.x)
        self.put("Flatten", self.x)
        if kind == "gemm":
            names = self.constant(self.some(12, self.width)), self.constant(self.some(12))
            self.put("Relu", self.put("Gemm", self.x, *names, transB=1))
        else:
            names = self.constant(np.abs(self.some(self.width)) + 0.1), self.constant(self.some(self.width))
            self.put("LayerNormalization", self.x, *names)
            self.put(
                "Add", self.put("MatMul", self.x, self.constant(self.some(self.width, 12))), self.constant(np.ones(12))
            )
        last = self.constant(self.some(12, 5, like=0.3)), self.constant(np.zeros(5))
        self.put("Gemm", self.x, *last)


def network(parts: Sequence[str], end: str = "", seed: int = 0, *, softmax: bool = False) -> onnx.ModelProto:
    """Return a network of parts over f32[1, 3, 8, 8]."""
    net = Net(seed)
    for part in parts:
        net.part(part)
    if end:
        net.dense(end)
    if softmax:
        net.put("Softmax", net.x)
    net.nodes[-1].output[0] = "y"
    made = model(net.nodes, {"x": [1, 3, SIDE, SIDE]}, net.constants, opset=17)
    known = onnx.shape_inference.infer_shapes(made).graph.output
    made.graph.output[0].CopyFrom(known[0])
    return made


def rows(count: int, seed: int = 0, *, shape: Sequence[int] = (3, SIDE, SIDE)) -> list[Feed]:
    """Return rows that are smooth over the image, as pictures are."""
    made = random(count, *shape, seed=seed)
    for axis in range(2, made.ndim):
        made = (made + np.roll(made, 1, axis)) / np.float32(2**0.5)
    return [{"x": made[i : i + 1]} for i in range(count)]


def signature(proto: onnx.ModelProto) -> Signature:
    """Return the signature as a compile makes it."""
    inputs = interface.inputs(proto)
    _, outputs = interface.outputs(proto, inputs, None, {})
    return roles.signature(proto, inputs, outputs, ())


def workshop(proto: onnx.ModelProto, count: int = 12, seed: int = 5) -> Workshop:
    return Workshop(proto, rows(count, seed))


def material(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray], target: str = "arm64", **more: Any) -> Material:
    """Return what engines draft from; for a target that no test machine runs, so that no speed is measured here."""
    return Material(proto, catalogue.get(target), feeds, Path("model.onnx"), "onnx", ("native",), **more)

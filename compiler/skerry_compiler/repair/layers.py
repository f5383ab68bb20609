"""A model as layers: nodes with constant weights, which repairs read and change.

`plain` brings any model into the form that they share: quantised weights expanded, BatchNormalization folded into the
layer before it, a weight and a bias of its own for each layer, each layer named after its output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

Array = NDArray[np.float32]
KINDS = ("Conv", "Gemm", "MatMul")


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """One layer. `axis` of the weight counts output channels; `bias` is empty for MatMul, which has none."""

    node: NodeProto
    kind: str
    data: str
    weight: str
    bias: str
    axis: int
    groups: int

    @property
    def out(self) -> str:
        """The name of what it writes, which is the node's own name too."""
        return str(self.node.output[0])


class Model:
    """A model whose constants are arrays while it is worked on. `proto` of it is never changed; see `written`."""

    def __init__(self, proto: ModelProto) -> None:
        self.proto = proto
        self.arrays: dict[str, NDArray[Any]] = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        self.changed: dict[str, NDArray[Any]] = {}

    def array(self, name: str) -> NDArray[Any]:
        """Return a constant."""
        return self.changed[name] if name in self.changed else self.arrays[name]

    def put(self, name: str, content: NDArray[Any]) -> None:
        """Change a constant."""
        self.changed[name] = np.ascontiguousarray(content)

    def known(self, name: str) -> bool:
        """Whether a name is a constant's."""
        return name in self.arrays

    def layers(self) -> Iterator[Layer]:
        """Return the layers in the order of nodes."""
        for node in self.proto.graph.node:
            if node.op_type not in KINDS or len(node.input) < 2 or not self.known(node.input[1]):
                continue
            if self.known(node.input[0]) or self.array(node.input[1]).dtype != np.float32:
                continue
            given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            rank = self.array(node.input[1]).ndim
            if node.op_type == "MatMul" and rank != 2:
                continue
            axis = 0 if node.op_type == "Conv" or given.get("transB", 0) else rank - 1
            bias = node.input[2] if len(node.input) > 2 and node.op_type != "MatMul" else ""
            groups = int(given.get("group", 1))
            yield Layer(node, node.op_type, node.input[0], node.input[1], bias, axis, groups)

    def written(self) -> ModelProto:
        """Return the model with the changed constants."""
        copy = ModelProto()
        copy.CopyFrom(self.proto)
        for tensor in copy.graph.initializer:
            if tensor.name in self.changed:
                tensor.CopyFrom(numpy_helper.from_array(self.changed[tensor.name], tensor.name))
        return copy


def plain(proto: ModelProto) -> ModelProto:
    """Return a copy in the form of the module's text; it computes the same up to float32 rounding."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    _expand_weights(copy)
    _fold_batch_norms(copy)
    _separate(copy)
    return copy


def _constants(proto: ModelProto) -> dict[str, NDArray[Any]]:
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def _keep_nodes(proto: ModelProto, gone: list[NodeProto]) -> None:
    kept = [node for node in proto.graph.node if not any(node is each for each in gone)]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in kept]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def _expand_weights(proto: ModelProto) -> None:
    """Dequantise constants now."""
    known = _constants(proto)
    gone = []
    for node in proto.graph.node:
        if node.op_type != "DequantizeLinear" or not all(name in known for name in node.input if name):
            continue
        content = known[node.input[0]]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        shape = [1] * content.ndim
        scale = known[node.input[1]]
        if scale.ndim > 1 or any(a.name == "block_size" and a.i for a in node.attribute):
            continue
        if scale.size > 1:
            shape[axis] = scale.size
        zero = known[node.input[2]].astype(np.float64) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        zero = zero.reshape(shape) if zero.size > 1 else zero.reshape(())
        real = (content.astype(np.float64) - zero) * scale.astype(np.float64).reshape(shape if scale.size > 1 else ())
        proto.graph.initializer.append(numpy_helper.from_array(real.astype(np.float32), node.output[0]))
        known[node.output[0]] = real.astype(np.float32)
        gone.append(node)
    _keep_nodes(proto, gone)


def _fold_batch_norms(proto: ModelProto) -> None:
    """Put a BatchNormalization right after a convolution into its weights."""
    model = Model(proto)
    convs = {layer.out: layer for layer in model.layers() if layer.kind == "Conv"}
    uses = [name for node in proto.graph.node for name in node.input] + [o.name for o in proto.graph.output]
    gone, renamed, fresh = [], {}, {}
    for node in proto.graph.node:
        layer = convs.get(node.input[0]) if node.op_type == "BatchNormalization" and len(node.output) == 1 else None
        if layer is None or uses.count(layer.out) != 1 or not all(model.known(n) for n in node.input[1:5]):
            continue
        if uses.count(layer.weight) != 1 or (layer.bias and not model.known(layer.bias)):
            continue
        gamma, beta, mean, variance = (model.array(n).astype(np.float64) for n in node.input[1:5])
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        factor = gamma / np.sqrt(variance + epsilon)
        weight = model.array(layer.weight)
        bias = model.array(layer.bias).astype(np.float64) if layer.bias else 0.0
        model.put(layer.weight, (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32))
        fresh[layer.out] = ((bias - mean) * factor + beta).astype(np.float32)
        renamed[layer.out] = node.output[0]
        gone.append(node)
    for node in proto.graph.node:
        if node.op_type == "Conv" and node.output[0] in fresh:
            name = f"{renamed[node.output[0]]}/bias"
            proto.graph.initializer.append(numpy_helper.from_array(fresh[node.output[0]], name))
            del node.input[2:]
            node.input.append(name)
            node.output[0] = renamed[node.output[0]]
    for tensor in proto.graph.initializer:
        if tensor.name in model.changed:
            tensor.CopyFrom(numpy_helper.from_array(model.changed[tensor.name], tensor.name))
    _keep_nodes(proto, gone)


def _separate(proto: ModelProto) -> None:
    """Give each layer its name, and constants that no other node reads."""
    model = Model(proto)
    uses = [name for node in proto.graph.node for name in node.input] + [o.name for o in proto.graph.output]
    found = {layer.out for layer in model.layers()}
    for node in proto.graph.node:
        if not node.output:
            continue
        if node.output[0] in found:
            node.name = node.output[0]
            for place in (1, 2)[: len(node.input) - 1]:
                name = node.input[place]
                if uses.count(name) > 1 and model.known(name):
                    node.input[place] = f"{node.output[0]}/{place}"
                    proto.graph.initializer.append(numpy_helper.from_array(model.array(name), node.input[place]))
            if node.op_type == "Conv" and len(node.input) == 2:
                node.input.append(f"{node.output[0]}/bias")
                zeros = np.zeros(model.array(node.input[1]).shape[0], np.float32)
                proto.graph.initializer.append(numpy_helper.from_array(zeros, node.input[2]))
        else:
            node.name = ""

"""Cross-layer equalisation: channels of one tensor get ranges of like size, and the network still computes the same.

Where a value is positively homogeneous from the layer that makes it to the layers that read it (Relu, PRelu, pools),
channel j may be divided by s[j] in the first and multiplied by it in the others. One scale then wastes fewer bytes on
small channels. After a normalisation the same folding is SmoothQuant.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", arXiv:1906.04721, with
the ranges of activations instead of those of weights, since weights have a scale for each output channel here anyway;
Xiao et al. 2022, "SmoothQuant", arXiv:2211.10438 for s = activation^a / weight^(1-a).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from skerry_compiler.repair.layers import Array, Layer, Model

HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu", "Identity", "Dropout", "MaxPool", "AveragePool", "GlobalAveragePool")
SHARE = 0.5  # of the activation's range that is moved into weights: the "alpha" of SmoothQuant
LIMIT = 6  # no factor above 2^6 or below 2^-6
FINENESS = 4  # factors are powers of 2^(1/4), the same on every machine


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """A tensor between layers. `scaled`: constants of the producer, with the axis of channels in each; `value`: what
    the readers read.
    """

    value: str
    axis: int
    scaled: tuple[tuple[str, int], ...]
    readers: tuple[Layer, ...]


def links(model: Model) -> list[Link]:
    """Return the tensors whose channels can be rescaled, in running order."""
    layers = {layer.out: layer for layer in model.layers()}
    readers: dict[str, list[NodeProto]] = {}
    for node in model.proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.proto.graph.output}
    alone = {name for name, nodes in readers.items() if len(nodes) == 1 and name not in outputs}
    found = []
    for node in model.proto.graph.node:
        made = _made(model, layers, node)
        if made is None:
            continue
        axis, scaled = made
        value, constants = node.output[0], list(scaled)
        while True:
            next_ = readers.get(value, [])
            if value in outputs or len(next_) != 1 or next_[0].output[0] in layers:
                break
            more = _passes(model, next_[0], value, axis)
            if more is None:
                break
            constants += more
            value = next_[0].output[0]
        ends = [layers.get(each.output[0]) for each in readers.get(value, [])]
        ends = [each for each in ends if each is not None and each.data == value and _takes(each, axis)]
        private = all(name in alone for name, _ in constants)
        if private and value not in outputs and ends and len(ends) == len(readers.get(value, [])):
            found.append(Link(value, axis, tuple(constants), tuple(each for each in ends if each is not None)))
    return found


def equalise(plain: ModelProto, peaks: Mapping[str, Array]) -> ModelProto:
    """Return the model with equalised channels.

    Args:
        plain: in the form of `layers.plain`.
        peaks: for each link's value, the largest absolute value of each channel over calibration inputs.
    """
    return rescaled(plain, factors(plain, peaks))


def factors(plain: ModelProto, peaks: Mapping[str, Array]) -> dict[str, NDArray[np.float64]]:
    """Return what `equalise` divides the channels of each link's value by."""
    model, found = Model(plain), {}
    for link in links(model):
        if link.value in peaks:
            factor = _factors(model, link, peaks[link.value].astype(np.float64))
            if factor is not None:
                found[link.value] = factor
                _apply(model, link, factor)
    return found


def rescaled(plain: ModelProto, by: Mapping[str, NDArray[np.float64]]) -> ModelProto:
    """Return the model with the channels of some links' values divided by given factors.

    Raises:
        ValueError: there is no such link, or it has another number of channels.
    """
    model, left = Model(plain), dict(by)
    for link in links(model):
        factor = left.pop(link.value, None)
        if factor is None:
            continue
        if any(model.array(name).shape[axis] != len(factor) for name, axis in link.scaled):
            raise ValueError(f"{link.value!r:.80} has not {len(factor)} channels")
        _apply(model, link, factor)
    if left:
        raise ValueError(f"no channels of {min(left)!r:.80} can be equalised")
    return model.written()


def peak(value: NDArray[np.float32], axis: int) -> Array:
    """Return the largest absolute value of each channel."""
    rows = np.moveaxis(np.abs(value), axis, 0)
    return np.asarray(rows.reshape(rows.shape[0], -1).max(1), np.float32)


def _axis(kind: str) -> int:
    return 1 if kind == "Conv" else -1


def _takes(layer: Layer, axis: int) -> bool:
    """Whether a layer multiplies the channels along this axis of what it reads."""
    turned = any(attribute.name == "transA" and attribute.i for attribute in layer.node.attribute)
    return _axis(layer.kind) == axis and not turned


def _made(model: Model, layers: Mapping[str, Layer], node: NodeProto) -> tuple[int, list[tuple[str, int]]] | None:
    """Return the channel axis and the constants of a node whose output channels can be scaled."""
    layer = layers.get(node.output[0]) if node.output else None
    if layer is not None:
        if layer.bias and not model.known(layer.bias):
            return None
        if (
            layer.kind == "Gemm"
            and layer.bias
            and model.array(layer.bias).size != model.array(layer.weight).shape[layer.axis]
        ):
            return None
        bias = [(layer.bias, -1)] if layer.bias else []
        return _axis(layer.kind), [(layer.weight, layer.axis), *bias]
    if node.op_type == "LayerNormalization" and len(node.output) == 1:
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        names = [name for name in node.input[1:] if name]
        if axis == -1 and all(model.known(name) and model.array(name).ndim == 1 for name in names):
            return -1, [(name, -1) for name in names]
    if node.op_type == "Mul" and len(node.input) == 2:
        known = [name for name in node.input if model.known(name)]
        if len(known) == 1 and model.array(known[0]).ndim == 1 and model.array(known[0]).size > 1:
            return -1, [(known[0], -1)]
    return None


def _passes(model: Model, node: NodeProto, value: str, axis: int) -> list[tuple[str, int]] | None:
    """Return what has to be scaled with the channels where a node passes them on; None where it does not."""
    if node.op_type == "Add":
        known = [name for name in node.input if model.known(name)]
        if len(known) == 1 and axis == -1 and model.array(known[0]).ndim == 1 and model.array(known[0]).size > 1:
            return [(known[0], -1)]
        return None
    if node.op_type not in HOMOGENEOUS or node.input[0] != value or len(node.output) != 1:
        return None
    if axis == -1 and "Pool" in node.op_type:
        return None
    if node.op_type == "LeakyRelu" and next((a.f for a in node.attribute if a.name == "alpha"), 0.01) < 0:
        return None
    return []


def _factors(model: Model, link: Link, peaks: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return s of each channel: dividing the value by it makes its channels alike."""
    channels = len(peaks)
    for name, axis in link.scaled:
        if model.array(name).shape[axis] != channels or model.array(name).dtype != np.float32:
            return None
    weights = np.zeros(channels)
    for reader in link.readers:
        weights = np.maximum(weights, _by_input(model, reader, channels))
    alone = all(_depthwise(model, reader) for reader in link.readers)
    live = (peaks > 0) & (weights > 0)
    if live.sum() < 2:
        return None
    power = np.zeros(channels)
    power[live] = np.log2(peaks[live]) * (1.0 if alone else SHARE)
    if not alone:
        power[live] -= np.log2(weights[live]) * (1 - SHARE)
    power[live] -= power[live].mean()
    return np.asarray(np.exp2(np.clip(np.rint(power * FINENESS) / FINENESS, -LIMIT, LIMIT)), np.float64)


def _depthwise(model: Model, layer: Layer) -> bool:
    return layer.groups > 1 and model.array(layer.weight).shape[:2] == (layer.groups, 1)


def _by_input(model: Model, layer: Layer, channels: int) -> NDArray[np.float64]:
    """Return the largest absolute weight of each input channel."""
    weight = np.abs(model.array(layer.weight).astype(np.float64))
    if layer.kind != "Conv":
        return np.asarray(weight.max(layer.axis), np.float64)
    groups = weight.reshape(layer.groups, -1, *weight.shape[1:])
    return np.asarray(groups.max(axis=(1, *range(3, groups.ndim))).reshape(channels), np.float64)


def _apply(model: Model, link: Link, factor: NDArray[np.float64]) -> None:
    for name, axis in link.scaled:
        content = model.array(name)
        shape = [1] * content.ndim
        shape[axis] = -1
        model.put(name, (content / factor.reshape(shape)).astype(np.float32))
    for reader in link.readers:
        weight = model.array(reader.weight).astype(np.float64)
        if reader.kind == "Conv":
            groups = weight.reshape(reader.groups, -1, *weight.shape[1:])
            each = factor.reshape(reader.groups, 1, -1, *[1] * (weight.ndim - 2))
            weight = (groups * each).reshape(weight.shape)
        else:
            weight = weight * (factor[None, :] if reader.axis == 0 else factor[:, None])
        model.put(reader.weight, weight.astype(np.float32))

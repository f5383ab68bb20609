"""Small networks trained in numpy alone, and trained on: releases that follow each other, for the delta benchmark.

Dense layers and convolutions with ReLU between them, cross-entropy, Adam (Kingma, Ba 2015); ONNX by hand. Fixed seeds:
the same machine trains the same networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
BATCH = 32


@dataclasses.dataclass(slots=True)
class Layer:
    """A dense layer, weight f32[in, out], or a 3x3 convolution, weight f32[out, in, 3, 3] with padding 1."""

    weight: Array
    bias: Array
    stride: int = 0  # of a convolution; 0: dense
    seen: tuple[Array, ...] = ()

    def forward(self, x: Array) -> Array:
        """Return the sums; `x` is f32[n, in] or f32[n, in, h, w]."""
        if not self.stride:
            self.seen = (x,)
            return x @ self.weight + self.bias
        patches = _patches(x, self.stride)
        self.seen = (x, patches)
        out = patches @ self.weight.reshape(len(self.weight), -1).T + self.bias
        return np.ascontiguousarray(out.transpose(0, 3, 1, 2))

    def backward(self, y: Array) -> tuple[Array, Array, Array]:
        """Return the gradients of input, weight and bias from that of the output."""
        if not self.stride:
            (x,) = self.seen
            return y @ self.weight.T, x.T @ y, y.sum(0)
        x, patches = self.seen
        rows = y.transpose(0, 2, 3, 1)
        flat = rows.reshape(-1, rows.shape[3])
        weight = (flat.T @ patches.reshape(len(flat), -1)).reshape(self.weight.shape)
        spread = (rows @ self.weight.reshape(len(self.weight), -1)).reshape(*rows.shape[:3], -1, 3, 3)
        wide = np.zeros((*x.shape[:2], x.shape[2] + 2, x.shape[3] + 2), np.float32)
        for i in range(3):
            for j in range(3):
                part = spread[..., i, j].transpose(0, 3, 1, 2)
                s, (h, w) = self.stride, part.shape[2:]
                wide[:, :, i : i + s * h : s, j : j + s * w : s] += part
        return wide[:, :, 1:-1, 1:-1], weight, flat.sum(0)


def _patches(x: Array, stride: int) -> Array:
    """Return f32[n, h, w, in * 9]: what a 3x3 convolution sees at each place."""
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), (2, 3))[:, :, ::stride, ::stride]
    return np.ascontiguousarray(view.transpose(0, 2, 3, 1, 4, 5)).reshape(len(x), *view.shape[2:4], -1)


class Network:
    """Layers with ReLU between them; a mean over positions where convolutions meet dense layers."""

    def __init__(self, shape: Sequence[int], widths: Sequence[tuple[int, int]], seed: int) -> None:
        """`widths`: (channels, stride) of each layer; stride 0 is dense."""
        self.shape = tuple(shape)
        rng, inside = np.random.default_rng(seed), shape[0]
        self.layers = []
        for width, stride in widths:
            size = (width, inside, 3, 3) if stride else (inside, width)
            fan = inside * 9 if stride else inside
            weight = rng.normal(0, np.sqrt(2 / fan), size).astype(np.float32)
            self.layers.append(Layer(weight, np.zeros(width, np.float32), stride))
            inside = width

    def scores(self, x: Array) -> Array:
        """Return logits f32[n, classes]."""
        for layer in self.layers:
            if not layer.stride and x.ndim == 4:
                x = x.mean((2, 3))
            x = layer.forward(x)
            x = x if layer is self.layers[-1] else np.maximum(x, 0)
        return x

    def accuracy(self, x: Array, labels: NDArray[np.int64]) -> float:
        """Return the share of right answers."""
        return float(np.mean(self.scores(x).argmax(1) == labels))

    def train(
        self, x: Array, labels: NDArray[np.int64], *, epochs: int, rate: float, seed: int, head: bool = False
    ) -> None:
        """Train all layers, or only the last (`head`), by Adam with a rate that falls to zero."""
        rng, trained = np.random.default_rng(seed), self.layers[-1:] if head else self.layers
        state = {id(each): [np.zeros_like(p) for p in (each.weight, each.bias) for _ in range(2)] for each in trained}
        steps = epochs * (len(x) // BATCH)
        for step in range(steps):
            if step % (len(x) // BATCH) == 0:
                order = rng.permutation(len(x))
            start = step % (len(x) // BATCH) * BATCH
            chosen = order[start : start + BATCH]
            gradients = self._gradients(x[chosen], labels[chosen], head=head)
            now = rate * (1 - step / steps)
            for layer, pair in zip(reversed(trained), gradients, strict=True):
                moments = state[id(layer)]
                for place, (value, gradient) in enumerate(zip((layer.weight, layer.bias), pair, strict=True)):
                    first, second = moments[2 * place], moments[2 * place + 1]
                    first += 0.1 * (gradient - first)
                    second += 0.001 * (gradient**2 - second)
                    mean, spread = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
                    value -= (now * mean / (np.sqrt(spread) + 1e-8)).astype(np.float32)

    def _gradients(self, x: Array, labels: NDArray[np.int64], *, head: bool) -> list[tuple[Array, Array]]:
        """Return (weight, bias) of the layers, the last first."""
        scores = self.scores(x)
        shares = np.exp(scores - scores.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        shares[np.arange(len(x)), labels] -= 1
        y: Array = (shares / len(x)).astype(np.float32)
        found = []
        for place in reversed(range(len(self.layers))):
            layer = self.layers[place]
            y, weight, bias = layer.backward(y)
            found.append((weight, bias))
            if head:
                break
            if place and not layer.stride and self.layers[place - 1].stride:
                before = self.layers[place - 1].seen[1].shape[1:3]
                y = np.broadcast_to(y[:, :, None, None] / np.prod(before), (*y.shape, *before)).astype(np.float32)
            if place:
                y = y * (self._inputs(place) > 0)
        return found

    def _inputs(self, place: int) -> Array:
        """Return what a layer was given, in the form that the layer before it gave."""
        layer, before = self.layers[place], self.layers[place - 1]
        if layer.stride or not before.stride:
            return layer.seen[0]
        patches = before.seen[1]
        out = patches @ before.weight.reshape(len(before.weight), -1).T + before.bias
        return np.ascontiguousarray(out.transpose(0, 3, 1, 2))

    def model(self) -> onnx.ModelProto:
        """Return the network as ONNX, with a softmax."""
        nodes, constants, x = [], [], "x"
        for place, layer in enumerate(self.layers):
            if not layer.stride and place and self.layers[place - 1].stride:
                nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"]))
                nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
                x = "flat"
            parts = {f"w{place}": layer.weight, f"b{place}": layer.bias}
            constants += [numpy_helper.from_array(content, name) for name, content in parts.items()]
            words: dict[str, Any] = {"pads": [1] * 4, "strides": [layer.stride] * 2} if layer.stride else {}
            kind = "Conv" if layer.stride else "Gemm"
            nodes.append(helper.make_node(kind, [x, f"w{place}", f"b{place}"], [f"h{place}"], **words))
            x = f"h{place}"
            if layer is not self.layers[-1]:
                nodes.append(helper.make_node("Relu", [x], [f"r{place}"]))
                x = f"r{place}"
        nodes.append(helper.make_node("Softmax", [x], ["y"], axis=1))
        one = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *self.shape])
        two = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, len(self.layers[-1].bias)])
        graph = helper.make_graph(nodes, "trained", [one], [two], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

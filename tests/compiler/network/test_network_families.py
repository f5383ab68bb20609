"""The shapes of common networks in small: detection heads, decoders, shuffles, recurrent and tabular models.

Each is generated in float32 and, where it has convolutions, in bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.compiler.network.bulk_checks import Case, case, check_all, expected
from tests.compiler.network.conftest import machine, random

from skerry_compiler.engines.network import bulk
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.engines.network.quantise import Precision

node = helper.make_node


def weights(*shape: int, seed: int = 0) -> Any:
    """Return weights that keep the size of values."""
    return random(*shape, seed=seed) / np.float32(np.prod(shape[1:]) ** 0.5)


def yolo_grid() -> Case:
    """Anchors, a grid, powers: how YOLOv5 decodes."""
    ys, xs = np.meshgrid(np.arange(4), np.arange(5), indexing="ij")
    constants = {
        "w": weights(21, 8, 1, 1), "b": random(21, seed=1), "s": np.array([1, 3, 7, 4, 5]), "cut": np.array([2, 2, 3]),
        "two": np.float32(2), "half": np.float32(0.5), "eight": np.float32(8), "flat": np.array([1, -1, 7]),
        "grid": np.stack([xs, ys], -1)[None, None].astype(np.float32),
        "anchors": np.abs(random(1, 3, 1, 1, 2, seed=2)),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"]), node("Reshape", ["c", "s"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[0, 1, 3, 4, 2]), node("Sigmoid", ["t"], ["g"]),
        node("Split", ["g", "cut"], ["xy", "wh", "conf"], axis=4), node("Mul", ["xy", "two"], ["xy2"]),
        node("Sub", ["xy2", "half"], ["xy3"]), node("Add", ["xy3", "grid"], ["xy4"]),
        node("Mul", ["xy4", "eight"], ["xy5"]),
        node("Mul", ["wh", "two"], ["wh2"]), node("Pow", ["wh2", "two"], ["wh3"]),
        node("Mul", ["wh3", "anchors"], ["wh4"]),
        node("Concat", ["xy5", "wh4", "conf"], ["k"], axis=4), node("Reshape", ["k", "flat"], ["y"]),
    ]  # fmt: skip
    return case(nodes, {"x": random(1, 8, 4, 5)}, constants)


def yolo_distribution() -> Case:
    """Boxes as expectations of distributions: how YOLOv8 decodes; the best class by ArgMax and TopK."""
    constants = {
        "w": weights(20, 6, 3, 3), "s": np.array([1, 20, -1]), "cut": np.array([16, 4]), "box": np.array([1, 4, 4, -1]),
        "steps": np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1), "out": np.array([1, 4, -1]), "k": np.array([5]),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), node("Reshape", ["c", "s"], ["r"]),
        node("Split", ["r", "cut"], ["b", "cls"], axis=1), node("Reshape", ["b", "box"], ["d"]),
        node("Transpose", ["d"], ["t"], perm=[0, 2, 1, 3]), node("Softmax", ["t"], ["p"], axis=1),
        node("Conv", ["p", "steps"], ["e"]), node("Reshape", ["e", "out"], ["boxes"]),
        node("Sigmoid", ["cls"], ["scores"]), node("Concat", ["boxes", "scores"], ["y"], axis=1),
        node("ArgMax", ["scores"], ["label"], axis=1), node("ReduceMax", ["scores"], ["best"], axes=[1], keepdims=0),
        node("TopK", ["best", "k"], ["top", "place"]),
    ]  # fmt: skip
    return case(nodes, {"x": random(1, 6, 5, 4)}, constants, opset=17, outputs=["y", "label", "top", "place"])


def shuffle() -> Case:
    """Channel split, depthwise, shuffle by Reshape and Transpose: ShuffleNetV2."""
    constants = {
        "w": weights(8, 8, 1, 1), "d": weights(8, 1, 3, 3, seed=1), "s": np.array([1, 2, 8, 6, 5]),
        "t": np.array([1, 16, 6, 5]), "half": np.array([8, 8]),
    }  # fmt: skip
    nodes = [
        node("Split", ["x", "half"], ["a", "b"], axis=1), node("Conv", ["b", "w"], ["c"]), node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "d"], ["e"], group=8, pads=[1, 1, 1, 1]), node("Concat", ["a", "e"], ["k"], axis=1),
        node("Reshape", ["k", "s"], ["g"]), node("Transpose", ["g"], ["h"], perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["h", "t"], ["y"]),
    ]  # fmt: skip
    return case(nodes, {"x": random(1, 16, 6, 5)}, constants)


def u_net() -> Case:
    """Down, up by a transposed convolution, and across; the map of classes comes out."""
    constants = {"a": weights(8, 3, 3, 3), "b": weights(16, 8, 3, 3, seed=1), "u": weights(16, 8, 2, 2, seed=2),
                 "c": weights(4, 16, 3, 3, seed=3)}  # fmt: skip
    nodes = [
        node("Conv", ["x", "a"], ["a1"], pads=[1] * 4), node("Relu", ["a1"], ["a2"]),
        node("MaxPool", ["a2"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["m", "b"], ["b1"], pads=[1] * 4),
        node("Relu", ["b1"], ["b2"]), node("ConvTranspose", ["b2", "u"], ["up"], strides=[2, 2]),
        node("Concat", ["a2", "up"], ["k"], axis=1), node("Conv", ["k", "c"], ["y"], pads=[1] * 4),
        node("ArgMax", ["y"], ["map"], axis=1, keepdims=0),
    ]  # fmt: skip
    return case(nodes[:-1], {"x": random(1, 3, 8, 12)}, constants)


def reading() -> Case:
    """Columns of an image into a bidirectional LSTM: CRNN."""
    constants = {
        "w": weights(6, 1, 8, 3), "two": np.array([2]), "i": weights(2, 40, 6, seed=1), "r": weights(2, 40, 10, seed=2),
        "b": random(2, 80, seed=3), "s": np.array([0, 0, -1]), "d": weights(20, 11, seed=4),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["e"]), node("Squeeze", ["e", "two"], ["q"]),
        node("Transpose", ["q"], ["t"], perm=[2, 0, 1]),
        node("LSTM", ["t", "i", "r", "b"], ["l"], hidden_size=10, direction="bidirectional"),
        node("Transpose", ["l"], ["m"], perm=[0, 2, 1, 3]), node("Reshape", ["m", "s"], ["n"]),
        node("MatMul", ["n", "d"], ["o"]), node("LogSoftmax", ["o"], ["y"]),
    ]  # fmt: skip
    return case(nodes, {"x": random(1, 1, 8, 14)}, constants)


def voice() -> Case:
    """A reflected border, a transform as a convolution, its magnitude, one step of an LSTM with its state: Silero."""
    constants = {
        "p": np.array([0, 8, 0, 8]), "one": np.array([1]), "basis": weights(18, 1, 16), "cut": np.array([9, 9]),
        "two": np.float32(2), "w": weights(12, 9, 3, seed=1), "i": weights(1, 48, 12, seed=2),
        "r": weights(1, 48, 12, seed=3),
        "v": weights(1, 12, 1, seed=4), "zero": np.array([0]),
    }  # fmt: skip
    nodes = [
        node("Pad", ["x", "p"], ["a"], mode="reflect"), node("Unsqueeze", ["a", "one"], ["b"]),
        node("Conv", ["b", "basis"], ["c"], strides=[8]), node("Split", ["c", "cut"], ["re", "im"], axis=1),
        node("Pow", ["re", "two"], ["re2"]), node("Pow", ["im", "two"], ["im2"]), node("Add", ["re2", "im2"], ["s"]),
        node("Sqrt", ["s"], ["m"]), node("Conv", ["m", "w"], ["d"], pads=[1, 1]), node("Relu", ["d"], ["e"]),
        node("Transpose", ["e"], ["t"], perm=[2, 0, 1]),
        node("LSTM", ["t", "i", "r", "", "", "h", "cell"], ["", "hn", "cn"], hidden_size=12),
        node("Transpose", ["hn"], ["u"], perm=[1, 2, 0]), node("Conv", ["u", "v"], ["o"]),
        node("Sigmoid", ["o"], ["y"]),
    ]  # fmt: skip
    feed = {"x": random(1, 48), "h": random(1, 1, 12, seed=5), "cell": random(1, 1, 12, seed=6)}
    return case(nodes, feed, constants, outputs=["y", "hn", "cn"])


def table() -> Case:
    """Categories by embeddings, numbers normalised, both into a perceptron: a tabular model."""
    constants = {
        "e0": random(7, 4, seed=1), "e1": random(5, 3, seed=2), "zero": np.array(0), "one": np.array(1),
        "mean": random(3, seed=3), "sd": np.arange(1, 4, dtype=np.float32), "w": weights(10, 8, seed=4),
        "v": weights(8, 2, seed=5),
    }  # fmt: skip
    nodes = [
        node("Gather", ["ids", "zero"], ["i0"], axis=1), node("Gather", ["ids", "one"], ["i1"], axis=1),
        node("Gather", ["e0", "i0"], ["a"]), node("Gather", ["e1", "i1"], ["b"]), node("Sub", ["x", "mean"], ["c"]),
        node("Div", ["c", "sd"], ["d"]), node("Concat", ["a", "b", "d"], ["k"], axis=1),
        node("Gemm", ["k", "w"], ["h"]),
        node("Relu", ["h"], ["r"]), node("Gemm", ["r", "v"], ["l"]), node("Softmax", ["l"], ["y"]),
        node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]  # fmt: skip
    return case(nodes, {"ids": np.array([[6, 2]]), "x": random(1, 3)}, constants, outputs=["y", "label"])


def gated() -> Case:
    """Squeeze and excite with HardSigmoid, HardSwish, an image of bytes: MobileNetV3; two images at once."""
    constants = {"w": weights(16, 3, 3, 3), "d": weights(16, 1, 5, 5, seed=1), "a": weights(4, 16, 1, 1, seed=2),
                 "b": weights(16, 4, 1, 1, seed=3), "k": np.float32(1 / 255)}  # fmt: skip
    nodes = [
        node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        node("Mul", ["t", "k"], ["n"]), node("Conv", ["n", "w"], ["c"], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("HardSwish", ["c"], ["h"]), node("Conv", ["h", "d"], ["e"], group=16, pads=[2] * 4),
        node("GlobalAveragePool", ["e"], ["g"]), node("Conv", ["g", "a"], ["s"]), node("Relu", ["s"], ["r"]),
        node("Conv", ["r", "b"], ["z"]), node("HardSigmoid", ["z"], ["o"], alpha=1 / 6), node("Mul", ["e", "o"], ["y"]),
    ]  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (2, 9, 11, 3)).astype(np.uint8)
    return case(nodes, {"x": image}, constants)


FAMILIES = [yolo_grid, yolo_distribution, shuffle, u_net, reading, voice, table, gated]


def test_families_in_float() -> None:
    check_all([make() for make in FAMILIES])


def test_families_in_bytes(tmp_path: Any) -> None:
    """Bytes where they can be, float32 elsewhere: the answers stay close, integers in and out survive."""
    chosen, processor = machine()
    cases = [make() for make in FAMILIES if make is not table]
    sources = []
    for one in cases:
        ranges = calibrate(network_of(one.proto), one.proto, [one.feed], "minmax")
        sources.append(generate(one.proto, chosen, ranges=ranges, precision=Precision()))
    (tmp_path / "bytes.so").write_bytes(bulk.library_of(sources, chosen, processor))
    opened = bulk.Bulk(tmp_path / "bytes.so")
    for number, one in enumerate(cases):
        wanted = expected(one)[0]
        shapes = [(w.shape, w.dtype) for w in expected(one)]
        found = opened.run(number, [one.feed[i.name] for i in one.proto.graph.input], shapes)[0]
        cosine = float((found * wanted).sum() / np.sqrt((found * found).sum() * (wanted * wanted).sum()))
        assert cosine == pytest.approx(1.0, abs=0.02), f"{one}"

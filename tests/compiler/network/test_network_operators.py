"""Every other operator against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from tests.compiler.network.conftest import check, check_bytes, model, random

quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
UNARY = [
    "Relu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Exp", "Erf", "Abs", "Neg", "Softplus", "Softsign", "Elu",
    "LeakyRelu", "Identity",
]  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: Any) -> None:
    x = random(1, 5, 3, 7) * 3
    check(model([helper.make_node(name, ["x"], ["y"])], {"x": x.shape}), {"x": x})


@pytest.mark.parametrize("name", ["Sqrt", "Log", "Reciprocal"])
def test_unary_of_positive_numbers(name: Any) -> None:
    x = np.abs(random(2, 37)) + 0.01
    check(model([helper.make_node(name, ["x"], ["y"])], {"x": x.shape}), {"x": x})


@st.composite
def broadcasts(draw: st.DrawFn) -> Any:
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    other = [n if draw(st.booleans()) else 1 for n in shape][draw(st.integers(0, len(shape))) :]
    return (
        tuple(shape),
        tuple(other),
        draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Min", "Max"])),
        draw(st.booleans()),
    )


@given(broadcasts())
@quick
def test_arithmetic_with_constants(case: Any) -> None:
    shape, other, name, swap = case
    constant = np.abs(random(*other, seed=1)) + 0.5
    x = np.abs(random(*shape)) + 0.5
    node = helper.make_node(name, ["k", "x"] if swap else ["x", "k"], ["y"])
    check(model([node], {"x": shape}, {"k": constant}), {"x": x})


PAIRS = [
    ((1, 6, 4, 5), (1, 6, 1, 1)),
    ((1, 6, 4, 5), (1, 6, 4, 5)),
    ((1, 1, 4, 5), (1, 6, 4, 5)),
    ((3, 1), (3, 7)),
    ((1, 12, 9, 9), (1, 1, 1, 9)),
]


@given(st.sampled_from(PAIRS), st.sampled_from(["Add", "Sub", "Mul", "Div"]))
@quick
def test_arithmetic_of_activations(shapes: Any, name: Any) -> None:
    a, b = (np.abs(random(*s, seed=i)) + 0.5 for i, s in enumerate(shapes))
    check(model([helper.make_node(name, ["a", "b"], ["y"])], {"a": a.shape, "b": b.shape}), {"a": a, "b": b})


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.sampled_from([1, 3, 16, 20, 64, 70]), st.booleans(),
       st.sampled_from(["MaxPool", "AveragePool"]), st.booleans(), st.booleans())  # fmt: skip
@quick
def test_pools(
    kernel: Any, stride: Any, pad: Any, channels: Any, ceil: Any, name: Any, counted: Any, in_bytes: Any
) -> None:
    attributes: dict[str, Any] = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "ceil_mode": int(ceil)}
    attributes["pads"] = [min(pad, kernel // 2)] * 4
    if name == "AveragePool":
        attributes["count_include_pad"] = int(counted)
    constants = {"w": random(channels, 2, 1, 1, seed=1)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node(name, ["c"], ["y"], **attributes)]
    x = random(1, 2, 7, 8)
    (check_bytes if in_bytes else check)(model(nodes, {"x": x.shape}, constants), {"x": x})


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_softmax(axis: Any, name: Any) -> None:
    x = random(2, 3, 10, 2) * 4
    check(model([helper.make_node(name, ["x"], ["y"], axis=axis)], {"x": x.shape}), {"x": x})


@pytest.mark.parametrize("size", [2, 8, 10, 16, 17, 100])
def test_softmax_of_many_sizes(size: Any) -> None:
    x = random(5, size) * 4
    check(model([helper.make_node("Softmax", ["x"], ["y"])], {"x": x.shape}), {"x": x})


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_concat_and_split(axis: Any) -> None:
    x = random(2, 4, 6, 8)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Concat", ["x", "r"], ["k"], axis=axis),
        helper.make_node("Split", ["k"], ["a", "b"], axis=axis),
        helper.make_node("Sub", ["b", "a"], ["y"]),
    ]
    check(model(nodes, {"x": x.shape}), {"x": x})


@given(st.permutations([0, 1, 2, 3]), st.permutations([0, 1, 2, 3]))
@quick
def test_transposes_and_reshapes(first: Any, second: Any) -> None:
    x = random(2, 3, 4, 5)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=list(first)),
        helper.make_node("Reshape", ["t", "shape"], ["r"]),
        helper.make_node("Transpose", ["r"], ["u"], perm=list(second)),
        helper.make_node("Relu", ["u"], ["y"]),
    ]
    check(model(nodes, {"x": x.shape}, {"shape": np.array([4, 1, 10, -1])}), {"x": x})


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pad(mode: Any) -> None:
    x = random(1, 3, 5, 6)
    node = helper.make_node("Pad", ["x", "p"], ["y"], mode=mode)
    check(model([node], {"x": x.shape}, {"p": np.array([0, 0, 2, 1, 0, 0, 3, 2])}), {"x": x})


def test_slice_and_gather() -> None:
    x = random(3, 8, 9)
    constants = {
        "s": np.array([1, 8]),
        "e": np.array([7, -20]),
        "a": np.array([1, 2]),
        "t": np.array([2, -3]),
        "i": np.array(1),
    }
    nodes = [
        helper.make_node("Slice", ["x", "s", "e", "a", "t"], ["k"]),
        helper.make_node("Gather", ["k", "i"], ["y"], axis=0),
    ]
    check(model(nodes, {"x": x.shape}, constants), {"x": x})


@pytest.mark.parametrize("transform", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize(mode: Any, transform: Any) -> None:
    x = random(1, 5, 4, 6)
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode=mode, coordinate_transformation_mode=transform)
    check(model([node], {"x": x.shape}, {"s": np.array([1, 1, 2, 1.5], np.float32)}), {"x": x})


@pytest.mark.parametrize("axes", [[1], [2, 3], [0], [-1], [1, 2, 3]])
@pytest.mark.parametrize("name", ["ReduceMean", "ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(name: Any, axes: Any, keep: Any) -> None:
    x = random(2, 5, 3, 4)
    check(model([helper.make_node(name, ["x"], ["y"], axes=axes, keepdims=keep)], {"x": x.shape}), {"x": x})


def test_layer_norm() -> None:
    x = random(2, 7, 33)
    node = helper.make_node("LayerNormalization", ["x", "g", "b"], ["y"])
    check(model([node], {"x": x.shape}, {"g": random(33, seed=1), "b": random(33, seed=2)}), {"x": x})


def test_gates_in_one_pass() -> None:
    """SiLU, decomposed HardSwish and GELU: a value combined with a function of itself."""
    x = random(1, 16, 5, 6)
    constants = {"w": random(16, 16, 1, 1, seed=1), "three": np.float32(3), "zero": np.float32(0), "six": np.float32(6),
                 "root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["silu"]),
        helper.make_node("Conv", ["silu", "w"], ["d"]),
        helper.make_node("Add", ["d", "three"], ["d3"]),
        helper.make_node("Clip", ["d3", "zero", "six"], ["d6"]),
        helper.make_node("Mul", ["d", "d6"], ["dd"]),
        helper.make_node("Div", ["dd", "six"], ["swish"]),
        helper.make_node("Div", ["swish", "root"], ["e"]),
        helper.make_node("Erf", ["e"], ["f"]),
        helper.make_node("Add", ["f", "one"], ["g"]),
        helper.make_node("Mul", ["swish", "g"], ["h"]),
        helper.make_node("Mul", ["h", "half"], ["y"]),
    ]
    check(model(nodes, {"x": x.shape}, constants), {"x": x})
    check_bytes(model(nodes, {"x": x.shape}, constants), {"x": x}, steps=10)


def test_depth_to_space() -> None:
    x = random(1, 8, 3, 4)
    check(model([helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2)], {"x": x.shape}), {"x": x})
    check(model([helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")], {"x": x.shape}), {"x": x})

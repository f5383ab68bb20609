"""Convolutions and products against ONNX Runtime: shapes, strides, pads, dilations, groups, float and bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from tests.compiler.network.conftest import check, check_bytes, grid, levels, model, random

from skerry_compiler.engines.network.cost import AVX512, best_block
from skerry_compiler.engines.network.generate import generate

quick = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 5)), draw(st.integers(1, 4))]
    dilation = [draw(st.integers(1, 2)), draw(st.integers(1, 2))]
    size = [draw(st.integers((k - 1) * d + 1, 14)) for k, d in zip(kernel, dilation, strict=True)]
    kind = draw(st.sampled_from(["plain", "plain", "depthwise", "grouped"]))
    channels = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 12, 16, 24, 32, 48, 64, 80]))
    groups = {"plain": 1, "depthwise": channels, "grouped": 2 if channels % 2 == 0 else 1}[kind]
    multiple = draw(st.sampled_from([1, 1, 2])) if kind == "depthwise" else 1
    out = channels * multiple if kind == "depthwise" else groups * draw(st.sampled_from([1, 3, 5, 8, 10, 16, 33]))
    return {
        "kernel_shape": kernel,
        "dilations": dilation,
        "size": size,
        "channels": channels,
        "group": groups,
        "out": out,
        "strides": [draw(st.integers(1, 3)), draw(st.integers(1, 3))],
        "pads": [draw(st.integers(0, 2)) for _ in range(4)],
        "act": draw(st.sampled_from(["none", "Relu", "Clip", "PRelu", "HardSwish"])),
    }


def build(case: dict[str, Any]) -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    kernel, size, channels, groups, out = (case[k] for k in ("kernel_shape", "size", "channels", "group", "out"))
    attributes = {k: case[k] for k in ("kernel_shape", "dilations", "strides", "pads", "group")}
    weight = levels(out, channels // groups, *kernel, seed=1)
    constants: dict[str, Any] = {"w": weight, "b": random(out, seed=2)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c" if case["act"] != "none" else "y"], **attributes)]
    if case["act"] == "PRelu":
        constants["slope"] = random(out, 1, 1, seed=3)
        nodes.append(helper.make_node("PRelu", ["c", "slope"], ["y"]))
    elif case["act"] == "Clip":
        constants |= {"low": np.float32(0), "high": np.float32(1.5)}
        nodes.append(helper.make_node("Clip", ["c", "low", "high"], ["y"]))
    elif case["act"] != "none":
        nodes.append(helper.make_node(case["act"], ["c"], ["y"]))
    x = grid(1, channels, *size)
    return model(nodes, {"x": x.shape}, constants), {"x": x}


@given(convolutions())
@quick
def test_convolutions(case: Any) -> None:
    check(*build(case))


@given(convolutions())
@quick
def test_convolutions_of_bytes(case: Any) -> None:
    check_bytes(*build(case))


@given(st.integers(1, 90), st.sampled_from([1, 2, 5, 16, 17, 64, 100]), st.integers(1, 9), st.booleans(), st.booleans())
@quick
def test_dense_layers(inside: Any, outside: Any, rows: Any, transposed: Any, in_bytes: Any) -> None:
    weight = levels(outside, inside, seed=1)
    weight = weight if transposed else np.ascontiguousarray(weight.T)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=int(transposed))
    proto = model([node], {"x": (rows, inside)}, {"w": weight, "b": random(outside, seed=2)})
    (check_bytes if in_bytes else check)(proto, {"x": grid(rows, inside)})


def test_a_chain_in_bytes_stays_close() -> None:
    """Convolution, depthwise, residual addition, pool and dense layer: every byte path between layers."""
    constants = {
        "w0": random(16, 3, 3, 3, seed=1) * 0.2, "b0": random(16, seed=2),
        "w1": random(16, 1, 3, 3, seed=3) * 0.4, "b1": random(16, seed=4),
        "w2": random(16, 16, 1, 1, seed=5) * 0.3, "b2": random(16, seed=6),
        "w3": random(16, 10, seed=7),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"]),
        helper.make_node("Add", ["c2", "r0"], ["s"]),
        helper.make_node("MaxPool", ["s"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["m", "m"], ["k"], axis=2),
        helper.make_node("GlobalAveragePool", ["k"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["y"]),
    ]
    x = random(1, 3, 17, 20)
    check(model(nodes, {"x": x.shape}, constants), {"x": x})
    check_bytes(model(nodes, {"x": x.shape}, constants), {"x": x}, steps=8)


@given(st.lists(st.integers(1, 4), max_size=2), st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
@quick
def test_products_of_activations(batch: Any, m: Any, k: Any, n: Any) -> None:
    proto = model([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": (*batch, m, k), "b": (*batch, k, n)})
    check(proto, {"a": random(*batch, m, k), "b": random(*batch, k, n, seed=1)})


@given(
    st.sampled_from([3, 16, 20, 33, 64, 96, 130]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["", "Relu", "Clip"]),
)
@quick
def test_a_normalisation_of_bytes_ahead_of_a_convolution(channels: Any, h: Any, w: Any, clamp: Any) -> None:
    """BatchNorm that cannot be folded into a convolution before it: one factor and one term for each channel."""
    constants = {
        "scale": random(channels, seed=1), "shift": random(channels, seed=2), "mean": random(channels, seed=3),
        "variance": np.abs(random(channels, seed=4)) + 0.5, "w": levels(8, channels, 1, 1, seed=5) / channels,
        "low": np.float32(-0.5), "high": np.float32(1.5),
    }  # fmt: skip
    nodes = [
        helper.make_node("MaxPool", ["x"], ["m"], kernel_shape=[2, 2]),
        helper.make_node("BatchNormalization", ["m", "scale", "shift", "mean", "variance"], ["n"]),
        helper.make_node("Conv", ["m", "w"], ["other"]),
    ]
    if clamp:
        nodes.append(helper.make_node(clamp, ["n", "low", "high"] if clamp == "Clip" else ["n"], ["c"]))
    nodes += [
        helper.make_node("Conv", ["c" if clamp else "n", "w"], ["d"]),
        helper.make_node("Add", ["d", "other"], ["y"]),
    ]
    x = grid(1, channels, h + 1, w + 1)
    check_bytes(model(nodes, {"x": x.shape}, constants), {"x": x}, steps=6)


@given(
    st.sampled_from([(32, 4, 4), (8, 2, 2), (4, 1, 2), (3, 5, 7), (16, 1, 3), (2, 24, 40)]),
    st.booleans(),
    st.booleans(),
)
@quick
def test_many_groups(groups: Any, strided: Any, in_bytes: Any) -> None:
    count, inside, outside = groups
    weight = levels(count * outside, inside, 3, 3, seed=1)
    constants = {"w": weight, "b": random(count * outside, seed=2), "slope": random(count * outside, 1, 1, seed=3)}
    attributes = {
        "kernel_shape": [3, 3],
        "pads": [1, 1, 1, 1],
        "strides": [2, 2] if strided else [1, 1],
        "group": count,
    }
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], **attributes)]
    nodes.append(helper.make_node("PRelu", ["c", "slope"], ["y"]))
    x = grid(1, count * inside, 7, 10)
    (check_bytes if in_bytes else check)(model(nodes, {"x": x.shape}, constants), {"x": x})


def test_the_text_does_not_grow_with_the_groups() -> None:
    def lines(groups: int) -> int:
        node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups)
        weight = random(8 * groups, 8, 1, 1)
        source = generate(model([node], {"x": (1, 8 * groups, 6, 6)}, {"w": weight}), AVX512)
        return source.c.count("\n")

    assert abs(lines(16) - lines(2)) <= 2


def test_pixels_a_power_of_two_apart_make_smaller_blocks() -> None:
    """14 pixels of 1024 floats would all lie in the same places of the first cache."""
    free, crowded = (best_block(1, 196, 32, 1024, AVX512, 4 * c) for c in (1008, 1024))
    assert crowded.columns <= AVX512.l1_ways - 2 < free.columns

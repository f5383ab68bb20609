"""Convolutions in Winograd's form against ONNX Runtime: sizes that tiles do not divide, pads, channels, steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from tests.compiler.network.conftest import machine, model, random, reference, run

from skerry_compiler.engines.network.cost import AVX512, SSE, Machine
from skerry_compiler.engines.network.emit import Source, emit
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.engines.network.graph import Conv
from skerry_compiler.engines.network.plan import plan
from skerry_compiler.engines.network.winograd import PRODUCTS, choose, estimate, transformed

quick = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
Model = tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]


def layer(h: int, w: int, ci: int, co: int, pads: list[int], residual: bool = False) -> Model:
    """A 3x3 convolution and ReLU, by choice with something added between."""
    x = random(1, ci, h, w)
    constants = {"w": random(co, ci, 3, 3, seed=1) / np.float32(3 * math.sqrt(ci)), "b": random(co, seed=2)}
    shape = (1, co, h + pads[0] + pads[2] - 2, w + pads[1] + pads[3] - 2)
    feed = {"x": x, "other": random(*shape, seed=3)} if residual else {"x": x}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=pads)]
    nodes += [helper.make_node("Add", ["c", "other"], ["s"])] if residual else []
    nodes.append(helper.make_node("Relu", ["s" if residual else "c"], ["y"]))
    return model(nodes, {name: each.shape for name, each in feed.items()}, constants), feed


def in_tiles(proto: onnx.ModelProto, on: Machine) -> Source:
    """Generate with every possible convolution in tiles, whether it pays or not."""
    network = network_of(proto)
    assert choose(network, on, math.inf) == 1
    return emit(network, plan(network, on), on)


def check(case: Model, on: Machine) -> None:
    proto, feed = case
    expected = reference(proto, feed)
    actual = run(in_tiles(proto, on), proto, feed, [e.shape for e in expected])
    scale = max(float(np.abs(expected[0]).max()), 1e-3)
    np.testing.assert_allclose(actual[0], expected[0], atol=2e-5 * scale, rtol=1e-4)


@given(
    st.integers(3, 19), st.integers(3, 19), st.sampled_from([16, 20, 33, 64]), st.sampled_from([16, 24, 37, 80]),
    st.lists(st.integers(0, 2), min_size=4, max_size=4), st.booleans(),
)  # fmt: skip
@quick
def test_tiles_agree(h: Any, w: Any, ci: Any, co: Any, pads: Any, residual: Any) -> None:
    check(layer(h, w, ci, co, pads, residual), machine()[0])


def test_more_tiles_than_fit_at_a_time() -> None:
    check(layer(45, 50, 64, 64, [1, 1, 1, 1]), machine()[0])


def test_narrow_vectors() -> None:
    check(layer(9, 11, 8, 12, [1, 1, 1, 1], True), SSE)


@pytest.mark.parametrize(("h", "ci", "co", "pays"), [(56, 64, 64, True), (14, 256, 256, True), (7, 512, 512, False)])
def test_the_estimate_takes_layers_of_many_tiles(h: Any, ci: Any, co: Any, pays: Any) -> None:
    network = network_of(layer(h, h, ci, co, [1, 1, 1, 1])[0])
    conv = next(op for op in network.ops if isinstance(op, Conv))
    assert (estimate(conv, AVX512) < 0.8) is pays


def test_strides_dilations_and_groups_stay_direct() -> None:
    for attributes, inside in (({"strides": [2, 2]}, 64), ({"dilations": [2, 2]}, 64), ({"group": 2}, 32)):
        node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], **attributes)
        network = network_of(model([node], {"x": (1, 64, 28, 28)}, {"w": random(64, inside, 3, 3)}))
        assert choose(network, AVX512, math.inf) == 0


def test_transformed_weights_of_a_single_tap() -> None:
    """A kernel that only copies its centre has the transform of a unit impulse: an outer product."""
    weight = np.zeros((3, 3, 1, 1), np.float32)
    weight[1, 1] = 1
    column = np.array([0, -1 / 6, 1 / 6, 1 / 12, -1 / 12, 0])
    np.testing.assert_allclose(transformed(weight).reshape(PRODUCTS), np.outer(column, column).ravel(), atol=1e-7)


def test_the_same_source_twice() -> None:
    proto, _ = layer(28, 28, 32, 32, [1, 1, 1, 1])
    first, second = (generate(proto, AVX512, tiles=True) for _ in range(2))
    assert first == second and "in tiles" in first.c and "in tiles" not in generate(proto, AVX512).c

"""Small machines: outputs over their sources. The same answers to the bit, in less memory, whatever the layers are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from tests.compiler.network.conftest import model, random, run

from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.cost import PLAIN
from skerry_compiler.engines.network.generate import generate, network_of

SMALL = dataclasses.replace(PLAIN, compact=True)
KINDS = ("conv", "strided", "wide", "grouped", "dilated", "depthwise", "pointwise", "pool", "mean", "slope", "residual")


@st.composite
def networks(draw: st.DrawFn) -> tuple[onnx.ModelProto, tuple[int, ...], tuple[int, ...]]:
    """Draw a chain of layers, with the shapes of its input and output."""
    c = draw(st.sampled_from([1, 3, 4, 8, 18]))
    h, w = draw(st.integers(5, 13)), draw(st.integers(5, 13))
    shape = (1, c, h, w)
    nodes: list[Any] = []
    constants: dict[str, Any] = {}
    last = "x"

    def weight(*size: int) -> str:
        name = f"w{len(constants)}"
        constants[name] = random(*size, seed=len(constants)) / np.float32(np.sqrt(np.prod(size[1:])))
        return name

    def add(operator: str, inputs: list[str], **words: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [f"t{len(nodes)}"], **words))
        return f"t{len(nodes) - 1}"

    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=2, max_size=6)):
        into = draw(st.sampled_from([4, 6, 8, 20]))
        same = [1, 1, 1, 1]
        if kind == "conv":
            last, c = add("Conv", [last, weight(into, c, 3, 3)], pads=same), into
        elif kind == "strided":
            last, c = add("Conv", [last, weight(into, c, 3, 3)], pads=[0, 0, 1, 1], strides=[2, 2]), into
            h, w = (h - 2) // 2 + 1, (w - 2) // 2 + 1
        elif kind == "wide":
            last, c = add("Conv", [last, weight(into, c, 5, 1)], pads=[2, 3, 2, 0]), into
            w += 3
        elif kind == "grouped" and c % 2 == 0:
            last, c = add("Conv", [last, weight(into, c // 2, 3, 3)], pads=same, group=2), into
        elif kind == "dilated":
            last, c = add("Conv", [last, weight(into, c, 3, 3)], pads=[2, 2, 2, 2], dilations=[2, 2]), into
        elif kind == "depthwise":
            last = add("Conv", [last, weight(c, 1, 3, 3)], pads=same, group=c)
        elif kind == "pointwise":
            last, c = add("Conv", [last, weight(into, c, 1, 1)]), into
        elif kind in ("pool", "mean") and min(h, w) > 3:
            operator = "MaxPool" if kind == "pool" else "AveragePool"
            last = add(operator, [last], kernel_shape=[3, 3], strides=[2, 2], pads=same)
            h, w = (h - 1) // 2 + 1, (w - 1) // 2 + 1
        elif kind == "slope":
            last = add("Sigmoid", [last])
        elif kind == "residual":
            inner = add("Relu", [add("Conv", [last, weight(c, c, 3, 3)], pads=same)])
            last = add("Add", [add("Conv", [inner, weight(c, c, 1, 1)]), last])
        if min(h, w) < 4:
            break
    nodes.append(helper.make_node("Relu", [last], ["y"]))
    return model(nodes, {"x": shape}, constants), shape, (1, c, h, w)


@pytest.mark.parametrize("in_bytes", [False, True])
@given(networks())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_answers_stay_to_the_bit_in_less_memory(in_bytes: bool, drawn: Any) -> None:
    proto, shape, answer = drawn
    feed = {"x": random(*shape, seed=3)}
    ranges = calibrate(network_of(proto), proto, [feed], "minmax") if in_bytes else None
    plain, small = (generate(proto, each, ranges=ranges) for each in (PLAIN, SMALL))
    assert small.arena_bytes <= plain.arena_bytes
    (one,), (two,) = (run(each, proto, feed, [answer]) for each in (plain, small))
    np.testing.assert_array_equal(one, two)

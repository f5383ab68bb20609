"""Smooth functions as curves: as near as a byte shows, everywhere, behind every kind of kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from tests.compiler.network.conftest import grid, machine, model, random, reference, run

from skerry_compiler.engines.network import curves
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.cost import AVX2, AVX512
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.engines.network.graph import Map, Quant, Step, Tensor
from skerry_compiler.engines.network.quantise import Precision, quant_of

SCALAR = np.float32(0.7).reshape(1, 1, 1)
CHAINS: dict[str, list[Step]] = {
    "sigmoid": [Step("sigmoid")],
    "tanh": [Step("tanh")],
    "silu": [Step("save"), Step("sigmoid"), Step("mul_saved")],
    "gelu": [Step("gelu")],
    "gelu_tanh": [Step("gelu_tanh")],
    "mish": [Step("mish")],
    "softplus": [Step("softplus")],
    "elu": [Step("elu", values=(1.0,))],
    "scaled": [Step("mul", SCALAR), Step("tanh"), Step("add", SCALAR), Step("relu")],
    "exp": [Step("clip", values=(-4.0, 2.0)), Step("exp")],
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(CHAINS)),
    reach=st.floats(0.5, 30.0),
    low=st.floats(-30.0, 0.0),
    more=st.booleans(),
)
def test_a_curve_is_as_near_as_a_byte_shows(name: Any, reach: Any, low: Any, more: Any) -> None:
    values = np.linspace(low, reach, 20001)
    exact = curves.evaluate(CHAINS[name], values)
    quant = quant_of(float(exact.min()), float(exact.max()))
    y = Tensor("y", 1, 1, 16, quant=quant)
    op = Map(label="f", x=Tensor("x", 1, 1, 16), y=y, steps=CHAINS[name])
    curve = curves.fit(CHAINS[name], op, last=not more)
    if curve is None:
        return
    wide = np.concatenate([values, np.linspace(-1e4, 1e4, 4001)])
    found, wanted = curve.at(wide), curves.evaluate(CHAINS[name], wide) / quant.scale
    if not more:
        found, wanted = np.clip(found, 0, 255), np.clip(wanted + quant.zero, 0, 255)
    assert np.all(np.abs(found - wanted) < curves.ERROR * 1.5 + 1e-6 * np.abs(wanted))


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "silu", "gelu", "mish", "softplus"])
def test_common_functions_have_curves(name: Any) -> None:
    exact = curves.evaluate(CHAINS[name], np.linspace(-6, 6, 1001))
    y = Tensor("y", 1, 1, 16, quant=quant_of(float(exact.min()), float(exact.max())))
    op = Map(label="f", x=Tensor("x", 1, 1, 16), y=y, steps=list(CHAINS[name]))
    assert curves.fit(op.steps, op, last=True) is not None


def test_what_depends_on_more_than_the_value_is_left() -> None:
    other = Tensor("o", 4, 4, 16)
    gated = [Step("sigmoid"), Step("mul", other)]
    y = Tensor("y", 4, 4, 16, quant=Quant(0.01, 0))
    op = Map(label="f", x=Tensor("x", 4, 4, 16), y=y, steps=gated)
    from_network = type("Net", (), {"ops": [op]})()
    assert curves.choose(from_network, AVX512) == 0 and op.steps is gated
    op.steps = [Step("save"), Step("add", other), Step("sigmoid"), Step("mul_saved")]
    assert curves.run_of(op.steps) is None
    op.steps = [Step("sigmoid")]
    assert curves.choose(from_network, AVX2) == 0


def test_kernels_with_curves_give_what_onnx_runtime_gives() -> None:
    """Convolutions of both kinds and elementwise operations, channels that fill no vector, sums before and after."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Any] = {"one": np.eye(24, dtype=np.float32).reshape(24, 24, 1, 1)}
    outputs: list[str] = []

    def add(kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def end(name: str) -> None:
        outputs.append(add("Conv", [name, "one"], f"y{len(outputs)}"))

    for i, act in enumerate(("Sigmoid", "Tanh", "Softplus", "Mish", "Elu")):
        constants[f"w{i}"] = random(24, 8, 1, 1, seed=i) * np.float32(0.5)
        end(add(act, [add("Conv", ["x", f"w{i}"], f"c{i}")], f"a{i}"))
    constants |= {"w": random(24, 8, 3, 3) * np.float32(0.2), "d": random(24, 1, 3, 3) * np.float32(0.3)}
    wide = add("Conv", ["x", "w"], "wide", pads=[1] * 4)
    silu = add("Mul", [wide, add("Sigmoid", [wide], "gate")], "silu")
    deep = add("Conv", [silu, "d"], "deep", group=24, pads=[1] * 4)
    both = add("Mul", [deep, add("Sigmoid", [deep], "gate2")], "both")
    end(both)
    end(add("Add", [add("Tanh", [add("Conv", ["x", "w0"], "c9")], "t9"), both], "sum"))
    end(add("Sigmoid", [add("Add", [add("Conv", ["x", "w1"], "c10"), both], "before")], "after"))
    end(add("Tanh", [add("MaxPool", [both], "pool", kernel_shape=[3, 3], pads=[1] * 4)], "pooled"))
    constants["shape"] = np.array([1, 24, 143], np.int64)
    flat = add("Sigmoid", [add("Reshape", [wide, "shape"], "flat")], "soft")
    constants["back"] = np.array([1, 24, 13, 11], np.int64)
    end(add("Reshape", [flat, "back"], "again"))
    proto = model(nodes, {"x": [1, 8, 13, 11]}, constants, outputs=outputs, opset=18)
    feed = {"x": grid(1, 8, 13, 11)}
    expected = reference(proto, feed)
    ranges = calibrate(network_of(proto), proto, [feed], "minmax")
    answers = []
    for on in dict.fromkeys((machine()[0], AVX2 if machine()[0] is AVX512 else machine()[0])):
        source = generate(proto, on, ranges=ranges, precision=Precision())
        assert ("i32x16 segment" in source.c) == (on is AVX512)
        answers.append(run(source, proto, feed, [e.shape for e in expected]))
    for e, *each in zip(expected, *answers, strict=True):
        span = max(float(e.max()), 0.0) - min(float(e.min()), 0.0)
        for a in each:
            np.testing.assert_allclose(a, e, atol=6 * span / 255)
            assert np.abs(a - e).mean() < 1.5 * span / 255
        # Either way of computing ends in the same byte, but where rounding is nearly a tie.
        assert (np.abs(each[0] - each[-1]) > 1e-4 * span).mean() < 0.06


def test_factors_of_bytes_round_to_the_nearest_byte() -> None:
    """BatchNorm and the gates of squeeze and excitation take a byte to a byte: no bias beyond rounding."""
    constants: dict[str, Any] = {"one": np.eye(24, dtype=np.float32).reshape(24, 24, 1, 1)}
    constants["w"] = random(24, 24, 1, 1) * np.float32(0.3)
    constants |= {name: np.full(24, value, np.float32) for name, value in (("v", 1.0), ("m", 0.013))}
    constants |= {"s": np.linspace(0.3, 1.1, 24, dtype=np.float32), "b": np.linspace(-0.4, 0.4, 24, dtype=np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "one"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Conv", ["n", "one"], ["y0"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Conv", ["g", "w"], ["h"]),
        helper.make_node("Sigmoid", ["h"], ["gate"]),
        helper.make_node("Mul", ["c", "gate"], ["e"]),
        helper.make_node("Conv", ["e", "one"], ["y1"]),
        helper.make_node("Neg", ["c"], ["y2"]),  # the convolution keeps readers of its own
    ]
    proto = model(nodes, {"x": [1, 24, 9, 7]}, constants, outputs=("y0", "y1", "y2"))
    feed = {"x": grid(1, 24, 9, 7)}
    ranges = calibrate(network_of(proto), proto, [feed], "minmax")
    source = generate(proto, machine()[0], ranges=ranges, precision=Precision())
    assert source.c.count("a factor and a term for each channel") == 2
    expected = reference(proto, feed)
    actual = run(source, proto, feed, [e.shape for e in expected])
    for e, a, bias in zip(expected, actual, (0.25, 1.2, 0.25), strict=True):  # the gate is a rounded byte itself
        span = max(float(e.max()), 0.0) - min(float(e.min()), 0.0)
        assert np.abs(a - e).mean() < 0.8 * span / 255
        assert np.abs((a - e).mean(axis=(0, 2, 3))).max() < bias * span / 255

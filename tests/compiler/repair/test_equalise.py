"""Equalised networks compute the same, and their channels have ranges of like size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from tests.compiler.network.conftest import model, random, reference
from tests.compiler.repair.nets import network, rows, workshop

from skerry_compiler.engines.network.calibrate import values
from skerry_compiler.repair.equalise import LIMIT, equalise, links, peak
from skerry_compiler.repair.layers import Model, plain

PARTS = ("separable", "prelu", "norm", "pool", "residual", "hswish")
node = helper.make_node


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3),
    st.sampled_from(["", "gemm", "matmul"]),
    st.integers(0, 99),
)
def test_the_function_stays(parts: list[str], end: str, seed: int) -> None:
    proto = network(parts, end, seed)
    form = plain(proto)
    found = links(Model(form))
    peaks = {link.value: peak(_value(form, link.value), link.axis) for link in found}
    changed = equalise(form, peaks)
    for row in rows(2, seed):
        (expected,), (same,), (equal,) = reference(proto, row), reference(form, row), reference(changed, row)
        near = 2e-5 * max(1e-3, float(np.abs(expected).max()))
        np.testing.assert_allclose(same, expected, atol=near, rtol=1e-5)
        np.testing.assert_allclose(equal, expected, atol=near, rtol=1e-5)


def _value(proto: object, name: str) -> np.ndarray:
    return np.concatenate([out[name] for out in values(proto, [name], rows(4, 1))])  # type: ignore[arg-type]


def test_depthwise_layers_get_channels_of_one_size() -> None:
    form = plain(network(["prelu", "separable"], "", 3))
    link = next(each for each in links(Model(form)) if all(reader.groups > 1 for reader in each.readers))
    before = peak(_value(form, link.value), link.axis)
    after = peak(_value(equalise(form, {link.value: before}), link.value), link.axis)
    assert before.max() / before.min() > 3
    assert after.max() / after.min() < 2 ** (1 / 4) * 1.01


@pytest.mark.parametrize("shared", ["scale", "bias"])
def test_what_another_node_reads_too_is_not_scaled(shared: str) -> None:
    constants = {"scale": np.abs(random(6)) + 1, "bias": random(6, seed=1), "w": random(6, 4, seed=2)}
    nodes = [
        node("LayerNormalization", ["x", "scale", "bias"], ["n"]),
        node("MatMul", ["n", "w"], ["m"]),
        node("Mul", ["x", shared], ["s"]),
        node("Concat", ["m", "s"], ["y"], axis=-1),
    ]
    form = plain(model(nodes, {"x": [1, 5, 6]}, constants))
    assert not links(Model(form))
    alone = plain(model(nodes[:2], {"x": [1, 5, 6]}, constants, outputs=["m"]))
    assert len(links(Model(alone))) == 1


def test_values_that_are_outputs_or_bent_are_left_alone() -> None:
    constants = {"w": random(4, 3, 1, 1), "v": random(2, 4, 1, 1, seed=1)}
    first, last = node("Conv", ["x", "w"], ["a"]), node("Conv", ["b", "v"], ["y"])
    bent = [first, node("Sigmoid", ["a"], ["b"]), last]
    assert not links(Model(plain(model(bent, {"x": [1, 3, 4, 4]}, constants))))
    straight = [first, node("Relu", ["a"], ["b"]), last]
    assert len(links(Model(plain(model(straight, {"x": [1, 3, 4, 4]}, constants))))) == 1
    assert not links(Model(plain(model(straight, {"x": [1, 3, 4, 4]}, constants, outputs=["y", "b"]))))


def test_a_dead_channel_and_huge_ranges_stay_within_bounds() -> None:
    proto = network(["prelu", "separable"], "", 3)
    form = plain(proto)
    found = links(Model(form))
    peaks = {link.value: np.array([0, 1e-30, 1e30, *[1.0] * 5], np.float32) for link in found}
    ratio = _ratio(form, equalise(form, peaks), found[0].scaled[0][0])
    assert np.isfinite(ratio).all() and ratio.max() <= 2.0**LIMIT and ratio.min() >= 2.0**-LIMIT


def _ratio(one: object, two: object, name: str) -> np.ndarray:
    a, b = (Model(each).array(name) for each in (one, two))  # type: ignore[arg-type]
    return np.asarray(b[a != 0] / a[a != 0])


def test_nothing_to_equalise_is_said() -> None:
    assert not workshop(network(["sigmoid"], "", 1), 2).equalisable
    assert workshop(network(["separable"], "", 1), 2).equalisable

"""Layers of one form share their code where flash is dear: the same answers, less code."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from tests.compiler.network.conftest import model, random, run

from skerry_compiler.engines.network.alike import together
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.cost import PLAIN
from skerry_compiler.engines.network.generate import generate, network_of

BLOCKS = 3


def network() -> Any:
    """Equal blocks, one after another, and one that is not like them."""
    nodes: list[Any] = []
    weights: dict[str, Any] = {}
    last = "x"
    for block in range(BLOCKS):
        weights[f"d{block}"] = random(16, 1, 3, 3, seed=block)
        weights[f"p{block}"] = random(16, 16, 1, 1, seed=10 + block)
        nodes += [
            helper.make_node("Conv", [last, f"d{block}"], [f"a{block}"], pads=[1, 1, 1, 1], group=16),
            helper.make_node("Relu", [f"a{block}"], [f"b{block}"]),
            helper.make_node("Conv", [f"b{block}", f"p{block}"], [f"c{block}"]),
            helper.make_node("Relu", [f"c{block}"], [f"e{block}"]),
        ]
        last = f"e{block}"
    weights["q"] = random(20, 16, 1, 1, seed=20)
    return model([*nodes, helper.make_node("Conv", [last, "q"], ["y"])], {"x": (1, 16, 9, 7)}, weights)


@pytest.mark.parametrize("in_bytes", [False, True])
def test_the_answers_stay_and_the_code_shrinks(in_bytes: bool) -> None:
    proto, feed = network(), {"x": random(1, 16, 9, 7, seed=5)}
    ranges = calibrate(network_of(proto), proto, [feed], "minmax") if in_bytes else None
    plain = generate(proto, PLAIN, ranges=ranges)
    compact = generate(proto, dataclasses.replace(PLAIN, compact=True), ranges=ranges)
    fewer = len(compact.weights) < len(plain.weights)  # of bytes; floats are the same ones
    assert (fewer if in_bytes else compact.weights == plain.weights) and len(compact.c) < len(plain.c)
    assert compact.c.count("  each_op_") >= 2 * (BLOCKS - 1)
    (one,), (two,) = (run(each, proto, feed, [(1, 20, 9, 7)]) for each in (plain, compact))
    np.testing.assert_array_equal(one, two)


LAYER = """static void {name}(void) {{
  use(constant(float, {w}), constant(float, {b}), at(float, {x}), at(float, {y}));
}}"""


@given(st.lists(st.tuples(*[st.integers(0, 4).map(lambda n: 64 * n)] * 4), min_size=1, max_size=6))
def test_every_layer_still_gets_its_own_places(places: list[tuple[int, int, int, int]]) -> None:
    """What a shared function reads with a call's arguments is what the layer read itself."""
    layers = {f"op_{i}": LAYER.format(name=f"op_{i}", w=w, b=b, x=x, y=y) for i, (w, b, x, y) in enumerate(places)}
    left, calls = together(layers)
    assert set(calls) | set(left) >= set(layers) and not set(calls) & set(left)
    for i, (w, b, x, y) in enumerate(places):
        if f"op_{i}" not in calls:
            assert left[f"op_{i}"] == layers[f"op_{i}"]
            continue
        name, _, words = calls[f"op_{i}"].removesuffix(");").partition("(")
        given_ = [int(each) for each in words.split(", ") if each]
        read: list[int] = []

        def use(*found: int, read: list[int] = read) -> None:
            read.extend(found)

        values = {f"d{k}": each for k, each in enumerate(given_)}
        body = left[name].split("{")[1].split(";")[0].strip()
        plain = {"use": use, "constant": lambda _, at: at, "at": lambda _, at: at, "float": float}
        eval(body, plain, values)  # the expression is Python, too
        assert read == [w, b, x, y]

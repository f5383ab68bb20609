"""Depthwise convolutions of every layout: channels that share vectors or leave a rest, strides, large inputs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import helper
from tests.compiler.network.conftest import check, check_bytes, grid, levels, model

CHANNELS = (4, 8, 16, 32, 40, 64, 144)
WINDOWS = ((3, 1), (3, 2), (5, 1), (5, 2), (2, 2))
SIZES = ((7, 17), (12, 21), (33, 40))


@pytest.mark.parametrize("in_bytes", [False, True])
def test_depthwise_of_every_layout(in_bytes: Any) -> None:
    """One network of many, each with its own input: alternating sizes, with and without clamps."""
    nodes, feed, outputs = [], {}, []
    constants = {f"one{c}": np.eye(c, dtype=np.float32).reshape(c, c, 1, 1) for c in CHANNELS}
    for i, (c, (k, stride)) in enumerate(itertools.product(CHANNELS, WINDOWS)):
        height, width = SIZES[i % len(SIZES)]
        feed[f"x{i}"] = grid(1, c, height, width, seed=i)
        constants[f"w{i}"] = levels(c, 1, k, k, seed=i)
        pads = [k // 2] * 4 if i % 2 else [0] * 4
        sizes: dict[str, Any] = {"kernel_shape": [k, k], "strides": [stride, stride], "pads": pads, "group": c}
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"c{i}"], **sizes))
        nodes.append(helper.make_node("Relu" if i % 3 else "Neg", [f"c{i}"], [f"a{i}"]))
        nodes.append(helper.make_node("Conv", [f"a{i}", f"one{c}"], [f"y{i}"]))  # so that the one ahead ends in bytes
        outputs.append(f"y{i}")
    proto = model(nodes, {name: value.shape for name, value in feed.items()}, constants, outputs=outputs)
    (check_bytes if in_bytes else check)(proto, feed)

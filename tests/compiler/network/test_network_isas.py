"""The same bytes on every processor: networks of byte arithmetic, and each helper of the prelude against numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from tests.compiler.network import isas
from tests.compiler.network.conftest import model, random, reference
from tests.compiler.network.isas import ISAS, Isa

from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.generate import generate, network_of

Array = NDArray[np.float32]
FLOATS = ("sse2", "neon", "neon32-no-fma", "cortex-m55", "riscv64", "wasm")  # where float code differs


def on_every(isa: Isa) -> None:
    if isa.missing:
        pytest.skip(isa.missing)


def network() -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return a network of everything that ends in bytes by one rounding: convolutions plain, strided, grouped, dilated
    and depthwise, additions, slopes, clips, pools, a dense layer; channels that fill vectors and that do not; and in
    floats behind it what has its own order of adding, and smooth functions."""
    weights = {"w": (20, 3, 3, 3), "d": (20, 1, 3, 3), "p": (36, 20, 1, 1), "e": (36, 1, 5, 5), "q": (20, 36, 1, 1),
               "g": (40, 5, 3, 3), "s": (40, 1, 1), "k": (16, 40, 3, 3), "m": (9, 16), "n": (9,)}  # fmt: skip
    constants: dict[str, Any] = {name: random(*shape, seed=i) for i, (name, shape) in enumerate(weights.items())}
    constants |= {"low": np.float32(0), "high": np.float32(6), "scale": np.full(9, 1.5, np.float32)}
    same = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=same, strides=[2, 2]),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("Conv", ["b", "d"], ["c"], pads=same, group=20),
        helper.make_node("Relu", ["c"], ["c1"]),
        helper.make_node("Conv", ["c1", "p"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["c3"]),
        helper.make_node("Conv", ["c3", "e"], ["c4"], pads=[2, 2, 2, 2], group=36),
        helper.make_node("Conv", ["c4", "q"], ["c5"]),
        helper.make_node("Add", ["c5", "b"], ["c6"]),
        helper.make_node("Conv", ["c6", "g"], ["c7"], pads=same, group=4),
        helper.make_node("PRelu", ["c7", "s"], ["c8"]),
        helper.make_node("MaxPool", ["c8"], ["c9"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["c9", "k"], ["c10"], pads=[2, 2, 2, 2], dilations=[2, 2]),
        helper.make_node("HardSwish", ["c10"], ["y"]),
        helper.make_node("GlobalAveragePool", ["y"], ["f"]),
        helper.make_node("Flatten", ["f"], ["f1"]),
        helper.make_node("Gemm", ["f1", "m", "n"], ["z"], transB=1),
        helper.make_node("Softmax", ["z"], ["p1"]),
        helper.make_node("LogSoftmax", ["z"], ["l1"]),
        helper.make_node("Sigmoid", ["z"], ["s1"]),
        helper.make_node("Mul", ["s1", "z"], ["s2"]),
        helper.make_node("Tanh", ["s2"], ["t"]),
        helper.make_node("LayerNormalization", ["z", "scale"], ["o"]),
    ]
    x = random(1, 3, 17, 22, seed=99)
    return model(nodes, {"x": x.shape}, constants, outputs=["y", "z", "p1", "l1", "t", "o"]), {"x": x}


def answers(on: Isa, folder: Path, in_bytes: bool) -> tuple[list[Array], list[Array]]:
    """Return what a processor gives, and what ONNX Runtime does."""
    proto, feed = network()
    expected = reference(proto, feed)
    ranges = calibrate(network_of(proto), proto, [feed], "minmax") if in_bytes else None
    source = generate(proto, on.machine, ranges=ranges)
    return isas.outputs(on, source.c, source.weights, [feed["x"]], [e.shape for e in expected], folder), expected


@pytest.fixture(scope="module")
def plain_bytes(tmp_path_factory: Any) -> list[Array]:
    """What the plainest processor that this machine can run makes of the network."""
    on = next(isa for isa in ISAS if not isa.missing)
    found, expected = answers(on, tmp_path_factory.mktemp("plain"), True)
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=0.06 * np.abs(e).max())
    return found


@pytest.mark.parametrize("on", ISAS, ids=lambda each: each.id)
def test_bytes_are_the_same_on_every_processor(on: Isa, plain_bytes: Any, tmp_path: Any) -> None:
    on_every(on)
    found, _ = answers(on, tmp_path, True)
    for a, e in zip(found, plain_bytes, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("on", [each for each in ISAS if each.id in FLOATS], ids=lambda each: each.id)
def test_floats_agree_on_every_processor(on: Isa, tmp_path: Any) -> None:
    on_every(on)
    found, expected = answers(on, tmp_path, False)
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=1e-5 * np.abs(e).max())

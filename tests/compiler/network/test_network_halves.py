"""Products of bfloat16: exact where numbers are, close to float32 elsewhere, and only for processors that have them."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from onnx import helper
from tests.compiler.network.conftest import call, machine, model, random, reference, run
from tests.compiler.network.isas import Isa, outputs

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine as Processor
from skerry_compiler.engines.network import engine
from skerry_compiler.engines.network.cost import NEON
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.engines.network.halves import Halves, choose, rounded
from skerry_targets import shelf


def whole(*shape: int, seed: int = 0) -> Any:
    """Return small whole numbers, which bfloat16 holds and whose sums of products float32 holds."""
    return np.random.default_rng(seed).integers(-100, 101, shape).astype(np.float32)


def answer(proto: Any, feed: Any) -> tuple[Any, Any]:
    """Return what C with products of bfloat16 gives, and what ONNX Runtime does."""
    on = dataclasses.replace(machine()[0], halves=True)
    network = network_of(proto)
    assert choose(network, on) and any(isinstance(op, Halves) for op in network.ops)
    (expected,) = reference(proto, feed)
    (found,) = run(generate(proto, on, pairs=True), proto, feed, [expected.shape])
    return found, expected


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    ci=st.integers(1, 9), co=st.integers(16, 40), k=st.sampled_from([1, 2, 3]), stride=st.integers(1, 2),
    side=st.integers(5, 12), pad=st.integers(0, 1),
)  # fmt: skip
def test_convolutions_of_whole_numbers_are_exact(ci: Any, co: Any, k: Any, stride: Any, side: Any, pad: Any) -> None:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[pad] * 4, strides=[stride] * 2)
    x = whole(1, ci, side, side)
    proto = model([node], {"x": x.shape}, {"w": whole(co, ci, k, k, seed=1), "b": whole(co, seed=2)})
    assume(choose(network_of(proto), dataclasses.replace(machine()[0], halves=True)))
    found, expected = answer(proto, {"x": x})
    np.testing.assert_array_equal(found, expected)


def test_dense_layers_are_close() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], transB=1),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "v"], ["y"], transB=1),
    ]
    x = random(1, 133)
    found, expected = answer(
        model(nodes, {"x": x.shape}, {"w": random(70, 133, seed=1), "v": random(32, 70, seed=2)}), {"x": x}
    )
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())
    assert (found != expected).any()  # else nothing was rounded


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(derandomize=True, max_examples=300)
def test_rounding_is_to_the_nearest_half_and_ties_to_even(value: float) -> None:
    if abs(value) > 3.38e38:
        return  # becomes infinity
    bits = int(rounded(np.array([value], np.float32))[0])
    below = struct.unpack("<I", struct.pack("<f", value))[0] >> 16
    nearest = [struct.unpack("<f", struct.pack("<I", each << 16))[0] for each in (below, below + 1)]
    off = [abs(each - value) for each in nearest]
    wanted = below + (below & 1) if off[0] == off[1] else below + int(off[1] < off[0])
    assert bits == wanted


def test_only_processors_that_have_them_get_them() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    proto = model([node], {"x": (1, 32, 8, 8)}, {"w": random(64, 32, 1, 1)})
    board = next(each for each in shelf.load_all() if each.id == "x86-64-v4")
    assert [each.id for each in engine.candidates(proto, board)] == ["native-network"]
    cpu = dataclasses.replace(board.cpu, features=(*board.cpu.features, "avx512_bf16"))
    drafts = engine.candidates(proto, dataclasses.replace(board, cpu=cpu))
    assert [(each.id, each.precision) for each in drafts] == [("native-network", "fp32"), ("native-bf16", "bf16")]
    assert "avx512_bf16" in drafts[1].requires.cpu_features  # type: ignore[union-attr]


def test_the_plain_form_computes_the_same(tmp_path: Any) -> None:
    """Compiled for a processor without the instruction: only rounding of sums may differ, and of whole numbers none."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    x = whole(1, 5, 9, 9)
    proto = model([node], {"x": x.shape}, {"w": whole(24, 5, 3, 3, seed=1)})
    chosen, processor = machine()
    on = dataclasses.replace(chosen, halves=True)
    source = generate(proto, on, pairs=True)
    (expected,) = reference(proto, {"x": x})
    path = tmp_path / "plain.so"
    levels = {16: "x86_64_v4", 8: "x86_64_v3", 4: "x86_64_v2"}
    plain = Processor(on.lanes, on.registers, 16, 32 * on.lanes, processor.triple, levels[on.lanes])
    path.write_bytes(build.artifact(source.c, plain, source.weights))
    (found,) = call(path, [x], [expected.shape])
    np.testing.assert_array_equal(found, expected)


def test_what_lies_past_the_end_does_not_count() -> None:
    """Sums of odd length read one value too many, which may be no number left by another layer in the same memory."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Slice", ["a", "from", "to", "axis"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["y"]),
    ]
    x = np.full((1, 16, 4, 4), np.nan, np.float32)
    x[:, :, :1, :1] = 1
    constants = {"w": whole(16, 16, 1, 1), "v": whole(32, 15, 1, 1, seed=1), "from": np.array([0, 0, 0]),
                 "to": np.array([15, 1, 1]), "axis": np.array([1, 2, 3])}  # fmt: skip
    found, expected = answer(model(nodes, {"x": x.shape}, constants), {"x": x})
    assert np.isfinite(expected).all() and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.01 * np.abs(expected).max())


@pytest.mark.emulated
def test_arm_multiplies_pairs_too(tmp_path: Any) -> None:
    on = Isa("bf16", dataclasses.replace(NEON, halves=True), "aarch64-linux-musl", "generic+v8_2a+bf16",
             ("qemu-aarch64-static", "-cpu", "max"))  # fmt: skip
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    x = whole(1, 6, 9, 9)
    proto = model([node], {"x": x.shape}, {"w": whole(24, 6, 3, 3, seed=1)})
    (expected,) = reference(proto, {"x": x})
    source = generate(proto, on.machine, pairs=True)
    (found,) = outputs(on, source.c, source.weights, [x], [expected.shape], tmp_path)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(AssertionError, match=r"\(-4,|\(132,"):  # an illegal instruction where there is none
        weaker = dataclasses.replace(on, command=("qemu-aarch64-static", "-cpu", "cortex-a76"))
        outputs(weaker, source.c, source.weights, [x], [expected.shape], tmp_path)

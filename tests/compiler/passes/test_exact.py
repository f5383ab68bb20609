"""Folding and tidying passes: the same answers to the bit, or to the rounding of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.compiler.passes.small import after, answers, kinds, model, node, normal

from skerry_compiler.passes.fold_dequantised import FoldDequantised
from skerry_compiler.passes.fold_norm import FoldNorm
from skerry_compiler.passes.prelu import PReluForms
from skerry_compiler.passes.redundant import Redundant

quick = settings(max_examples=25, deadline=None, derandomize=True)


def statistics(channels: int, seed: int = 5) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    low, high = {"v": 0.1, "s": -2.0}, {"v": 4.0, "s": 2.0}
    return {name: random.uniform(low.get(name, -1), high.get(name, 1), channels).astype(np.float32) for name in "sbmv"}


def norm(x: str, y: str = "y") -> onnx.NodeProto:
    return node("BatchNormalization", f"{x} s b m v", y, epsilon=1e-3)


@given(st.sampled_from([1, 2, 4]), st.integers(1, 3), st.booleans(), st.sampled_from(["Conv", "ConvTranspose"]))
@quick
def test_norm_folds_into_convolutions(groups: int, each: int, biased: bool, kind: str) -> None:
    channels = groups * each * 2
    shape = (channels, each, 3, 3) if kind == "Conv" else (groups * each, channels // groups, 3, 3)
    numbers = {"w": normal(*shape, seed=1), "k": normal(channels, seed=2)} | statistics(channels)
    layer = node(kind, "x w k" if biased else "x w", "c", group=groups, pads=[1, 1, 1, 1])
    before = model([layer, norm("c")], {"x": [1, groups * each, 5, 6]}, numbers)
    made = after(before, FoldNorm())
    assert kinds(made) == [kind]
    (one,), (two,) = (answers(each, {"x": normal(1, groups * shape[1] if kind == "Conv" else shape[0], 5, 6)})
                      for each in (before, made))  # fmt: skip
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=2e-5 * float(np.abs(one).max()))


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5, "beta": 2.0}])
def test_norm_folds_into_gemm(turned: int, factors: dict[str, float]) -> None:
    numbers = {"w": normal(*((3, 7) if turned else (7, 3)), seed=1), "k": normal(3, seed=2)} | statistics(3)
    before = model([node("Gemm", "x w k", "c", transB=turned, **factors), norm("c")], {"x": [2, 7]}, numbers)
    made = after(before, FoldNorm())
    assert kinds(made) == ["Gemm"]
    x = normal(2, 7)
    np.testing.assert_allclose(answers(made, {"x": x})[0], answers(before, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_norm_stays_where_others_read_the_layer() -> None:
    numbers = {"w": normal(4, 3, 1, 1)} | statistics(4)
    before = model([node("Conv", "x w", "c"), norm("c")], {"x": [1, 3, 2, 2]}, numbers, outputs=["y", "c"])
    assert kinds(after(before, FoldNorm())) == ["Conv", "BatchNormalization"]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2), st.booleans())
@quick
def test_prelu_by_bounds_is_exact(shape: list[int], seed: int, channels: bool) -> None:
    extents = [shape[1], *[1] * (len(shape) - 2)] if channels and len(shape) > 1 else shape[-1:]
    before = model([node("PRelu", "x p", "y")], {"x": shape}, {"p": normal(*extents, seed=seed + 9)})
    made = after(before, PReluForms())
    assert "PRelu" not in kinds(made)
    x = normal(*shape, seed=seed) * 100
    np.testing.assert_array_equal(answers(made, {"x": x})[0], answers(before, {"x": x})[0])


def test_prelu_between_convolutions_becomes_convolutions() -> None:
    numbers = {"w": normal(32, 3, 3, 3) / 5, "p": normal(32, 1, 1, seed=1) * 3}
    before = model([node("Conv", "x w", "c"), node("PRelu", "c p", "y")], {"x": [1, 3, 9, 9]}, numbers)
    made = after(before, PReluForms())
    assert kinds(made) == ["Conv", "Conv", "Relu", "Conv", "Add"]
    x = normal(1, 3, 9, 9) * 10
    one, two = answers(before, {"x": x})[0], answers(made, {"x": x})[0]
    np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5)


def test_prelu_of_one_slope_is_leaky_and_a_computed_slope_stays() -> None:
    one = model([node("PRelu", "x p", "y")], {"x": [1, 3, 4]}, {"p": np.full((3, 1), 0.2, np.float32)})
    made = after(one, PReluForms())
    assert kinds(made) == ["LeakyRelu"]
    x = normal(1, 3, 4)
    np.testing.assert_array_equal(answers(made, {"x": x})[0], answers(one, {"x": x})[0])
    computed = model([node("PRelu", "x p", "y")], {"x": [2, 3], "p": [3]})
    assert kinds(after(computed, PReluForms())) == ["PRelu"]


FLOAT, DOUBLE, HALF, INT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32
CHAINS: list[tuple[str, list[onnx.NodeProto], list[str]]] = [
    ("transpositions cancel", [node("Transpose", "x", "a", perm=[0, 2, 1]), node("Transpose", "a", "b", perm=[0, 2, 1]),
                               node("Relu", "b", "y")], ["Relu"]),
    ("transpositions merge", [node("Transpose", "x", "a", perm=[1, 2, 0]), node("Transpose", "a", "y", perm=[2, 1, 0])],
     ["Transpose"]),
    ("reshapes merge", [node("Flatten", "x", "a"), node("Reshape", "a s", "b"), node("Unsqueeze", "b z", "y")],
     ["Reshape"]),
    ("a reshape back", [node("Flatten", "x", "a"), node("Reshape", "a t", "b"), node("Relu", "b", "y")], ["Relu"]),
    ("casts up and back", [node("Cast", "x", "a", to=DOUBLE), node("Cast", "a", "b", to=FLOAT), node("Relu", "b", "y")],
     ["Relu"]),
    ("a rounding cast stays", [node("Cast", "x", "a", to=HALF), node("Cast", "a", "y", to=FLOAT)], ["Cast", "Cast"]),
    ("whole numbers stay whole", [node("Cast", "x", "a", to=INT), node("Cast", "a", "y", to=FLOAT)], ["Cast", "Cast"]),
    ("identities", [node("Identity", "x", "a"), node("Dropout", "a", "b"), node("Relu", "b", "y")], ["Relu"]),
    ("an identity between ends", [node("Identity", "x", "y")], ["Identity"]),
    ("bytes stay bytes", [node("QuantizeLinear", "x q o", "a"), node("DequantizeLinear", "a q o", "b"),
                          node("QuantizeLinear", "b q o", "c"), node("DequantizeLinear", "c q o", "y")],
     ["QuantizeLinear", "DequantizeLinear"]),
    ("other bytes", [node("QuantizeLinear", "x q o", "a"), node("DequantizeLinear", "a q o", "b"),
                     node("QuantizeLinear", "b k o", "c"), node("DequantizeLinear", "c k o", "y")],
     ["QuantizeLinear", "DequantizeLinear"] * 2),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "left"), [each[1:] for each in CHAINS], ids=[each[0] for each in CHAINS])
def test_redundant(nodes: list[onnx.NodeProto], left: list[str]) -> None:
    numbers = {
        "s": np.array([4, -1]), "t": np.array([2, 3, 4]), "z": np.array([0]), "q": np.float32(0.02),
        "k": np.float32(0.03), "o": np.uint8(120),
    }  # fmt: skip
    before = model(nodes, {"x": [2, 3, 4]}, numbers)
    made = after(before, Redundant())
    assert kinds(made) == left
    feeds = {"x": normal(2, 3, 4)}
    np.testing.assert_array_equal(answers(made, feeds)[0], answers(before, feeds)[0])


@given(st.lists(st.permutations(range(4)), min_size=3, max_size=3))
@quick
def test_any_chain_of_transpositions(perms: list[list[int]]) -> None:
    names = ["x", "a", "b", "c"]
    nodes = [node("Transpose", names[i], names[i + 1], perm=list(perms[i])) for i in range(3)]
    before = model([*nodes, node("Relu", "c", "y")], {"x": [2, 3, 4, 5]})
    made = after(before, Redundant())
    assert kinds(made) in (["Transpose", "Relu"], ["Relu"])
    feeds = {"x": normal(2, 3, 4, 5)}
    np.testing.assert_array_equal(answers(made, feeds)[0], answers(before, feeds)[0])


def test_what_a_graph_inside_a_node_reads_stays() -> None:
    inner = helper.make_graph([node("Add", "i one", "r")], "then", [], [helper.make_tensor_value_info("r", FLOAT, [2])])
    other = helper.make_graph([node("Sub", "i one", "q")], "else", [], [helper.make_tensor_value_info("q", FLOAT, [2])])
    choose = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other)
    nodes = [
        node("Identity", "x", "i"),
        node("ReduceSum", "x", "t", keepdims=0),
        node("Greater", "t zero", "c"),
        choose,
    ]
    before = model(nodes, {"x": [2]}, {"one": np.float32(1), "zero": np.float32(0)})
    made = after(before, Redundant())
    assert "Identity" in kinds(made)
    np.testing.assert_array_equal(answers(made, {"x": normal(2)})[0], answers(before, {"x": normal(2)})[0])


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32])
def test_stored_bytes_become_weights_exactly(axis: int | None, kind: type[np.generic]) -> None:
    random = np.random.default_rng(1)
    extent = () if axis is None else ((6, 4)[axis],)
    numbers = {
        "w": random.integers(0, 100, (6, 4)).astype(kind),
        "q": random.uniform(0.01, 0.1, extent).astype(np.float32),
        "o": (np.zeros(extent) if kind is np.int32 else random.integers(0, 9, extent)).astype(kind),
    }
    nodes = [node("DequantizeLinear", "w q o", "r", axis=axis or 0), node("MatMul", "x r", "y")]
    before = model(nodes, {"x": [2, 6]}, numbers)
    made = after(before, FoldDequantised())
    assert kinds(made) == ["MatMul"]
    np.testing.assert_array_equal(answers(made, {"x": normal(2, 6)})[0], answers(before, {"x": normal(2, 6)})[0])


def test_stored_blocks_become_weights_exactly() -> None:
    random = np.random.default_rng(1)
    numbers = {
        "w": random.integers(-9, 9, (6, 4)).astype(np.int8),
        "q": random.uniform(0.01, 0.1, (2, 4)).astype(np.float32),
    }
    nodes = [node("DequantizeLinear", "w q", "r", axis=0, block_size=3), node("MatMul", "x r", "y")]
    before = model(nodes, {"x": [2, 6]}, numbers, opset=21)
    made = after(before, FoldDequantised())
    assert kinds(made) == ["MatMul"]
    np.testing.assert_allclose(
        answers(made, {"x": normal(2, 6)})[0], answers(before, {"x": normal(2, 6)})[0], rtol=1e-6
    )


def test_layers_that_compute_in_bytes_keep_theirs() -> None:
    numbers = {"w": np.ones((6, 4), np.int8), "q": np.float32(0.1), "o": np.uint8(128), "z": np.int8(0)}
    nodes = [
        node("QuantizeLinear", "x q o", "a"), node("DequantizeLinear", "a q o", "b"),
        node("DequantizeLinear", "w q z", "r"), node("MatMul", "b r", "y"),
    ]  # fmt: skip
    before = model(nodes, {"x": [2, 6]}, numbers)
    assert kinds(after(before, FoldDequantised())) == kinds(before)

"""Models that ask for memory and time that nobody has, or that are sound and strange: through the real sandbox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from tests.compiler.hostile_parts import OPEN, TRUE, X, built, sandboxed, stored

from skerry_compiler import sandbox
from skerry_compiler.errors import CompileError, ModelError


def test_an_output_that_is_an_input(tmp_path: Path) -> None:
    model = built([helper.make_node("Relu", ["x"], ["z"])], outputs=[X])
    assert sandboxed(model, tmp_path).signature.outputs[0].name == "x"


@pytest.mark.parametrize("extents", [[1, 2**63 - 1], [1, 1 << 32, 1 << 32], [1, -4], [1, 400_000_000]])
def test_inputs_that_nobody_can_hold(extents: list[int], tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, extents) for name in "xy"]
    with pytest.raises(ModelError, match="'x'"):
        sandboxed(built([helper.make_node("Relu", ["x"], ["y"])], inputs=values[:1], outputs=values[1:]), tmp_path)


def asks(shape: list[int]) -> ModelProto:
    node = helper.make_node("ConstantOfShape", ["s"], ["y"])
    return built([node], [stored("s", shape, np.int64)], inputs=[], outputs=[OPEN])


def grows(nodes: list[onnx.NodeProto], constants: list[TensorProto]) -> ModelProto:
    """`nodes` make the value big from x; the answer is small again."""
    tail = [helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0), helper.make_node("Add", ["x", "sum"], ["y"])]
    return built([*nodes, *tail], constants)


def loops() -> ModelProto:
    values = [helper.make_tensor_value_info(*each) for each in (("i", 7, []), ("go", 9, []), ("v", 1, [1, 4]))]
    ends = [helper.make_tensor_value_info(*each) for each in (("on", 9, []), ("w", 1, [1, 4]))]
    steps = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["v"], ["w"])]
    body = helper.make_graph(steps, "body", values, ends)
    return built([helper.make_node("Loop", ["n", "true", "x"], ["y"], body=body)], [stored("n", 2**62, np.int64), TRUE])


BOMBS: dict[str, Callable[[], ModelProto]] = {
    "six gigabytes from 90 bytes": lambda: asks([40_000, 40_000]),
    "2^63 elements": lambda: asks([2**63 - 1, 1]),
    "a product that overflows": lambda: asks([2**32, 2**32]),
    "less than nothing": lambda: asks([-5, 4]),
    "expanded": lambda: grows(
        [helper.make_node("Expand", ["x", "s"], ["big"])], [stored("s", [1 << 20, 1 << 10, 4], np.int64)]
    ),
    "a range": lambda: grows(
        [helper.make_node("Range", ["a", "b", "c"], ["big"])], [stored("a", 0), stored("b", 4e9), stored("c", 1)]
    ),
    "doubled forty times": lambda: grows(
        [helper.make_node("Concat", [f"c{i}"] * 2, [f"c{i + 1}" if i < 39 else "big"], axis=1) for i in range(40)],
        [stored("c0", [[1, 2]])],
    ),
    "a loop without end": loops,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_asks_for_too_much_ends_in_one_line(bomb: str, tmp_path: Path) -> None:
    model = BOMBS[bomb]()
    assert len(model.SerializeToString()) < 8192
    with pytest.raises(CompileError) as caught:
        sandboxed(model, tmp_path, sandbox.Limits(memory_bytes=3 << 30, cpu_s=6, time_s=60))
    assert caught.value.code in (3, 4, 6) and "\n" not in str(caught.value)


@pytest.mark.parametrize("children", [[0, 1], [1, 0], [-1, 1], [9, 1]], ids=["itself", "a ring", "negative", "nowhere"])
def test_trees_that_are_none(children: list[int], tmp_path: Path) -> None:
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0] * 3,
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0] * 3,
        nodes_modes=["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"],
        nodes_values=[0.5, 0.7, 0.0],
        nodes_truenodeids=[children[0], children[1], 0],
        nodes_falsenodeids=[1, children[1] if children[1] == 0 else 2, 0],
        target_treeids=[0],
        target_nodeids=[2],
        target_ids=[0],
        target_weights=[1.0],
    )
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])
    model = built([node], outputs=[value], imports=[helper.make_opsetid("ai.onnx.ml", 3)])
    with pytest.raises(CompileError) as caught:
        sandboxed(model, tmp_path)
    assert caught.value.code in (3, 4, 6) and "onnxruntime_src" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_give_what_the_original_gives(value: float, tmp_path: Path) -> None:
    """Such a model is sound ONNX: it compiles, or is refused; nothing crashes."""
    weights = np.eye(4, dtype=np.float32)
    weights[0, 0] = value
    prepared = sandboxed(built([helper.make_node("MatMul", ["x", "w"], ["y"])], [stored("w", weights)]), tmp_path)
    assert prepared.signature.outputs[0].shape == (1, 4)

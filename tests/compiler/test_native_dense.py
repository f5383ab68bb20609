"""Generated dense layers and what stands between them, against ONNX Runtime, for several vector widths."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.compiler import native_cases as cases

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.errors import UnsupportedError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
MACHINES = {"v2": cases.V2, "scalar": cases.SCALAR, "wide": cases.WIDE, "host": cases.HOST}


def weights(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(sorted(MACHINES)),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(["Relu", "Tanh", "Sigmoid", "Identity"]),
)
def test_dense_layers_of_any_shape(machine: str, inputs: int, outputs: int, rows: int, turned: bool, kind: str) -> None:
    random = np.random.default_rng(inputs * 100 + outputs)
    weight = weights(random, outputs, inputs) if turned else weights(random, inputs, outputs)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=int(turned), alpha=0.5, beta=2.0),
        helper.make_node(kind, ["h"], ["y"]),
    ]
    model = cases.simple(nodes, [rows, inputs], {"y": FLOAT}, w=weight, b=weights(random, outputs))
    cases.agree(model, weights(random, 3, rows, inputs), MACHINES[machine])


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_a_perceptron_as_scikit_learn_writes_it(machine: str) -> None:
    random = np.random.default_rng(5)
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.5] * 9, scale=[2.0, 0.0, *[1.5] * 7]),
        helper.make_node("MatMul", ["s", "w1"], ["h1"]),
        helper.make_node("Add", ["h1", "b1"], ["h2"]),
        helper.make_node("Relu", ["h2"], ["h3"]),
        helper.make_node("MatMul", ["h3", "w2"], ["h4"]),
        helper.make_node("Add", ["h4", "b2"], ["h5"]),
        helper.make_node("Softmax", ["h5"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["best"], axis=1),
        helper.make_node("ArrayFeatureExtractor", ["classes", "best"], ["chosen"], domain="ai.onnx.ml"),
        helper.make_node("Reshape", ["chosen", "flat"], ["r"]),
        helper.make_node("Cast", ["r"], ["label"], to=INT64),
    ]
    model = cases.simple(
        nodes,
        [1, 9],
        {"label": INT64, "p": FLOAT},
        w1=weights(random, 9, 33),
        b1=weights(random, 33),
        w2=weights(random, 33, 4),
        b2=weights(random, 4),
        classes=np.array([7, 3, 9, 4], np.int64),
        flat=np.array([-1], np.int64),
    )
    cases.agree(model, weights(random, 40, 1, 9), MACHINES[machine])


def test_a_scaler_with_large_offsets_is_not_folded_into_weights() -> None:
    random = np.random.default_rng(6)
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[1e6, 2e6], scale=[1.0, 1.0]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    model = cases.simple(nodes, [1, 2], {"y": FLOAT}, w=weights(random, 2, 3))
    rows = (np.array([[[1e6, 2e6]]]) + random.normal(size=(8, 1, 2)) * 4).astype(np.float32)
    cases.agree(model, rows, cases.HOST)


ELEMENTWISE: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "tanh": ([helper.make_node("Tanh", ["x"], ["y"])], {}),
    "sigmoid": ([helper.make_node("Sigmoid", ["x"], ["y"])], {}),
    "exp": ([helper.make_node("Exp", ["x"], ["y"])], {}),
    "softmax": ([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], {}),
    "leaky": ([helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.3)], {}),
    "clip": ([helper.make_node("Clip", ["x", "lo", "hi"], ["y"])], {"lo": np.float32(-1), "hi": np.float32(2)}),
    "abs": ([helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])], {}),
    "sqrt": ([helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Sqrt", ["a"], ["y"])], {}),
    "l1": ([helper.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm="L1")], {}),
    "l2": ([helper.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm="L2")], {}),
    "max": ([helper.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm="MAX")], {}),
    "row": (
        [helper.make_node("Add", ["x", "r"], ["a"]), helper.make_node("Mul", ["a", "x"], ["y"])],
        {"r": np.arange(7, dtype=np.float32)},
    ),
    "column": ([helper.make_node("Sub", ["c", "x"], ["y"])], {"c": np.array([1.0], np.float32)}),
    "divide": ([helper.make_node("Div", ["x", "c"], ["y"])], {"c": np.array([3.0], np.float32)}),
    "mean": ([helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)], {}),
    "concat": ([helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Concat", ["x", "n", "x"], ["y"], axis=1)], {}),
    "copy": ([helper.make_node("Identity", ["x"], ["y"])], {}),
    "norm": (
        [helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"])],
        {
            "g": np.full(7, 2, np.float32),
            "b": np.ones(7, np.float32),
            "m": np.arange(7, dtype=np.float32),
            "v": np.full(7, 4, np.float32),
        },
    ),
}


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_operations_between_layers(name: str) -> None:
    nodes, stored = ELEMENTWISE[name]
    rows = np.random.default_rng(7).normal(size=(20, 3, 7)).astype(np.float32) * 6
    rows[0, 0] = 0
    rows[1, 0, :3] = [-100, 100, 30]
    rtol = 1e-5 if name != "exp" else 4e-5
    machine = cases.SCALAR if len(name) % 2 else cases.HOST
    model = cases.simple(nodes, [3, 7], {"y": FLOAT}, **{key: np.asarray(each) for key, each in stored.items()})
    cases.agree(model, rows[:, :, :] if name != "exp" else np.clip(rows, -80, 80), machine, rtol=rtol)


def test_a_value_that_is_also_an_output_and_an_input_passed_through() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Identity", ["a"], ["c"]),
    ]
    model = cases.simple(nodes, [1, 5], {"b": FLOAT, "a": FLOAT, "c": FLOAT})
    cases.agree(model, np.random.default_rng(8).normal(size=(4, 1, 5)).astype(np.float32), cases.HOST)


def test_everything_that_has_no_native_form_is_named() -> None:
    nodes = [
        helper.make_node("Erf", ["x"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("CumSum", ["b", "axis"], ["y"], name="two"),
    ]
    model = cases.prepared(cases.simple(nodes, [1, 4], {"y": FLOAT}, axis=np.array(1)))
    with pytest.raises(UnsupportedError) as caught:
        cases.text(model, cases.HOST)
    assert all(word in str(caught.value) for word in ("Erf (node 'one', opset 17", "CumSum (node 'two'"))
    assert "Relu" not in str(caught.value)


def a_model() -> onnx.ModelProto:
    random = np.random.default_rng(9)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    return cases.prepared(cases.simple(nodes, [1, 20], {"y": FLOAT}, w=weights(random, 20, 11), b=weights(random, 11)))


def test_the_same_model_gives_the_same_text_and_the_same_bytes() -> None:
    one, two = cases.text(a_model(), cases.HOST), cases.text(a_model(), cases.HOST)
    assert one == two
    first, second = build.artifact(one, cases.HOST), build.artifact(two, cases.HOST)
    assert first == second
    assert b"/tmp" not in first and b"skerry-" not in first


@pytest.mark.parametrize("triple, cpu", [("aarch64-linux-gnu", "cortex_a72"), ("x86_64-linux-gnu", "x86_64_v4")])
def test_builds_for_other_machines_without_any_library(triple: str, cpu: str) -> None:
    machine = Machine(4, 32, 31, 128, triple, cpu)
    library = build.artifact(cases.text(a_model(), machine), machine)
    assert library[:4] == b"\x7fELF" and library[18] == (0xB7 if "aarch64" in triple else 0x3E)

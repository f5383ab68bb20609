"""Activations, arithmetic, pools, softmax, moves, reductions against ONNX Runtime: many small graphs in one build."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from tests.compiler.network.bulk_checks import Case, case, check_all, drawn
from tests.compiler.network.conftest import check_bytes, model, random

quick = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
UNARY = [
    "Relu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Exp", "Erf", "Abs", "Neg", "Softplus", "Softsign", "Elu",
    "LeakyRelu", "Identity", "Gelu", "Mish",
]  # fmt: skip


def test_unary() -> None:
    x = random(1, 5, 3, 7) * 3
    positive = np.abs(random(2, 37)) + np.float32(0.01)
    cases = [case(helper.make_node(name, ["x"], ["y"]), {"x": x}, opset=20) for name in UNARY]
    cases += [case(helper.make_node(name, ["x"], ["y"]), {"x": positive}) for name in ("Sqrt", "Log", "Reciprocal")]
    check_all(cases)


@st.composite
def broadcasts(draw: st.DrawFn) -> Case:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    other = tuple([n if draw(st.booleans()) else 1 for n in shape][draw(st.integers(0, len(shape))) :])
    name, swap = draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Min", "Max"])), draw(st.booleans())
    x, k = (np.abs(random(*s, seed=i)) + np.float32(0.5) for i, s in enumerate((shape, other)))
    return case(helper.make_node(name, ["k", "x"] if swap else ["x", "k"], ["y"]), {"x": x}, {"k": k})


def test_arithmetic_with_constants() -> None:
    check_all(drawn(broadcasts(), 60))


PAIRS = [
    ((1, 6, 4, 5), (1, 6, 1, 1)),
    ((1, 6, 4, 5), (1, 6, 4, 5)),
    ((1, 1, 4, 5), (1, 6, 4, 5)),
    ((3, 1), (3, 7)),
    ((1, 12, 9, 9), (1, 1, 1, 9)),
]


def test_arithmetic_of_activations() -> None:
    cases = []
    for shapes in PAIRS:
        for name in ("Add", "Sub", "Mul", "Div"):
            a, b = (np.abs(random(*s, seed=i)) + np.float32(0.5) for i, s in enumerate(shapes))
            cases.append(case(helper.make_node(name, ["a", "b"], ["y"]), {"a": a, "b": b}))
    check_all(cases)


@st.composite
def pools(draw: st.DrawFn) -> Case:
    kernel, stride, pad = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 1))
    channels, name = draw(st.sampled_from([1, 3, 16, 20, 64, 70])), draw(st.sampled_from(["MaxPool", "AveragePool"]))
    more: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [min(pad, kernel // 2)] * 4}
    more["ceil_mode"] = draw(st.integers(0, 1))
    if name == "AveragePool":
        more["count_include_pad"] = draw(st.integers(0, 1))
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node(name, ["c"], ["y"], **more)]
    return case(nodes, {"x": random(1, 2, 7, 8)}, {"w": random(channels, 2, 1, 1, seed=1)}, opset=17)


def test_pools() -> None:
    check_all(drawn(pools(), 40))


@given(pools())
@quick
def test_pools_of_bytes(one: Any) -> None:
    check_bytes(one.proto, one.feed)


def test_softmax() -> None:
    x = random(2, 3, 10, 2) * 4
    cases = []
    for name in ("Softmax", "LogSoftmax"):
        cases += [case(helper.make_node(name, ["x"], ["y"], axis=axis), {"x": x}) for axis in (0, 1, 2, 3, -1)]
        cases += [case(helper.make_node(name, ["x"], ["y"], axis=axis), {"x": x}, opset=11) for axis in (1, 3)]
    cases += [case(helper.make_node("Softmax", ["x"], ["y"]), {"x": random(5, n) * 4}) for n in (2, 8, 10, 16, 17, 100)]
    check_all(cases)


def test_concat_and_split() -> None:
    cases = []
    for axis in range(4):
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Concat", ["x", "r"], ["k"], axis=axis),
            helper.make_node("Split", ["k"], ["a", "b"], axis=axis),
            helper.make_node("Sub", ["b", "a"], ["y"]),
        ]
        cases.append(case(nodes, {"x": random(2, 4, 6, 8)}, opset=17))
    check_all(cases)


@st.composite
def turns(draw: st.DrawFn) -> Case:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=draw(st.permutations([0, 1, 2, 3]))),
        helper.make_node("Reshape", ["t", "shape"], ["r"]),
        helper.make_node("Transpose", ["r"], ["u"], perm=draw(st.permutations([0, 1, 2, 3]))),
        helper.make_node("Relu", ["u"], ["y"]),
    ]
    return case(nodes, {"x": random(2, 3, 4, 5)}, {"shape": np.array([4, 1, 10, -1])})


def test_transposes_and_reshapes() -> None:
    cases = drawn(turns(), 40)
    for shape in ((13, 17), (4, 6), (1, 5, 8, 9), (2, 9, 5, 7), (40, 3)):  # blocks turned in registers, and their edges
        perm = [0, *range(2, len(shape)), 1] if len(shape) > 2 else [1, 0]
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Transpose", ["r"], ["t"], perm=perm),
            helper.make_node("Softmax", ["t"], ["y"], axis=-1),
        ]
        cases.append(case(nodes, {"x": random(*shape)}))
    check_all(cases)


def test_pads_slices_and_blocks() -> None:
    cases = []
    for mode in ("constant", "edge", "reflect"):
        node = helper.make_node("Pad", ["x", "p"], ["y"], mode=mode)
        cases.append(case(node, {"x": random(1, 3, 5, 6)}, {"p": np.array([0, 0, 2, 1, 0, 0, 3, 2])}))
    constants = {
        "s": np.array([1, 8]), "e": np.array([7, -20]), "a": np.array([1, 2]), "t": np.array([2, -3]), "i": np.array(1),
    }  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["x", "s", "e", "a", "t"], ["k"]),
        helper.make_node("Gather", ["k", "i"], ["y"], axis=0),
    ]
    cases.append(case(nodes, {"x": random(3, 8, 9)}, constants))
    for name, shape in (("DepthToSpace", (1, 8, 3, 4)), ("SpaceToDepth", (2, 3, 4, 6))):
        cases.append(case(helper.make_node(name, ["x"], ["y"], blocksize=2), {"x": random(*shape)}))
    crd = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")
    check_all([*cases, case(crd, {"x": random(1, 8, 3, 4)})])


def test_reductions() -> None:
    cases = []
    for name in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"):
        for axes in ([1], [2, 3], [0], [-1], [1, 2, 3]):
            for keep in (0, 1):
                node = helper.make_node(name, ["x", "a"], ["y"], keepdims=keep)
                cases.append(case(node, {"x": random(2, 5, 3, 4)}, {"a": np.array(axes)}, opset=18))
    check_all(cases)


def test_layer_norm() -> None:
    node = helper.make_node("LayerNormalization", ["x", "g", "b"], ["y"])
    check_all([case(node, {"x": random(2, 7, 33)}, {"g": random(33, seed=1), "b": random(33, seed=2)})])


def test_gates_in_one_pass() -> None:
    """SiLU, decomposed HardSwish and GELU: a value combined with a function of itself."""
    x = random(1, 16, 5, 6)
    constants = {"w": random(16, 16, 1, 1, seed=1), "three": np.float32(3), "zero": np.float32(0), "six": np.float32(6),
                 "root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["silu"]),
        helper.make_node("Conv", ["silu", "w"], ["d"]),
        helper.make_node("Add", ["d", "three"], ["d3"]),
        helper.make_node("Clip", ["d3", "zero", "six"], ["d6"]),
        helper.make_node("Mul", ["d", "d6"], ["dd"]),
        helper.make_node("Div", ["dd", "six"], ["swish"]),
        helper.make_node("Div", ["swish", "root"], ["e"]),
        helper.make_node("Erf", ["e"], ["f"]),
        helper.make_node("Add", ["f", "one"], ["g"]),
        helper.make_node("Mul", ["swish", "g"], ["h"]),
        helper.make_node("Mul", ["h", "half"], ["y"]),
    ]
    check_all([case(nodes, {"x": x}, constants, opset=17)])
    check_bytes(model(nodes, {"x": x.shape}, constants), {"x": x}, steps=10)

"""Windows, recurrences, resizing, normalisations, reductions against ONNX Runtime: many small graphs in one build."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import helper
from tests.compiler.network.bulk_checks import Case, case, check_all, drawn
from tests.compiler.network.conftest import random


@st.composite
def transposed(draw: st.DrawFn) -> Case:
    rank = draw(st.sampled_from([1, 2, 2]))
    groups, each = draw(st.sampled_from([(1, 3), (1, 8), (2, 2), (4, 1)]))
    kernel = [draw(st.integers(1, 4)) for _ in range(rank)]
    stride = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilation = [draw(st.integers(1, 2)) for _ in range(rank)]
    more: dict[str, Any] = {"strides": stride, "dilations": dilation, "group": groups, "kernel_shape": kernel}
    form = draw(st.sampled_from(["pads", "extra", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if form == "pads":
        more["pads"] = [draw(st.integers(0, (k - 1) * d // 2)) for k, d in zip(kernel, dilation, strict=True)] * 2
    elif form == "extra":
        more["output_padding"] = [s - 1 for s in stride]
    else:
        more["auto_pad"] = form
        more["strides"] = [min(s, (k - 1) * d + 1) for s, k, d in zip(stride, kernel, dilation, strict=True)]
    size = [draw(st.integers(2, 6)) for _ in range(rank)]
    x = random(draw(st.sampled_from([1, 1, 2])), 4, *size)
    constants = {"w": random(4, each, *kernel, seed=1), "b": random(groups * each, seed=2)}
    return case(helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **more), {"x": x}, constants)


def test_transposed_convolutions() -> None:
    check_all(drawn(transposed(), 50))


@st.composite
def windows(draw: st.DrawFn) -> Case:
    rank = draw(st.integers(1, 3))
    name = draw(st.sampled_from(["Conv", "MaxPool", "AveragePool", "LpPool", "GlobalLpPool"]))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    size = [draw(st.integers(5, 7)) for _ in range(rank)]
    x = random(draw(st.sampled_from([1, 2])), 4, *size)
    if name == "GlobalLpPool":
        return case(helper.make_node(name, ["x"], ["y"], p=draw(st.integers(1, 3))), {"x": x})
    more: dict[str, Any] = {"kernel_shape": kernel, "strides": [draw(st.integers(1, 2)) for _ in kernel]}
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto == "NOTSET" or (name == "Conv" and rank == 3):
        more["pads"] = [draw(st.integers(0, k // 2)) for k in kernel] * 2
    else:
        more["auto_pad"] = auto
    if name == "Conv":
        more["group"] = draw(st.sampled_from([1, 2, 4]))
        more["dilations"] = [draw(st.integers(1, 2)) for _ in kernel] if auto == "NOTSET" else [1] * rank
        weight = random(8, 4 // more["group"], *kernel, seed=1)
        return case(helper.make_node(name, ["x", "w"], ["y"], **more), {"x": x}, {"w": weight})
    if name == "LpPool":
        more["p"] = draw(st.integers(1, 3))
    else:
        more["ceil_mode"] = draw(st.integers(0, 1)) if "pads" in more else 0
    if name == "AveragePool":
        more["count_include_pad"] = draw(st.integers(0, 1))
    return case(helper.make_node(name, ["x"], ["y"], **more), {"x": x})


def test_windows_of_any_rank_and_batch() -> None:
    check_all(drawn(windows(), 80))


@st.composite
def recurrent(draw: st.DrawFn) -> Case:
    cell = draw(st.sampled_from(["LSTM", "GRU", "RNN"]))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
    way = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    d, h, i = 1 + (way == "bidirectional"), draw(st.sampled_from([1, 3, 8, 20, 33])), draw(st.integers(1, 9))
    steps, batch = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    constants: dict[str, Any] = {
        "w": random(d, gates * h, i, seed=1) * 0.5, "r": random(d, gates * h, h, seed=2) * 0.3,
        "b": random(d, 2 * gates * h, seed=3),
    }  # fmt: skip
    feed: dict[str, Any] = {"x": random(steps, batch, i)}
    inputs = ["x", "w", "r", "b", ""]
    if draw(st.booleans()):
        constants["n"] = np.array([steps, max(1, steps - 1)][:batch], np.int32)
        inputs[4] = "n"
    if draw(st.booleans()):
        (feed if draw(st.booleans()) else constants)["h"] = random(d, batch, h, seed=4)
        inputs.append("h")
        if cell == "LSTM":
            feed["c"] = random(d, batch, h, seed=5)
            inputs.append("c")
            if draw(st.booleans()):
                constants["p"] = random(d, 3 * h, seed=6)
                inputs.append("p")
    more: dict[str, Any] = {"linear_before_reset": draw(st.integers(0, 1))} if cell == "GRU" else {}
    outputs = ["y", "last", "cell"][: 3 if cell == "LSTM" else 2]
    node = helper.make_node(cell, inputs, outputs, hidden_size=h, direction=way, **more)
    return case(node, feed, constants, outputs=outputs)


def test_recurrent_layers() -> None:
    check_all(drawn(recurrent(), 40))


@st.composite
def resized(draw: st.DrawFn) -> Case:
    rank = draw(st.sampled_from([1, 2, 2]))
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"] if rank == 2 else ["nearest", "linear"]))
    transform = draw(st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]))
    more: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transform}
    if mode == "nearest":
        more["nearest_mode"] = draw(st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]))
    if mode == "cubic":
        more["cubic_coeff_a"] = draw(st.sampled_from([-0.5, -0.75]))
        more["exclude_outside"] = draw(st.integers(0, 1))
    size = [draw(st.integers(2, 6)) for _ in range(rank)]
    x = random(draw(st.sampled_from([1, 1, 2])), 3, *size)
    goal = np.array([*x.shape[:2], *(n * draw(st.integers(1, 3)) for n in size)])
    return case(helper.make_node("Resize", ["x", "", "", "s"], ["y"], **more), {"x": x}, {"s": goal})


def test_resizing() -> None:
    check_all(drawn(resized(), 60))


REDUCTIONS = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"]


@st.composite
def reduced(draw: st.DrawFn) -> Case:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    name = "Reduce" + draw(st.sampled_from(REDUCTIONS))
    axes = sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    x = random(*shape)
    if draw(st.booleans()) and name in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"):
        x = (x * 3).astype(np.int32)
    node = helper.make_node(name, ["x", "a"], ["y"], keepdims=draw(st.integers(0, 1)))
    return case(node, {"x": x}, {"a": np.array(axes)}, opset=18)


def test_reductions_of_every_kind() -> None:
    check_all(drawn(reduced(), 60))


@st.composite
def normalised(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(["InstanceNormalization", "GroupNormalization", "LpNormalization", "LRN",
                                 "MeanVarianceNormalization", "Hardmax", "LayerNormalization"]))  # fmt: skip
    x = random(draw(st.sampled_from([1, 2])), 6, 3, draw(st.integers(2, 9)))
    scale = {"s": random(6, seed=1), "b": random(6, seed=2)}
    if name == "InstanceNormalization":
        return case(helper.make_node(name, ["x", "s", "b"], ["y"]), {"x": x}, scale)
    if name == "GroupNormalization":
        node = helper.make_node(name, ["x", "s", "b"], ["y"], num_groups=draw(st.sampled_from([1, 2, 3])))
        return case(node, {"x": x}, scale)
    if name == "LayerNormalization":
        feed = {"x": x, "s": random(x.shape[3], seed=3)}  # a scale that is no constant
        return case(helper.make_node(name, ["x", "s", "b"], ["y"]), feed, {"b": random(x.shape[3], seed=4)})
    more: dict[str, Any] = {"size": draw(st.sampled_from([1, 3, 5])), "alpha": 0.1} if name == "LRN" else {}
    if name in ("LpNormalization", "Hardmax"):
        more["axis"] = draw(st.integers(0, 3))
    return case(helper.make_node(name, ["x"], ["y"], **more), {"x": x})


def test_normalisations() -> None:
    check_all(drawn(normalised(), 40))


EQUATIONS = ["bij,bjk->bik", "bhid,bhjd->bhij", "ij,jk", "bij,bik->bjk", "i,j->ij", "ii->i", "bid,d->bi", "ijk->kj",
             "...ij,...jk->...ik", "ij->", "bqhd,bkhd->bhqk"]  # fmt: skip
SIZES = {"b": 2, "h": 3, "i": 4, "j": 5, "k": 6, "d": 7, "q": 4}


def test_einsum() -> None:
    cases = []
    for equation in EQUATIONS:
        left = equation.split("->")[0].replace("...", "bh").split(",")
        feed = {f"x{i}": random(*(SIZES[c] for c in term), seed=i) for i, term in enumerate(left)}
        cases.append(case(helper.make_node("Einsum", list(feed), ["y"], equation=equation), feed))
    check_all(cases)


@st.composite
def products(draw: st.DrawFn) -> Case:
    shapes = draw(st.sampled_from([((5,), (5,)), ((5,), (2, 5, 3)), ((2, 3, 5), (5,)), ((2, 1, 3, 5), (4, 5, 2))]))
    kind = draw(st.sampled_from(["float32", "int32", "float64"]))
    a, b = ((random(*s, seed=i) * 4).astype(kind) for i, s in enumerate(shapes))
    return case(helper.make_node("MatMul", ["a", "b"], ["y"]), {"a": a, "b": b})


def test_products_of_any_rank_and_type() -> None:
    cases = drawn(products(), 20)
    for kind in (np.uint8, np.int8):
        right = np.arange(-10, 10).reshape(5, 4).astype(kind)
        feed = {"a": np.arange(15).reshape(3, 5).astype(np.uint8), "b": right}
        node = helper.make_node("MatMulInteger", ["a", "b", "p", "q"], ["y"])
        cases.append(case(node, feed, {"p": np.uint8(3), "q": np.array(1, kind)}))
    for more in ({}, {"transA": 1}, {"transB": 1, "beta": 0.5}, {"alpha": 2.0}):
        a = random(5, 3) if more.get("transA") else random(3, 5)
        b = random(4, 5, seed=1) if more.get("transB") else random(5, 4, seed=1)
        cases.append(
            case(helper.make_node("Gemm", ["a", "b", "c"], ["y"], **more), {"a": a, "b": b, "c": random(3, 1)})
        )
    check_all(cases)


def test_models_that_are_quantised_already() -> None:
    """QDQ around a convolution: weights folded, activations rounded exactly as ONNX says."""
    rng = np.random.default_rng(0)
    constants = {
        "s": np.float32(0.05), "z": np.uint8(120), "ws": rng.random(4).astype(np.float32) * 0.01 + 0.01,
        "wz": np.zeros(4, np.int8), "w": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), "os": np.float32(0.1),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["f"], axis=0),
        helper.make_node("Conv", ["d", "f"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "os", "z"], ["y"]),
        helper.make_node("DequantizeLinear", ["y", "os", "z"], ["real"]),
    ]
    x = random(1, 3, 6, 5) * 3
    turned = [
        nodes[0],
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("DequantizeLinear", ["t", "s", "z"], ["y"]),
    ]
    square = random(1, 3, 4, 4)
    check_all([case(nodes, {"x": x}, constants, outputs=["y", "real"]), case(turned, {"x": square}, constants)])


def test_batches_that_are_turned_between_convolutions() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"]),
        helper.make_node("Transpose", ["b"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("Conv", ["t", "w"], ["u"]),
        helper.make_node("Transpose", ["u"], ["v"], perm=[1, 0, 2, 3]),
        helper.make_node("Conv", ["v", "w"], ["y"]),
    ]
    check_all([case(nodes, {"x": random(3, 3, 9, 9)}, {"w": random(3, 3, 2, 2, seed=1)})])

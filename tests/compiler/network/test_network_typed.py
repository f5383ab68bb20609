"""Typed tensors, indices and moves against ONNX Runtime: many small graphs in one library each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tests.compiler.network.bulk_checks import Case, case, check_all, drawn
from tests.compiler.network.conftest import machine

from skerry_compiler.engines.network import bulk
from skerry_compiler.engines.network.generate import generate
from skerry_compiler.errors import UnsupportedError

TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32,
         "uint8": TensorProto.UINT8, "int8": TensorProto.INT8, "bool": TensorProto.BOOL}  # fmt: skip
kinds = st.sampled_from(["float32", "int64", "int32", "uint8"])
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def some(kind: str, shape: tuple[int, ...], seed: int = 0) -> NDArray[Any]:
    """Return small numbers of a type, both signs where it has them."""
    draw = np.random.default_rng(seed)
    if kind == "float32":
        return draw.standard_normal(shape).astype(np.float32) * 3
    if kind == "bool":
        return draw.integers(0, 2, shape).astype(bool)
    return draw.integers(0 if kind == "uint8" else -9, 10, shape).astype(kind)


@st.composite
def arithmetic(draw: st.DrawFn) -> Case:
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=5)))
    other = tuple([n if draw(st.booleans()) else 1 for n in shape][draw(st.integers(0, len(shape))) :])
    kind = draw(st.sampled_from(["float32", "int64", "int32"]))
    name = draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Mod", "Pow", "Equal", "Less", "GreaterOrEqual"]))
    x, k = some(kind, shape), some(kind, other, 1)
    if name in ("Div", "Mod", "Pow"):
        x, k = np.abs(x), np.abs(k) + 1
    more: dict[str, Any] = {"fmod": 1} if name == "Mod" and kind == "float32" else {}
    node = helper.make_node(name, ["x", "k"], ["y"], **more)
    return case(node, {"x": x, "k": k}) if draw(st.booleans()) else case(node, {"x": x}, {"k": k})


def test_arithmetic_of_any_type_and_broadcasting() -> None:
    check_all(drawn(arithmetic(), 60))


def test_casts() -> None:
    cases = []
    for a in TYPES:
        for b in TYPES:
            cases.append(case(helper.make_node("Cast", ["x"], ["y"], to=TYPES[b]), {"x": np.abs(some(a, (3, 5)))}))
    check_all(cases)


def test_an_image_of_bytes() -> None:
    image = np.random.default_rng(1).integers(0, 256, (1, 9, 7, 3)).astype(np.uint8)
    constants = {"k": np.float32(1 / 255), "w": np.ones((4, 3, 3, 3), np.float32)}
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["t", "k"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("ArgMax", ["c"], ["y"], axis=1),
    ]
    check_all([case(nodes, {"x": image}, constants), case(nodes[:4], {"x": image}, constants, outputs=["c"])])


def test_constants_that_are_not_finite() -> None:
    x = np.array([[-1, 0.5, 2, 9]], np.float32)
    cases = [case(helper.make_node(n, ["x", "k"], ["y"]), {"x": x}, {"k": np.float32(k)})
             for n in ("Add", "Min", "Max", "Mul") for k in (np.inf, -np.inf)]  # fmt: skip
    node = helper.make_node("Clip", ["x", "low", "high"], ["y"])
    check_all([*cases, case(node, {"x": x}, {"low": np.float32(0), "high": np.float32(np.inf)})])


@st.composite
def logic(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    a, b, c = (some("bool", shape, i) for i in range(3))
    name = draw(st.sampled_from(["And", "Or", "Xor", "Not", "Where"]))
    if name == "Not":
        return case(helper.make_node(name, ["a"], ["y"]), {"a": a})
    if name == "Where":
        kind = draw(kinds)
        feed = {"a": a, "b": some(kind, shape[-1:], 3), "c": some(kind, (), 4)}
        return case(helper.make_node(name, ["a", "b", "c"], ["y"]), feed)
    del c
    return case(helper.make_node(name, ["a", "b"], ["y"]), {"a": a, "b": b})


def test_logic() -> None:
    check_all(drawn(logic(), 25))


FUNCTIONS = ["Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh", "Ceil", "Floor", "Round", "Sign", "IsNaN", "Asin",
             "Acos", "Atanh", "Acosh", "Celu", "Selu", "ThresholdedRelu", "Shrink"]  # fmt: skip


def test_functions() -> None:
    small = np.linspace(-0.99, 0.99, 37, dtype=np.float32)
    domain = {"Asin": small, "Acos": small, "Atanh": small, "Acosh": small + 2}
    wide = np.concatenate([np.linspace(-9, 9, 60, dtype=np.float32), np.array([0, 0.5, 1.5, -0.5, -2.5], np.float32)])
    check_all([case(helper.make_node(n, ["x"], ["y"]), {"x": domain.get(n, wide)}, tolerance=1e-6) for n in FUNCTIONS])


@st.composite
def gathering(draw: st.DrawFn) -> Case:
    kind, shape = draw(kinds), draw(shapes)
    axis = draw(st.integers(0, len(shape) - 1))
    name = draw(st.sampled_from(["Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"]))
    data = some(kind, shape)
    rng = np.random.default_rng(2)
    if name in ("GatherND", "ScatterND"):
        depth = draw(st.integers(1, len(shape)))
        cells = rng.permutation(math.prod(shape[:depth]))[:3]
        indices = np.stack(np.unravel_index(cells, shape[:depth]), -1).astype(np.int64)
        feed = {"x": data, "i": indices}
        if name == "ScatterND":
            feed["u"] = some(kind, (len(indices), *shape[depth:]), 5)
        return case(helper.make_node(name, list(feed), ["y"]), feed)
    if name == "Gather":
        indices = rng.integers(-shape[axis], shape[axis], draw(st.sampled_from([(), (3,), (2, 3)]))).astype(np.int64)
    else:
        indices = np.argsort(rng.random(shape), axis).astype(np.int64)
    feed = {"x": data, "i": indices}
    if name == "ScatterElements":
        feed["u"] = some(kind, shape, 5)
    node = helper.make_node(name, list(feed), ["y"], axis=axis)
    if draw(st.booleans()) and name == "Gather":
        return case(node, {"x": data}, {"i": indices})
    return case(node, feed)


def test_gathering_and_scattering() -> None:
    check_all(drawn(gathering(), 60))


@st.composite
def moving(draw: st.DrawFn) -> Case:
    kind, shape = draw(kinds), draw(shapes)
    rank = len(shape)
    x = some(kind, shape)
    name = draw(st.sampled_from(["Slice", "Concat", "Tile", "Expand", "Transpose", "Pad", "Split"]))
    axis = draw(st.integers(0, rank - 1))
    if name == "Slice":
        step = [draw(st.sampled_from([-2, -1, 1, 2])) for _ in shape]
        start = [0 if s > 0 else n - 1 for s, n in zip(step, shape, strict=True)]
        end = [n if s > 0 else -n - 1 for s, n in zip(step, shape, strict=True)]
        constants = {"s": np.array(start), "e": np.array(end), "a": np.arange(rank), "t": np.array(step)}
        return case(helper.make_node(name, ["x", "s", "e", "a", "t"], ["y"]), {"x": x}, constants)
    if name == "Concat":
        return case(helper.make_node(name, ["x", "k", "x"], ["y"], axis=axis), {"x": x}, {"k": some(kind, shape, 1)})
    if name == "Tile":
        repeats = np.array([draw(st.integers(1, 3)) for _ in shape])
        return case(helper.make_node(name, ["x", "r"], ["y"]), {"x": x}, {"r": repeats})
    if name == "Expand":
        wide = np.array([2, *(n if n > 1 else 3 for n in shape)])
        return case(helper.make_node(name, ["x", "s"], ["y"]), {"x": x}, {"s": wide})
    if name == "Transpose":
        return case(helper.make_node(name, ["x"], ["y"], perm=draw(st.permutations(range(rank)))), {"x": x})
    if name == "Split":
        x = some(kind, (*shape[:axis], 5, *shape[axis + 1 :]))
        node = helper.make_node(name, ["x", "s"], ["y", "z"], axis=axis)
        return case(node, {"x": x}, {"s": np.array([2, 3])}, outputs=["y", "z"])
    mode = draw(st.sampled_from(["constant", "edge", "reflect", "wrap"]))
    pads = [draw(st.integers(0, min(2, n - 1))) for n in shape * 2]
    constants = {"p": np.array(pads)}
    if mode == "constant":
        constants["v"] = np.array(3, x.dtype)
    return case(helper.make_node("Pad", ["x", *constants], ["y"], mode=mode), {"x": x}, constants)


def test_moving_data_of_any_type() -> None:
    check_all(drawn(moving(), 70))


@st.composite
def choosing(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    axis = draw(st.integers(0, len(shape) - 1))
    name = draw(st.sampled_from(["ArgMax", "ArgMin", "TopK", "CumSum", "OneHot", "Trilu"]))
    x = some("float32", shape)
    more: dict[str, Any]
    if name in ("ArgMax", "ArgMin"):
        more = {"keepdims": draw(st.integers(0, 1)), "select_last_index": draw(st.integers(0, 1))}
        return case(helper.make_node(name, ["x"], ["y"], axis=axis, **more), {"x": np.round(x)})
    if name == "TopK":
        k = np.array([draw(st.integers(1, shape[axis]))])
        node = helper.make_node(name, ["x", "k"], ["y", "i"], axis=axis, largest=draw(st.integers(0, 1)))
        return case(node, {"x": x}, {"k": k}, outputs=["y", "i"])
    if name == "CumSum":
        more = {"exclusive": draw(st.integers(0, 1)), "reverse": draw(st.integers(0, 1))}
        return case(helper.make_node(name, ["x", "a"], ["y"], **more), {"x": x}, {"a": np.array(axis)})
    if name == "OneHot":
        indices = some("int64", shape)
        values = np.array([0.5, 2], np.float32)
        return case(
            helper.make_node(name, ["i", "d", "v"], ["y"], axis=axis), {"i": indices}, {"d": np.array(7), "v": values}
        )
    square = some("float32", (*shape, 3, 4))
    k = np.array(draw(st.integers(-2, 2)))
    return case(helper.make_node(name, ["x", "k"], ["y"], upper=draw(st.integers(0, 1))), {"x": square}, {"k": k})


def test_choosing() -> None:
    check_all(drawn(choosing(), 50))


def test_token_embedding_with_a_mask() -> None:
    """Ids, positions, a mask by Where: how encoders begin."""
    ids = np.array([[3, 0, 7, 7, 1]])
    rng = np.random.default_rng(0)
    constants = {"table": rng.standard_normal((9, 24)).astype(np.float32), "zero": np.array(0), "one": np.array([1]),
                 "low": np.float32(-1e4), "none": np.float32(0)}  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("Equal", ["ids", "zero"], ["pad"]),
        helper.make_node("Unsqueeze", ["pad", "one"], ["column"]),
        helper.make_node("Where", ["column", "low", "none"], ["mask"]),
        helper.make_node("Transpose", ["e"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["e", "t"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["p"]),
        helper.make_node("MatMul", ["p", "e"], ["y"]),
    ]
    check_all([case(nodes, {"ids": ids}, constants)])


def test_an_index_out_of_range_is_reported_not_read(tmp_path: Any) -> None:
    one = case(helper.make_node("Gather", ["x", "i"], ["y"]), {"x": some("float32", (4, 3)), "i": np.array([1, 99])})
    chosen, processor = machine()
    (tmp_path / "one.so").write_bytes(bulk.library_of([generate(one.proto, chosen)], chosen, processor))
    opened = bulk.Bulk(tmp_path / "one.so")
    with pytest.raises(RuntimeError, match="fault 1"):
        opened.run(0, list(one.feed.values()), [((2, 3), np.float32)])
    opened.run(0, [one.feed["x"], np.array([1, -4])], [((2, 3), np.float32)])


@pytest.mark.parametrize(("name", "why"), [("RandomNormalLike", "random"), ("NonMaxSuppression", "no such operator")])
def test_what_is_not_there_is_named(name: str, why: str) -> None:
    inputs = ["x", "x"] if name == "NonMaxSuppression" else ["x"]
    one = case(helper.make_node(name, inputs, ["y"], name="there"), {"x": some("float32", (1, 3, 4))})
    with pytest.raises(UnsupportedError, match=rf"{name} \(opset 21\) at node 'there': .*{why}"):
        generate(one.proto, machine()[0])

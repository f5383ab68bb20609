"""Forms that exporters take apart come back as one node, answer the same, and nothing else is touched."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.passes.small import after, answers, kinds, model, node, normal

from skerry_compiler.passes.gates import Gates
from skerry_compiler.passes.hard_forms import HardForms
from skerry_compiler.passes.layer_norm import LayerNorm

ALL = Gates(("QuickGelu", "Gelu", "FastGelu"))
quick = settings(max_examples=25, deadline=None, derandomize=True)
Nodes = list[onnx.NodeProto]
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def same(before: onnx.ModelProto, made: onnx.ModelProto, *shape: int, tolerance: float = 2e-6) -> None:
    """Answers agree to rounding for standard normal numbers times four."""
    for seed in range(2):
        feeds = {"x": normal(*shape, seed=seed) * 4}
        for one, two in zip(answers(before, feeds), answers(made, feeds), strict=True):
            np.testing.assert_allclose(
                two, one, rtol=1e-5, atol=tolerance * max(1.0, float(np.abs(one).max(initial=0)))
            )


def scalars(**numbers: float) -> dict[str, Any]:
    return {name: np.float32(number) for name, number in numbers.items()}


HARD = scalars(three=3, zero=0, six=6, sixth=1 / 6)
HARD_FORMS: dict[str, Nodes] = {
    "the product is divided": [
        node("Add", "x three", "a"), node("Clip", "a zero six", "b"), node("Mul", "x b", "c"),
        node("Div", "c six", "y"),
    ],
    "the gate is divided": [
        node("Add", "three x", "a"), node("Clip", "a zero six", "b"), node("Div", "b six", "c"),
        node("Mul", "c x", "y"),
    ],
    "multiplied by a sixth": [
        node("Add", "x three", "a"), node("Clip", "a zero six", "b"), node("Mul", "sixth b", "c"),
        node("Mul", "x c", "y"),
    ],
    "a minimum of a relu": [
        node("Add", "x three", "a"), node("Relu", "a", "r"), node("Min", "r six", "b"), node("Div", "b six", "c"),
        node("Mul", "x c", "y"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", HARD_FORMS)
@pytest.mark.parametrize("swish", [True, False])
@given(shape=shapes)
@quick
def test_hard_swish(form: str, swish: bool, shape: list[int]) -> None:
    before = model(HARD_FORMS[form], {"x": shape}, HARD)
    made = after(before, HardForms(swish=swish))
    assert kinds(made) == (["HardSwish"] if swish else ["HardSigmoid", "Mul"])
    same(before, made, *shape)


def test_hard_sigmoid_of_any_line_and_no_hard_swish_below_its_opset() -> None:
    numbers = scalars(zero=0, one=1, slope=0.2, offset=0.4)
    nodes = [node("Mul", "x slope", "a"), node("Add", "a offset", "b"), node("Clip", "b zero one", "c"),
             node("Div", "c one", "y")]  # fmt: skip
    before = model(nodes, {"x": [2, 3]}, numbers)
    made = after(before, HardForms(swish=True))
    assert kinds(made) == ["HardSigmoid"]
    same(before, made, 2, 3)
    old = after(model(HARD_FORMS["the gate is divided"], {"x": [4]}, HARD, opset=13), HardForms(swish=True))
    assert kinds(old) == ["HardSigmoid", "Mul"]


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        (scalars(three=3, zero=0, six=6, sixth=0.2), "another factor"),
        (scalars(three=3, zero=-1, six=6, sixth=1 / 6), "another floor"),
    ],
)
def test_what_only_looks_like_a_hard_swish_stays(numbers: dict[str, Any], why: str) -> None:
    before = model(HARD_FORMS["multiplied by a sixth"], {"x": [4]}, numbers)
    assert kinds(after(before, HardForms(swish=True))) == kinds(before), why


def test_a_clip_that_is_an_output_too_stays() -> None:
    before = model(HARD_FORMS["the gate is divided"], {"x": [4]}, HARD, outputs=["y", "b"])
    made = after(before, HardForms(swish=True))
    assert "Clip" in kinds(made) and "HardSwish" in kinds(made)
    same(before, made, 4)


def test_a_number_that_adds_axes_is_respected() -> None:
    wide = HARD | {"sixth": np.full((1, 1, 1), 1 / 6, np.float32)}
    before = model(HARD_FORMS["multiplied by a sixth"], {"x": [4]}, wide)
    made = after(before, HardForms(swish=True))
    assert kinds(made) == kinds(before)


NUMBERS = scalars(
    half=0.5, one=1, two=2, root=math.sqrt(2), inverse=math.sqrt(0.5), cubic=0.044715, k=math.sqrt(2 / math.pi),
    three=3, alpha=1.702,
)  # fmt: skip
ERF: dict[str, Nodes] = {
    "pytorch": [
        node("Div", "x root", "a"), node("Erf", "a", "b"), node("Add", "b one", "c"), node("Mul", "x c", "d"),
        node("Mul", "d half", "y"),
    ],
    "half first": [
        node("Mul", "x inverse", "a"), node("Erf", "a", "b"), node("Add", "one b", "c"), node("Mul", "half x", "d"),
        node("Mul", "d c", "y"),
    ],
    "divided by two": [
        node("Mul", "inverse x", "a"), node("Erf", "a", "b"), node("Add", "b one", "c"), node("Div", "c two", "d"),
        node("Mul", "d x", "y"),
    ],
}  # fmt: skip
TANH: dict[str, Nodes] = {
    "power": [
        node("Pow", "x three", "p"), node("Mul", "p cubic", "q"), node("Add", "x q", "r"), node("Mul", "r k", "s"),
        node("Tanh", "s", "t"), node("Add", "t one", "u"), node("Mul", "x half", "v"), node("Mul", "v u", "y"),
    ],
    "products": [
        node("Mul", "x x", "p"), node("Mul", "p x", "q"), node("Mul", "cubic q", "r"), node("Add", "r x", "s"),
        node("Mul", "k s", "t"), node("Tanh", "t", "u"), node("Add", "one u", "v"), node("Mul", "half v", "w"),
        node("Mul", "x w", "y"),
    ],
    "factored": [
        node("Mul", "x x", "p"), node("Mul", "p cubic", "q"), node("Add", "q one", "r"), node("Mul", "x k", "s"),
        node("Mul", "s r", "t"), node("Tanh", "t", "u"), node("Add", "u one", "v"), node("Mul", "x half", "w"),
        node("Mul", "w v", "y"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", [*ERF, *TANH])
@pytest.mark.parametrize("opset", [17, 20])
def test_gelu(form: str, opset: int) -> None:
    before = model((ERF | TANH)[form], {"x": [3, 7]}, NUMBERS, opset=opset)
    made = after(before, ALL)
    name = "Gelu" if opset == 20 or form in ERF else "FastGelu"
    assert kinds(made) == [name] and made.graph.node[0].domain == ("" if opset == 20 else "com.microsoft")
    same(before, made, 3, 7)
    plain = after(before, Gates(()))
    assert kinds(plain) == (["Gelu"] if opset == 20 else kinds(before))


def test_silu_and_quick_gelu() -> None:
    silu = model([node("Sigmoid", "x", "s"), node("Mul", "s x", "y")], {"x": [2, 3]})
    quick_gelu = model([node("Mul", "x alpha", "a"), node("Sigmoid", "a", "s"), node("Mul", "x s", "y")], {"x": [6]},
                       NUMBERS)  # fmt: skip
    for before, shape, alpha in ((silu, (2, 3), 1.0), (quick_gelu, (6,), 1.702)):
        made = after(before, ALL)
        assert kinds(made) == ["QuickGelu"] and made.graph.node[0].attribute[0].f == pytest.approx(alpha)
        same(before, made, *shape)
        assert kinds(after(before, Gates(()))) == kinds(before)


def test_what_only_looks_like_a_gate_stays() -> None:
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "s z", "y")]
    other = model(nodes, {"x": [3], "z": [3]})
    third = [*ERF["pytorch"][:-1], node("Mul", "d k", "y")]
    for before in (other, model(third, {"x": [4]}, NUMBERS)):
        assert kinds(after(before, ALL)) == kinds(before)


def taken_apart(form: str, axes: list[int], *, affine: bool = True) -> Nodes:
    """LayerNormalization as nodes; axes by attribute, as below opset 18."""
    square = node("Pow", "d two", "s") if "pow" in form else node("Mul", "d d", "s")
    ends = [node("Add", "v eps", "e"), node("Sqrt", "e", "q")]
    divide = [node("Div", "d q", "n")]
    if "reciprocal" in form:
        divide = [node("Reciprocal", "q", "i"), node("Mul", "i d", "n")]
    tail = [node("Mul", "n g", "m"), node("Add", "b m", "y")] if affine else [node("Identity", "n", "y")]
    return [
        node("ReduceMean", "x", "a", axes=axes), node("Sub", "x a", "d"), square,
        node("ReduceMean", "s", "v", axes=axes), *ends, *divide, *tail,
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["pow", "mul", "pow reciprocal"])
@pytest.mark.parametrize(("shape", "axes"), [((2, 5, 8), [-1]), ((2, 5, 8), [2]), ((3, 4, 6), [1, 2]), ((6, 8), [-1])])
def test_layer_norm(form: str, shape: tuple[int, ...], axes: list[int]) -> None:
    inner = shape[min(each % len(shape) for each in axes) :]
    numbers = scalars(two=2, eps=1e-5) | {"g": normal(*inner, seed=3), "b": normal(*inner, seed=4)}
    before = model(taken_apart(form, axes), {"x": list(shape)}, numbers)
    made = after(before, LayerNorm())
    assert kinds(made) == ["LayerNormalization"]
    same(before, made, *shape, tolerance=1e-5)
    bare = model(taken_apart(form, axes, affine=False), {"x": list(shape)}, numbers)
    made = after(bare, LayerNorm())
    assert kinds(made) == ["LayerNormalization", "Identity"]
    same(bare, made, *shape, tolerance=1e-5)


def test_other_normalisations_stay() -> None:
    numbers = scalars(two=2, eps=1e-5) | {"g": normal(5, seed=3), "b": normal(5, seed=4)}
    first = model(taken_apart("pow", [0]), {"x": [4, 5]}, numbers)
    old = model(taken_apart("pow", [-1]), {"x": [4, 5]}, numbers, opset=13)
    for before in (first, old):
        assert kinds(after(before, LayerNorm())) == kinds(before)

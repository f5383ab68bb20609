"""Quantising passes and what ONNX Runtime makes of them: agreement, what is left out, and who is offered."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from tests.compiler.passes.small import after, answers, kinds, model, node, normal

from skerry_compiler.engines import onnxruntime, onnxruntime_bytes
from skerry_compiler.engines.candidate import Draft, Failure
from skerry_compiler.engines.onnxruntime_bytes import Trial, Wanted, chosen
from skerry_compiler.errors import CompileError
from skerry_compiler.passes import base, pipelines
from skerry_compiler.passes.quantise import QuantiseU8S8
from skerry_compiler.passes.quantise_dynamic import QuantiseDynamic
from skerry_targets import host

ROWS = {"x": normal(24, 3, 8, 8, seed=7)}


def convolutions(end: str = "Relu") -> onnx.ModelProto:
    numbers: dict[str, Any] = {"w1": normal(8, 3, 3, 3, seed=1) / 5, "w2": normal(8, 8, 3, 3, seed=2) / 8,
               "w3": normal(4, 8, 1, 1, seed=3) / 3}  # fmt: skip
    nodes = [
        node("Conv", "x w1", "a", pads=[1, 1, 1, 1]), node(end, "a", "b"),
        node("Conv", "b w2", "c", pads=[1, 1, 1, 1]), node(end, "c", "d"), node("Conv", "d w3", "y"),
    ]  # fmt: skip
    return model(nodes, {"x": [1, 3, 8, 8]}, numbers)


def encoder(width: int = 64, wide: int = 256) -> onnx.ModelProto:
    numbers: dict[str, Any] = {"u": normal(width, wide, seed=1) / 8, "v": normal(wide, width, seed=2) / 16,
                               "k": normal(width, seed=3), "q": normal(width, width, seed=4) / 8}  # fmt: skip
    nodes = [
        node("MatMul", "x u", "a"), node("Relu", "a", "b"), node("MatMul", "b v", "c"), node("Add", "c k", "d"),
        node("MatMul", "x q", "e"), node("Add", "d e", "y"),
    ]  # fmt: skip
    return model(nodes, {"x": [1, 16, width]}, numbers)


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    return float((one * two).sum() / np.linalg.norm(one) / np.linalg.norm(two))


def optimised(built: onnx.ModelProto) -> onnx.ModelProto:
    content = onnxruntime.optimise(built.SerializeToString())
    return onnx.load_from_string(content)


def test_a_relu_behind_a_layer_rounds_once() -> None:
    made = optimised(after(convolutions(), QuantiseU8S8(ROWS, reduce_range=False)))
    assert kinds(made) == ["QuantizeLinear", "QLinearConv", "QLinearConv", "QLinearConv", "DequantizeLinear"]
    feeds = {"x": ROWS["x"][:1]}
    assert cosine(answers(convolutions(), feeds)[0], answers(made, feeds)[0]) > 0.999


@pytest.mark.parametrize("skip", [1, 2])
def test_first_layers_stay_in_float_even_in_what_onnx_runtime_saves(skip: int) -> None:
    made = optimised(after(convolutions(), QuantiseU8S8(ROWS, reduce_range=False, skip=skip)))
    names = kinds(made)
    assert names.count("QLinearConv") == 3 - skip and sum("Conv" in name for name in names) == 3
    assert "Conv" in names[0] and not names[0].startswith("Q")


def test_skipping_every_layer_is_no_quantisation() -> None:
    with pytest.raises(CompileError, match="nothing to quantise"):
        base.run_all(convolutions(), [QuantiseU8S8(ROWS, reduce_range=False, skip=3)])


@pytest.mark.parametrize("reduce_range", [False, True])
def test_dynamic_products_agree_and_become_one_kernel_each(reduce_range: bool) -> None:
    before = encoder()
    made = after(before, QuantiseDynamic(reduce_range=reduce_range))
    assert kinds(made).count("MatMulInteger") == 3 and kinds(made).count("DynamicQuantizeLinear") == 2
    weights = [each for each in made.graph.initializer if each.data_type == onnx.TensorProto.INT8]
    most = max(int(np.abs(onnx.numpy_helper.to_array(each)).max()) for each in weights)
    assert most == (63 if reduce_range else 127)
    for scale in (0.01, 1, 100):  # the range is taken anew for every row
        feeds = {"x": normal(1, 16, 64, seed=3) * np.float32(scale)}
        one, two = answers(before, feeds)[0], answers(optimised(made), feeds)[0]
        assert cosine(one, two) > (0.999 if reduce_range else 0.9999)
    assert not {"MatMul", "MatMulInteger"} & set(kinds(optimised(made)))


@pytest.mark.parametrize("turned", [0, 1])
def test_dynamic_gemm_with_its_factors(turned: int) -> None:
    numbers = {"w": normal(*((32, 48) if turned else (48, 32)), seed=1), "k": normal(32, seed=2)}
    before = model([node("Gemm", "x w k", "y", transB=turned, alpha=0.5, beta=3.0)], {"x": [2, 48]}, numbers)
    feeds = {"x": normal(2, 48)}
    made = after(before, QuantiseDynamic(reduce_range=False))
    assert cosine(answers(before, feeds)[0], answers(made, feeds)[0]) > 0.999


def test_a_column_of_zeros_stays_zero() -> None:
    weights = normal(32, 64, seed=1)
    weights[:, 5] = 0
    before = model([node("MatMul", "x w", "y")], {"x": [1, 32]}, {"w": weights})
    found = answers(after(before, QuantiseDynamic(reduce_range=False)), {"x": normal(1, 32)})[0]
    assert found[0, 5] == 0 and np.isfinite(found).all()


def test_dynamic_says_why_it_cannot() -> None:
    tiny = model([node("MatMul", "x w", "y")], {"x": [1, 4]}, {"w": normal(4, 4)})
    mixed = model(
        [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "g"), node("Flatten", "g", "f"),
         node("MatMul", "f d", "y")],
        {"x": [1, 32, 16, 16]}, {"w": normal(64, 32, 3, 3), "d": normal(64, 64)},
    )  # fmt: skip
    for built, words in ((tiny, "no matrix product"), (mixed, "most multiplications"), (convolutions(), "no matrix")):
        with pytest.raises(CompileError, match=words):
            base.run_all(built, [QuantiseDynamic(reduce_range=False)])


def drafted(built: onnx.ModelProto, names: list[str] | None, *, search: bool = False) -> list[Draft | Failure]:
    wanted = Wanted(None if names is None else frozenset(names), 20.0, search)
    rows = {"x": normal(24, *[each.dim_value for each in built.graph.input[0].type.tensor_type.shape.dim][1:])}
    return onnxruntime_bytes.candidates(built, host.host_profile(), rows, wanted)


def test_who_is_offered() -> None:
    assert [each.id for each in drafted(convolutions(), None)] == ["ort-int8"]
    assert [each.id for each in drafted(encoder(), None)] == ["ort-int8", "ort-dynamic"]
    searched = drafted(convolutions(), None, search=True)
    assert 1 <= len(searched) <= 2 and all(isinstance(each, Draft) for each in searched)


def test_a_recipe_names_what_is_drafted_again_and_its_bytes_are_the_same() -> None:
    first, second = (drafted(convolutions(), ["ort", "ort-int8-skip2"]) for _ in range(2))
    assert [each.id for each in first] == ["ort-int8-skip2"]
    assert isinstance(first[0], Draft) and isinstance(second[0], Draft)
    assert first[0].files == second[0].files


def test_the_fastest_that_agrees_is_chosen_and_the_one_that_agrees_best_comes_second() -> None:
    trials = [Trial(0, 1.0, 0.95), Trial(1, 1.1, 0.992), Trial(2, 1.11, 0.995), Trial(4, 1.4, 0.999)]
    assert chosen(trials) == [2, 4]
    assert chosen([Trial(0, 1.0, 0.5), Trial(1, 2.0, 0.8)]) == [1, 0]
    assert chosen([Trial(0, 1.0, 0.999)]) == [0] and chosen([]) == []


def test_rewritten_models_answer_the_same_on_onnx_runtime() -> None:
    """Through all passes for ONNX Runtime together, and through its own optimiser after them."""
    for built, shape in ((convolutions("HardSwish"), (1, 3, 8, 8)), (encoder(), (1, 16, 64))):
        feeds = {"x": normal(*shape)}
        made = optimised(pipelines.rewritten(built, pipelines.onnxruntime()))
        np.testing.assert_allclose(answers(made, feeds)[0], answers(built, feeds)[0], rtol=1e-4, atol=1e-5)

"""Half-precision models in float32: right on ONNX Runtime, and in generated C with halves at the border."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.compiler.network.conftest import machine
from tests.compiler.passes.small import after, answers, kinds, model, node, normal

from skerry_compiler.engines.native import build
from skerry_compiler.engines.network.generate import generate
from skerry_compiler.errors import UnsupportedError
from skerry_compiler.passes.fixed_shapes import inferred
from skerry_compiler.passes.single_form import SingleForm, has_halves

HALF = TensorProto.FLOAT16


def network() -> onnx.ModelProto:
    weights: dict[str, np.ndarray] = {
        "w": normal(8, 3, 3, 3, seed=1) / 5,
        "b": normal(8, seed=2),
        "d": normal(8, 5, seed=3),
    }
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "g"),
        node("Flatten", "g", "f"),
        node("MatMul", "f d", "y"),
    ]
    halves = {name: content.astype(np.float16) for name, content in weights.items()}
    return model(nodes, {"x": [1, 3, 9, 7]}, halves, kind=HALF)


def test_halves_become_float32_and_the_border_keeps_them() -> None:
    before = network()
    made = after(before, SingleForm())
    assert has_halves(before) and [each.type.tensor_type.elem_type for each in made.graph.output] == [HALF]
    assert not any(each.data_type == HALF for each in made.graph.initializer)
    assert kinds(made)[0] == kinds(made)[-1] == "Cast" and kinds(made).count("Cast") == 2
    feeds = {"x": normal(1, 3, 9, 7).astype(np.float16)}
    (expected,), (found,) = answers(before, feeds), answers(made, feeds)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), rtol=4e-3, atol=4e-3)


def test_brain_floats_and_casts_inside_become_float32() -> None:
    nodes = [
        node("Cast", "x", "h", to=TensorProto.BFLOAT16),
        node("Mul", "h k", "m"),
        node("Cast", "m", "y", to=TensorProto.FLOAT),
    ]
    before = model(nodes, {"x": [4]})
    before.graph.initializer.append(helper.make_tensor("k", TensorProto.BFLOAT16, [1], [1.5]))
    made = after(inferred(before), SingleForm())
    x = np.array([1.0, -2.0, 0.5, 3.0], np.float32)
    np.testing.assert_array_equal(answers(made, {"x": x})[0], x * np.float32(1.5))


def test_float32_models_are_left_alone() -> None:
    before = model([node("Relu", "x", "y")], {"x": [4]})
    assert after(before, SingleForm()).SerializeToString() == before.SerializeToString()


def test_the_bits_of_halves_are_refused() -> None:
    before = model([node("BitCast", "x", "b", to=TensorProto.UINT16)], {"x": [4]}, opset=26, outputs=["b"], kind=HALF)
    with pytest.raises(UnsupportedError, match="bits of a half"):
        SingleForm().run(before)


def generated(proto: onnx.ModelProto, x: np.ndarray, shape: tuple[int, ...], folder: Path) -> np.ndarray:
    source = generate(proto, machine()[0])
    path = folder / "model.so"
    path.write_bytes(build.artifact(source.c, machine()[1], source.weights))
    x, y = np.ascontiguousarray(x), np.zeros(math.prod(shape), np.float16)
    function = ctypes.CDLL(str(path)).skerry_run
    given, taken = (ctypes.c_void_p * 1)(x.ctypes.data), (ctypes.c_void_p * 1)(y.ctypes.data)
    assert function(given, taken) == 0
    return y.reshape(shape)


def test_a_half_network_runs_as_generated_code(tmp_path: Path) -> None:
    x = normal(1, 3, 9, 7).astype(np.float16)
    (expected,) = answers(network(), {"x": x})
    found = generated(network(), x, (1, 5), tmp_path)
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), rtol=4e-3, atol=4e-3)


def test_every_half_comes_through_generated_code_as_it_went_in(tmp_path: Path) -> None:
    """All 65536, by numpy's own conversions: nothing but the payload of a NaN may change."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    proto = model([node("Identity", "x", "i"), node("Mul", "i one", "y")], {"x": [1 << 16]},
                  {"one": np.ones(1, np.float16)}, kind=HALF)  # fmt: skip
    np.testing.assert_array_equal(generated(proto, every, (1 << 16,), tmp_path), every)


def test_generated_code_rounds_to_halves_as_ieee_says(tmp_path: Path) -> None:
    third = np.float16(1 / 3)
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    proto = model([node("Mul", "x k", "y")], {"x": [1 << 16]}, {"k": np.array([third])}, kind=HALF)
    with np.errstate(all="ignore"):
        expected = (every.astype(np.float32) * np.float32(third)).astype(np.float16)
    np.testing.assert_array_equal(generated(proto, every, (1 << 16,), tmp_path), expected)

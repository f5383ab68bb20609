"""What the passes name for LiteRT runs there and answers as ONNX Runtime does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from tests.compiler.passes.small import answers, model, node, normal

from skerry_compiler.tflite import from_onnx

interpreter = pytest.importorskip("ai_edge_litert.interpreter")
HARD = {name: np.float32(number) for name, number in {"three": 3, "zero": 0, "six": 6, "half": 0.5, "one": 1}.items()}
ROOT = {"root": np.float32(math.sqrt(2)), "alpha": np.float32(0.2)}
CASES: dict[str, list[onnx.NodeProto]] = {
    "hard swish": [node("Add", "c three", "t"), node("Clip", "t zero six", "k"), node("Mul", "c k", "p"),
                   node("Div", "p six", "y")],
    "hard sigmoid": [node("HardSigmoid", "c", "y", alpha=0.3, beta=0.4)],
    "gelu": [node("Div", "c root", "e"), node("Erf", "e", "f"), node("Add", "f one", "g"), node("Mul", "c g", "h"),
             node("Mul", "h half", "y")],
    "norm": [node("BatchNormalization", "c s b m v", "n"), node("Relu", "n", "y")],
    "weights in bytes": [node("DequantizeLinear", "bytes alpha", "r"), node("Conv", "c r", "y")],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_litert(case: str) -> None:
    channels = {name: np.abs(normal(4, seed=seed)) + 0.1 for seed, name in enumerate("sbmv")}
    numbers: dict[str, Any] = {"w": normal(4, 3, 1, 1, seed=9)} | HARD | ROOT | channels
    numbers["bytes"] = np.arange(-8, 8, dtype=np.int8).reshape(4, 4, 1, 1)
    before = model([node("Conv", "x w", "c"), *CASES[case]], {"x": [1, 3, 5, 6]}, numbers)
    x = normal(1, 3, 5, 6) * 3
    runner = interpreter.Interpreter(model_content=from_onnx.convert(before), num_threads=1)
    runner.allocate_tensors()
    runner.set_tensor(runner.get_input_details()[0]["index"], x)
    runner.invoke()
    found = runner.get_tensor(runner.get_output_details()[0]["index"])
    (expected,) = answers(before, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)

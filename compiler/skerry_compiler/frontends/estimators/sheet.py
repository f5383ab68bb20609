"""An ONNX graph in the making, and the small formulas that many estimators share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper

from skerry_compiler.errors import UnsupportedError

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8
ML = ("TreeEnsembleClassifier", "TreeEnsembleRegressor", "ArrayFeatureExtractor")

Operand = str | np.ndarray


def f32(content: Any) -> np.ndarray:
    """Return float32, which may be shared by several operands of one operator."""
    return np.asarray(content, np.float32)


def i64(*content: int) -> np.ndarray:
    """Return whole numbers, as axes and shapes are given."""
    return np.array(content, np.int64)


class Sheet:
    """Nodes and constants. Every tensor is f32[n, columns] unless a method says otherwise."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.stored: dict[str, TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._made = 0

    def constant(self, content: np.ndarray) -> str:
        """Return the name of a constant; equal ones are stored once."""
        content = np.asarray(content)
        if content.dtype.kind == "f" and not np.all(np.isfinite(content) | (np.abs(content) == np.inf)):
            raise UnsupportedError("a fitted value that is no number")
        key = (content.dtype.str, content.shape, content.tobytes())
        if content.dtype.kind in "OU" or key not in self._known:
            name = f"k{len(self.stored)}"
            self._known[key] = name
            self.stored[name] = numpy_helper.from_array(content, name)
        return self._known[key]

    def add(self, kind: str, *inputs: Operand, **attributes: Any) -> str:
        """Add a node and return its one output; arrays become constants."""
        return self.several(kind, 1, *inputs, **attributes)[0]

    def several(self, kind: str, outputs: int, *inputs: Operand, **attributes: Any) -> list[str]:
        """Add a node and return its outputs."""
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        made = [self._fresh() for _ in range(outputs)]
        domain = "ai.onnx.ml" if kind in ML else ""
        self.nodes.append(helper.make_node(kind, names, made, domain=domain, **attributes))
        return made

    def _fresh(self) -> str:
        self._made += 1
        return f"v{self._made}"

    def insert(self, model: ModelProto, x: str) -> list[str]:
        """Add the nodes of a model that reads x; return its outputs."""
        prefix = f"{self._fresh()}_"
        model = compose.add_prefix(model, prefix)
        self.nodes.append(helper.make_node("Identity", [x], [model.graph.input[0].name]))
        self.nodes += model.graph.node
        self.stored |= {each.name: each for each in model.graph.initializer}
        return [each.name for each in model.graph.output]

    def model(self, name: str, features: int, outputs: Sequence[tuple[str, str, int, list[int | None]]]) -> ModelProto:
        """Return the model of one input f32[n, features]; outputs are (value, name, element type, shape)."""
        self.nodes += [helper.make_node("Identity", [value], [given]) for value, given, _, _ in outputs]
        typed = [helper.make_tensor_value_info(given, kind, shape) for _, given, kind, shape in outputs]
        x = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, features])
        graph = helper.make_graph(self.nodes, "estimator", [x], typed, list(self.stored.values()))
        imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        made: ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
        return made

    def total(self, x: str, axis: int = 1, keep: int = 1) -> str:
        """Return sums over one axis."""
        return self.add("ReduceSum", x, i64(axis), keepdims=keep)

    def floats(self, x: str) -> str:
        """Return truth or whole numbers as float32."""
        return self.add("Cast", x, to=TensorProto.FLOAT)

    def columns(self, x: str, places: Sequence[int]) -> str:
        """Return some columns of x."""
        return self.add("Gather", x, i64(*map(int, places)), axis=1)

    def beside(self, parts: Sequence[str]) -> str:
        """Return tensors side by side."""
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=1)

    def linear(self, x: str, weight: Any, bias: Any = None) -> str:
        """Return x times weight[columns, outputs], plus bias[outputs]."""
        product = self.add("MatMul", x, f32(weight))
        return product if bias is None else self.add("Add", product, f32(bias).reshape(1, -1))

    def best(self, scores: str) -> str:
        """Return the place of the first greatest score of each row, int64[n]."""
        return self.add("ArgMax", scores, axis=1, keepdims=0)

    def one_hot(self, index: str, classes: int) -> str:
        """Return one column a class for int64[n]."""
        column = self.add("Unsqueeze", index, i64(1))
        return self.floats(self.add("Equal", column, np.arange(classes, dtype=np.int64).reshape(1, -1)))

    def above(self, x: str, limit: float) -> str:
        """Return 1 where a column's value is above a limit, else 0: int64[n] of f32[n, 1]."""
        above = self.add("Greater", x, f32([[limit]]))
        return self.add("Reshape", self.add("Cast", above, to=TensorProto.INT64), i64(-1))

    def two(self, second: str) -> str:
        """Return the probabilities of two classes of that of the second, f32[n, 1]."""
        return self.beside([self.add("Sub", f32([[1.0]]), second), second])

    def shares(self, x: str) -> str:
        """Return each row divided by its sum; rows of zeros become equal shares, as calibration does."""
        total = self.total(x)
        zero = self.add("Equal", total, f32([[0.0]]))
        return self.add("Where", zero, f32([[1.0]]), self.add("Div", x, total))

    def differences(self, x: str, points: np.ndarray) -> str:
        """Return point - x for every point[m, columns], f32[n, m, columns]."""
        return self.add("Sub", f32(points)[None], self.add("Unsqueeze", x, i64(1)))

    def squared_distances(self, x: str, points: np.ndarray) -> str:
        """Return |x - point|^2, f32[n, m], summed as differences, which do not cancel."""
        apart = self.differences(x, points)
        return self.total(self.add("Mul", apart, apart), 2, 0)

"""What does not depend on the input is computed once, here: constants of constants, and shapes of fixed shapes."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper
from onnx.reference import ReferenceEvaluator

from skerry_compiler import graph as graphs
from skerry_compiler.passes.fixed_shapes import inferred

MAX_FOLDED_BYTES = 64 << 20
_NEVER = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "Dropout",
}
# Kept as they are: they say how a tensor is to be quantised.
_QUANTISED = {"QuantizeLinear", "DequantizeLinear"}


class ConstantFold:
    """Evaluates with ONNX's own reference implementation, node by node, as long as anything changes."""

    name = "constant-fold"

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        while _once(model):
            del model.graph.value_info[:]  # what was inferred before may contradict what is known now
            model = inferred(model)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Nothing to promise: what cannot be folded stays."""
        return None


def _once(model: ModelProto) -> bool:
    """Fold what can be folded now; return whether shapes may have become known by it."""
    graph = model.graph
    known = graphs.constants(model)
    shapes = {name: graphs.static_shape(value) for name, value in graphs.values(graph).items()}
    opsets = list(model.opset_import)
    outputs = {value.name for value in graph.output}
    gone: list[NodeProto] = []
    for node in graph.node:
        if not foldable(node) or outputs & set(node.output):
            continue
        shape = shapes.get(node.input[0]) if node.op_type == "Shape" and node.input else None
        if shape is None and not all(name in known for name in node.input if name):
            continue
        content = np.array(shape, np.int64) if shape is not None and not node.attribute else None
        if content is None and all(name in known for name in node.input if name):
            content = evaluate(node, known, opsets)
        if content is None or content.nbytes > MAX_FOLDED_BYTES:
            continue
        known[node.output[0]] = content
        graphs.add_constant(graph, node.output[0], content)
        gone.append(node)
    graphs.remove_nodes(graph, gone)
    return bool(gone)


def foldable(node: NodeProto) -> bool:
    """Return whether a node may be computed in advance where all that it reads is known."""
    plain = not node.domain and len(node.output) == 1 and node.op_type not in _NEVER | _QUANTISED
    return plain and not any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def evaluate(node: NodeProto, known: dict[str, np.ndarray], opsets: list[object]) -> np.ndarray | None:
    """Return the node's value, or None where the reference cannot say."""
    inputs = {name: known[name] for name in node.input if name}
    if node.op_type in ("ConstantOfShape", "Expand", "Tile") and _would_be(node, inputs) > MAX_FOLDED_BYTES:
        return None
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(content.dtype), content.shape)
        for name, content in inputs.items()
    ]
    graph = helper.make_graph([node], "one", values, [helper.make_empty_tensor_value_info(node.output[0])])
    try:
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets))
        (content,) = evaluator.run(None, inputs)
    except (ValueError, TypeError, RuntimeError, NotImplementedError, IndexError, KeyError, AttributeError):
        return None  # the engine will run it
    return np.asarray(content) if isinstance(content, (np.ndarray, np.generic)) else None


def _would_be(node: NodeProto, inputs: dict[str, np.ndarray]) -> float:
    """Return about how many bytes the result would have."""
    last = np.asarray(inputs[list(inputs)[-1]], np.float64).reshape(-1)
    first = inputs[next(iter(inputs))].nbytes if node.op_type == "Tile" else 8
    return float(np.prod(np.maximum(last, 1))) * max(1, first)

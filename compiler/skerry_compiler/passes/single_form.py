"""Half precision (float16, bfloat16) becomes float32, with casts at the border: engines without half arithmetic then
run the model, more exactly than it asks for.

ONNX Runtime on a processor does much the same, node by node, with a rounding and two casts around every operator.
"""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from skerry_compiler import graph as graphs
from skerry_compiler.errors import UnsupportedError
from skerry_compiler.passes import base
from skerry_compiler.passes.fixed_shapes import inferred

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
# What says in an attribute of which type its output is.
_TYPED = {
    **dict.fromkeys(("Bernoulli", "EyeLike", "RandomNormal", "RandomNormalLike"), "dtype"),
    **dict.fromkeys(("RandomUniform", "RandomUniformLike"), "dtype"),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix"), "output_datatype"),
    "Cast": "to",
    "DequantizeLinear": "output_dtype",
    "QuantizeLinear": "precision",
}


class SingleForm:
    """Values stay within a half's range in a sound model, so only rounding differs: by what the halves round away.

    Inputs and outputs keep their types.
    """

    name = "single-form"

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class.

        Raises:
            UnsupportedError: bits of halves are taken for integers.
        """
        if not has_halves(model):
            return model
        ends = [[value for value in side if _is_half(value)] for side in (model.graph.input, model.graph.output)]
        inside = {value.name: f"{value.name}/float32" for side in ends for value in side}
        for graph in list(graphs.walk(model.graph)):
            _widen(graph, inside)
            inner = [] if graph is model.graph else [*graph.input, *graph.output]
            for value in (*graph.value_info, *inner):
                if _is_half(value):
                    value.type.tensor_type.elem_type = TensorProto.FLOAT
                value.name = inside.get(value.name, value.name)
        for value in ends[1]:
            kind = value.type.tensor_type.elem_type
            model.graph.node.append(helper.make_node("Cast", [inside[value.name]], [value.name], to=kind))
        for value in reversed(ends[0]):
            node = helper.make_node("Cast", [value.name], [inside[value.name]], to=TensorProto.FLOAT)
            model.graph.node.insert(0, node)
        del model.graph.value_info[:]
        return inferred(model)

    def ensures(self, model: ModelProto) -> str | None:
        """Halves are only at the border."""
        if any(_is_half(each) for graph in graphs.walk(model.graph) for each in graph.value_info):
            return "a value is still half"
        return "a constant is still half" if any(each.data_type in HALVES for each in model.graph.initializer) else None


def single(model: ModelProto) -> ModelProto:
    """Return a model without halves inside: itself, or a copy after the pass."""
    if not has_halves(model):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    return base.run_all(copy, [SingleForm()])


def has_halves(model: ModelProto) -> bool:
    """Whether a model computes in half precision anywhere."""
    values = (each for graph in graphs.walk(model.graph) for each in (*graph.input, *graph.output, *graph.value_info))
    stored = (each.data_type in HALVES for graph in graphs.walk(model.graph) for each in graph.initializer)
    nodes = (node for graph in graphs.walk(model.graph) for node in graph.node if node.op_type == "Cast")
    casts = (graphs.attributes(node).get("to") in HALVES for node in nodes)
    return any(stored) or any(casts) or any(_is_half(value) for value in values)


def _is_half(value: ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in HALVES


def _widen(graph: GraphProto, inside: dict[str, str]) -> None:
    """Make the constants and attributes of one graph float32, and rename the border's values inside it."""
    for stored in graph.initializer:
        if stored.data_type in HALVES:
            stored.CopyFrom(_wide(stored))
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = inside.get(name, name)
        _widen_attributes(node)


def _widen_attributes(node: NodeProto) -> None:
    if node.op_type == "BitCast":
        raise UnsupportedError(f"BitCast at node {node.name or node.output[0]!r:.80}: it reads the bits of a half")
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type in HALVES:
            attribute.t.CopyFrom(_wide(attribute.t))
        if attribute.name == _TYPED.get(node.op_type) and attribute.i in HALVES:
            attribute.i = TensorProto.FLOAT


def _wide(stored: TensorProto) -> TensorProto:
    return numpy_helper.from_array(np.asarray(numpy_helper.to_array(stored), np.float32), stored.name)

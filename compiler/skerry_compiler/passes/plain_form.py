"""One plain form for what exporters write in many: initializers are no inputs, Constant nodes are initializers, one
opset a domain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from skerry_compiler import graph as graphs


class PlainForm:
    """Also drops names of tools, doc strings and other text that would change the bytes without changing the model."""

    name = "plain-form"

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        graph = model.graph
        stored = {each.name for each in graph.initializer}
        inputs = [each for each in graph.input if each.name not in stored]
        del graph.input[:]
        graph.input.extend(inputs)
        constants = [
            node
            for node in graph.node
            if node.op_type == "Constant" and not node.domain and "sparse_value" not in graphs.attributes(node)
        ]
        for node in constants:
            graphs.add_constant(graph, node.output[0], _content(graphs.attributes(node)))
        graphs.remove_nodes(graph, constants)
        versions = {("" if each.domain == "ai.onnx" else each.domain): each.version for each in model.opset_import}
        used = {node.domain for each in graphs.walk(graph) for node in each.node} - {"ai.onnx"} | {""}
        del model.opset_import[:]
        model.opset_import.extend(
            helper.make_opsetid(domain, versions[domain]) for domain in sorted(versions) if domain in used
        )
        model.producer_name = model.producer_version = model.domain = model.doc_string = graph.doc_string = ""
        model.model_version = 0
        graph.name = "model"
        del model.metadata_props[:], model.training_info[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Initializers are no inputs."""
        both = {each.name for each in model.graph.input} & {each.name for each in model.graph.initializer}
        return f"{sorted(both)[0]} is input and initializer" if both else None


def _content(attributes: dict[str, Any]) -> np.ndarray:
    if "value" in attributes:
        return numpy_helper.to_array(attributes["value"])
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_string": np.object_,
        "value_strings": np.object_,
    }
    for key, kind in kinds.items():
        if key in attributes:
            return np.array(attributes[key], kind)
    raise ValueError(f"a Constant with {sorted(attributes)}")

"""Outputs are tensors of numbers: lists of maps lose their ZipMap, text labels become indices into `labels`."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from skerry_compiler import graph as graphs
from skerry_compiler.errors import UnsupportedError

CLASSIFIERS = ("TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier")
_ELEMENT = (TensorProto.STRING,)


class TensorOutputs:
    """Afterwards no output is a sequence, a map or text. The names of the classes are kept in `labels`, in the order
    of scores.
    """

    name = "tensor-outputs"

    def __init__(self) -> None:
        self.labels: tuple[str, ...] = ()

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class.

        Raises:
            UnsupportedError: an output is text or a sequence in a way that no classifier makes.
        """
        self._strip_zipmaps(model)
        self._number_labels(model)
        for output in model.graph.output:
            if not output.type.HasField("tensor_type"):
                raise UnsupportedError(f"output {output.name!r:.80} is a sequence or map, not a tensor")
            if output.type.tensor_type.elem_type in _ELEMENT:
                raise UnsupportedError(
                    f"output {output.name!r:.80} is text", hint="export the model with numbered labels"
                )
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """No ZipMap is left."""
        return "a ZipMap is left" if any(node.op_type == "ZipMap" for node in model.graph.node) else None

    def _strip_zipmaps(self, model: ModelProto) -> None:
        graph = model.graph
        for node in [each for each in graph.node if each.op_type == "ZipMap"]:
            labels = _labels(graphs.attributes(node))
            self.labels = labels or self.labels
            source, target = node.input[0], node.output[0]
            graphs.remove_nodes(graph, [node])
            graph.node.append(helper.make_node("Identity", [source], [target]))
            for output in graph.output:
                if output.name == target:
                    output.CopyFrom(helper.make_tensor_value_info(target, TensorProto.FLOAT, [1, len(labels)]))

    def _number_labels(self, model: ModelProto) -> None:
        graph = model.graph
        for node in graph.node:
            attributes = graphs.attributes(node)
            if node.op_type in CLASSIFIERS:
                self.labels = _labels(attributes) or self.labels
                if attributes.get("classlabels_strings"):
                    _replace(node, "classlabels_strings", None)
                    key = "classlabels_ints" if node.op_type != "TreeEnsembleClassifier" else "classlabels_int64s"
                    _replace(node, key, list(range(len(self.labels))))
                    _number(model, node.output[0])
            elif node.op_type == "ArrayFeatureExtractor":
                self._number_table(model, node)

    def _number_table(self, model: ModelProto, node: NodeProto) -> None:
        """A table of class names read by index: skl2onnx writes classifiers so."""
        stored = next((each for each in model.graph.initializer if each.name == node.input[0]), None)
        if stored is None:
            return
        if stored.data_type == TensorProto.STRING:
            self.labels = tuple(graphs.text(each) for each in stored.string_data)
            shape = list(stored.dims)
            numbers = np.arange(len(self.labels), dtype=np.int64).reshape(shape)
            model.graph.initializer.remove(stored)
            graphs.add_constant(model.graph, node.input[0], numbers)
            _number(model, node.output[0])
        elif stored.data_type in (TensorProto.INT64, TensorProto.INT32):
            content = graphs.constants(model)[node.input[0]]
            self.labels = tuple(str(int(each)) for each in content.reshape(-1))


def _labels(attributes: dict[str, Any]) -> tuple[str, ...]:
    for key in ("classlabels_strings", "classlabels_int64s", "classlabels_ints"):
        if attributes.get(key):
            return tuple(graphs.text(each) for each in attributes[key])
    return ()


def _replace(node: NodeProto, key: str, content: list[int] | None) -> None:
    keep = [each for each in node.attribute if each.name != key]
    del node.attribute[:]
    node.attribute.extend(keep)
    if content is not None:
        node.attribute.append(helper.make_attribute(key, content))


def _number(model: ModelProto, name: str) -> None:
    """Give a value, and what is only a reshaped copy of it, the type of whole numbers."""
    names = {name}
    for node in model.graph.node:
        if node.op_type in ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten") and node.input[0] in names:
            names.add(node.output[0])
    for value in [*model.graph.output, *model.graph.value_info]:
        if value.name in names and value.type.HasField("tensor_type"):
            value.type.tensor_type.elem_type = TensorProto.INT64

"""Sparse constants become dense ones: few engines know the sparse form, and ONNX Runtime makes them dense as well."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, SparseTensorProto, numpy_helper

from skerry_compiler import graph as graphs
from skerry_compiler.errors import LimitError, ModelError

MAX_BYTES = 256 << 20  # of one constant


class DenseConstants:
    """Indices count elements, or name places axis by axis; what they do not name is zero."""

    name = "dense-constants"

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class.

        Raises:
            LimitError: a constant would be too large.
            ModelError: indices that point nowhere.
        """
        graph = model.graph
        for each in graph.sparse_initializer:
            graphs.add_constant(graph, each.values.name, _dense(each, each.values.name))
        del graph.sparse_initializer[:]
        gone = []
        for node in graph.node:
            sparse = graphs.attributes(node).get("sparse_value") if node.op_type == "Constant" else None
            if sparse is not None and not node.domain:
                graphs.add_constant(graph, node.output[0], _dense(sparse, node.output[0]))
                gone.append(node)
        graphs.remove_nodes(graph, gone)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """No sparse constant is left in the main graph."""
        return "a sparse constant is left" if model.graph.sparse_initializer else None


def _dense(sparse: SparseTensorProto, name: str) -> np.ndarray:
    values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    shape = tuple(int(each) for each in sparse.dims)
    if any(each < 0 for each in shape) or math.prod(shape) * values.dtype.itemsize > MAX_BYTES:
        raise LimitError(f"the sparse constant {name!r:.80} of {list(shape)} takes more than {MAX_BYTES >> 20} MB")
    if places.ndim not in (1, 2) or len(places) != values.size or (places.ndim == 2 and places.shape[1] != len(shape)):
        raise ModelError(f"the sparse constant {name!r:.80} has {values.size} values, but other indices")
    within = (places >= 0) & (places < (math.prod(shape) if places.ndim == 1 else np.array(shape)))
    if not within.all():
        raise ModelError(f"an index of the sparse constant {name!r:.80} is outside {list(shape)}")
    content = np.zeros(shape, values.dtype)
    if places.ndim == 1:
        content.reshape(-1)[places] = values.reshape(-1)
    else:
        content[tuple(places.T)] = values.reshape(-1)
    return content

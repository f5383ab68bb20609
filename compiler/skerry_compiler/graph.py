"""Small readers of ONNX graphs, shared by passes and engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from skerry_contracts.tensor import DType

DTYPES: dict[int, DType] = {
    TensorProto.BOOL: DType.BOOL,
    TensorProto.UINT8: DType.UINT8,
    TensorProto.UINT16: DType.UINT16,
    TensorProto.UINT32: DType.UINT32,
    TensorProto.UINT64: DType.UINT64,
    TensorProto.INT8: DType.INT8,
    TensorProto.INT16: DType.INT16,
    TensorProto.INT32: DType.INT32,
    TensorProto.INT64: DType.INT64,
    TensorProto.FLOAT16: DType.FP16,
    TensorProto.FLOAT: DType.FP32,
    TensorProto.DOUBLE: DType.FP64,
}


def walk(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every graph inside its nodes' attributes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
                yield from walk(inner)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values; text is bytes, as ONNX stores it."""
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def text(value: Any) -> str:
    """Return an attribute's text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def constants(model: ModelProto) -> dict[str, np.ndarray]:
    """Return the initializers by name."""
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def shape_of(value: ValueInfoProto) -> tuple[int | str, ...] | None:
    """Return a value's shape: a number, or the name of a symbolic extent ("" where it has none). None: unknown rank."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    return tuple(each.dim_value if each.HasField("dim_value") else each.dim_param for each in kind.shape.dim)


def static_shape(value: ValueInfoProto) -> tuple[int, ...] | None:
    """Return a value's shape where every extent is a number; else None."""
    shape = shape_of(value)
    if shape is None or not all(isinstance(each, int) and each > 0 for each in shape):
        return None
    return tuple(int(each) for each in shape)


def values(graph: GraphProto) -> dict[str, ValueInfoProto]:
    """Return every typed value of a graph by name."""
    return {each.name: each for each in [*graph.value_info, *graph.input, *graph.output]}


def uses(graph: GraphProto) -> Counter[str]:
    """Return how often each value is read, by nodes or as an output."""
    count = Counter(name for node in graph.node for name in node.input if name)
    count.update(value.name for value in graph.output)
    return count


def remove_nodes(graph: GraphProto, gone: list[NodeProto]) -> None:
    """Remove nodes from a graph."""
    names = {id(each) for each in gone}
    keep = [node for node in graph.node if id(node) not in names]
    del graph.node[:]
    graph.node.extend(keep)


def add_constant(graph: GraphProto, name: str, content: np.ndarray) -> None:
    """Add an initializer. A number without axes stays one: `np.ascontiguousarray` would give it an axis."""
    graph.initializer.append(numpy_helper.from_array(np.asarray(content, order="C"), name))

"""LayerNormalization (Ba et al. 2016, arXiv 1607.06450) where an exporter wrote it as means, squares and roots."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto

from skerry_compiler import graph as graphs
from skerry_compiler.passes.pattern import View, become, other

OPSET = 17
_Found = tuple[str, int, float]  # x, the first axis of the mean, epsilon


class LayerNorm:
    """(x - mean) / sqrt(variance + epsilon) over the last axes, with scale and offset where they follow.

    Both forms round differently: by about 1e-6 of the scale, for values whose variance is not far below epsilon.
    """

    name = "layer-norm"

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do; below opset 17 nothing happens."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        view = View(model)
        if view.opset < OPSET:
            return model
        for node in list(model.graph.node):
            if node.op_type in ("Div", "Mul") and view.is_float(node.output[0]):
                found = _normalised(view, node)
                if found is not None and view.alike(found[0], node.output[0]):
                    _rewrite(view, node, *found)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """No LayerNormalization where the opset has none."""
        old = View(model).opset < OPSET
        there = any(node.op_type == "LayerNormalization" and not node.domain for node in model.graph.node)
        return "LayerNormalization below opset 17" if old and there else None


def _normalised(view: View, node: NodeProto) -> _Found | None:
    """Return what is normalised where a node divides by the deviation."""
    if node.op_type == "Div":
        pairs = [(node.input[0], view.maker(node.input[1], "Sqrt"))]
    else:
        pairs = []
        for first, second in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
            inverse = view.maker(second, "Reciprocal", "Div")
            if inverse is None or (inverse.op_type == "Div" and view.number(inverse.input[0]) != 1):
                continue
            pairs.append((first, view.maker(inverse.input[-1], "Sqrt")))
    for centred, root in pairs:
        found = _moments(view, centred, root) if root is not None else None
        if found is not None:
            return found
    return None


def _moments(view: View, centred: str, root: NodeProto) -> _Found | None:
    """Return x, axis and epsilon where a value is x minus its mean and a root is of its variance."""
    start = _centred(view, centred)
    add = view.maker(root.input[0], "Add")
    if start is None or add is None:
        return None
    x, axis = start
    for name in add.input:
        epsilon = view.number(other(add, name) or "")
        variance = _mean(view, name)
        if epsilon is None or variance is None or epsilon < 0 or variance[1] != axis:
            continue
        square = view.maker(variance[0], "Pow", "Mul")
        if square is None or _centred(view, square.input[0]) != start:
            continue
        if square.op_type == "Pow" and view.number(square.input[1]) != 2:
            continue
        if square.op_type == "Mul" and _centred(view, square.input[1]) != start:
            continue
        return x, axis, epsilon
    return None


def _centred(view: View, name: str) -> tuple[str, int] | None:
    """Return x and the axis where a value is x minus its mean."""
    node = view.maker(name, "Sub")
    mean = _mean(view, node.input[1]) if node is not None else None
    return mean if node is not None and mean is not None and mean[0] == node.input[0] else None


def _mean(view: View, name: str) -> tuple[str, int] | None:
    """Return what a value is the mean of, over which last axes: the first of them, counted from the back."""
    node = view.maker(name, "ReduceMean")
    shape = view.shape(node.input[0]) if node is not None else None
    axes = view.axes(node) if node is not None else None
    if node is None or shape is None or not axes or not graphs.attributes(node).get("keepdims", 1):
        return None
    places = sorted(each % len(shape) - len(shape) for each in axes)
    return (node.input[0], places[0]) if places == list(range(-len(places), 0)) else None


def _rewrite(view: View, node: NodeProto, x: str, axis: int, epsilon: float) -> None:
    shape = view.shape(x)
    assert shape is not None
    wanted = shape[axis:]
    last, scale = _next(view, node, "Mul", wanted)
    offset = None
    if scale is not None:
        last, offset = _next(view, last, "Add", wanted)
    graph = view.model.graph
    names = [x, f"{last.output[0]}/scale"]
    graphs.add_constant(graph, names[1], np.ones(wanted, np.float32) if scale is None else scale)
    if offset is not None:
        names.append(f"{last.output[0]}/offset")
        graphs.add_constant(graph, names[2], offset)
    become(last, "LayerNormalization", names, axis=axis, epsilon=epsilon)


def _next(view: View, node: NodeProto, kind: str, wanted: tuple[int, ...]) -> tuple[NodeProto, np.ndarray | None]:
    """Return the only reader of a node and its constant of the wanted shape; the node itself where there is none."""
    name = node.output[0]
    reader = view.readers[name][0] if view.alone(name) and view.readers[name] else None
    if reader is None or reader.op_type != kind or reader.domain:
        return node, None
    content = view.array(other(reader, name) or "")
    if content is None or content.dtype != np.float32 or view.shape(reader.output[0]) != view.shape(name):
        return node, None
    extents = content.shape[max(0, content.ndim - len(wanted)) :]
    if content.size != int(np.prod(extents)):
        return node, None
    return reader, np.ascontiguousarray(np.broadcast_to(content.reshape(extents), wanted))

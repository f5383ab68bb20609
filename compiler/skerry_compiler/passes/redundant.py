"""Pairs of nodes that undo each other, and nodes that do nothing: transpositions, reshapes, casts, quantisations."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from skerry_compiler import graph as graphs
from skerry_compiler.passes.pattern import View, become

_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
# Every value of the first type is a value of the second: there and back loses nothing.
_WIDER: dict[int, set[int]] = {
    TensorProto.FLOAT16: {TensorProto.FLOAT, TensorProto.DOUBLE},
    TensorProto.BFLOAT16: {TensorProto.FLOAT, TensorProto.DOUBLE},
    TensorProto.FLOAT: {TensorProto.DOUBLE},
    TensorProto.INT8: {TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT, TensorProto.DOUBLE},
    TensorProto.UINT8: {TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT, TensorProto.DOUBLE},
    TensorProto.INT32: {TensorProto.INT64, TensorProto.DOUBLE},
    TensorProto.BOOL: {TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT},
}
_REAL = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE)


class Redundant:
    """Exact to the bit. Chains become one node, and what does nothing is bypassed; outputs keep their names."""

    name = "redundant"

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        while True:
            view = View(model)
            shortened = [node for node in model.graph.node if _shortened(view, node)]
            if not shortened and not _bypassed(model):
                return model

    def ensures(self, model: ModelProto) -> str | None:
        """No Identity is left between two nodes."""
        view = View(model)
        idle = [node for node in model.graph.node if node.op_type == "Identity" and _bypass(view, node) is not None]
        return f"node {idle[0].name!r} does nothing" if idle else None


def _bypassed(model: ModelProto) -> bool:
    """Have readers of what does nothing read its source."""
    view = View(model)
    sources: dict[str, str] = {}
    gone = []
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in sources:
                node.input[place] = sources[name]
        source = _bypass(view, node)
        if source is not None:
            sources[node.output[0]] = sources.get(source, source)
            gone.append(node)
    graphs.remove_nodes(model.graph, gone)
    return bool(gone)


def _bypass(view: View, node: NodeProto) -> str | None:
    """Return the source of a node that does nothing and can go; None for others."""
    if node.domain or not node.output or node.output[0] in view.outputs or any(node.output[1:]):
        return None
    inside = view.read[node.output[0]] != len(view.readers[node.output[0]])  # read by a graph inside a node
    return None if inside or not _idle(view, node) else node.input[0]


def _idle(view: View, node: NodeProto) -> bool:
    kind, attributes = node.op_type, graphs.attributes(node)
    if kind == "Identity":
        return True
    if kind == "Dropout":
        return len(node.input) < 3 or not node.input[2]  # training mode
    if kind == "Transpose":
        perm = list(attributes.get("perm", []))
        return bool(perm) and perm == sorted(perm)
    if kind == "Cast":
        value = view.types.get(node.input[0])
        return value is not None and value.type.tensor_type.elem_type == attributes["to"]
    if kind in (*_VIEWS, "Expand"):
        return view.alike(node.input[0], node.output[0])
    return False


def _shortened(view: View, node: NodeProto) -> bool:
    """Have a node that follows one of its own kind read that one's source."""
    if node.domain or not node.input:
        return False
    before = view.made.get(node.input[0])
    if before is None or before.domain or before.output[0] != node.input[0]:
        return False
    if node.op_type == "Transpose" == before.op_type:
        first, second = (graphs.attributes(each).get("perm") for each in (before, node))
        if not first or not second:
            return False
        become(node, "Transpose", [before.input[0]], perm=[int(first[each]) for each in second])
        return True
    if node.op_type in _VIEWS and before.op_type in _VIEWS:
        return _one_reshape(view, node, before)
    if node.op_type == "Cast" == before.op_type:
        source = view.types.get(before.input[0])
        kind = source.type.tensor_type.elem_type if source is not None else 0
        between, to = (int(graphs.attributes(each)["to"]) for each in (before, node))
        # Integers out of range wrap around, but not on the way from real numbers.
        same = to == kind or (kind in _REAL) == (between in _REAL)
        if between not in _WIDER.get(kind, set()) or not same:
            return False
        node.input[0] = before.input[0]
        return True
    return _requantised(view, node, before)


def _one_reshape(view: View, node: NodeProto, before: NodeProto) -> bool:
    shape, source = view.shape(node.output[0]), before.input[0]
    if shape is None or view.opset < 5:
        return False
    name = f"{node.output[0]}/extents"
    if name not in view.stored:
        graphs.add_constant(view.model.graph, name, np.array(shape, np.int64))
    become(node, "Reshape", [source, name])
    return True


def _requantised(view: View, node: NodeProto, before: NodeProto) -> bool:
    """Bytes that become real numbers and then the same bytes again stay bytes."""
    if (node.op_type, before.op_type) != ("QuantizeLinear", "DequantizeLinear"):
        return False
    mine, theirs = ([view.array(name) for name in each.input[1:]] for each in (node, before))
    plain = len(mine) == len(theirs) == 2 and all(each is not None and each.size == 1 for each in (*mine, *theirs))
    if not plain or any(one != two or one.dtype != two.dtype for one, two in zip(mine, theirs, strict=True)):  # type: ignore[union-attr]  # plain says that none is None
        return False
    become(node, "Identity", [before.input[0]])
    return True

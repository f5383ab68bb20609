"""Weights that a file keeps as integers beside their scale become float32 where the layer computes in float anyway:
ONNX Runtime would dequantise them in every inference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from skerry_compiler import graph as graphs
from skerry_compiler.passes.pattern import View

MAX_BYTES = 256 << 20  # of one tensor in float32


class FoldDequantised:
    """Only where no reader has dequantised activations too: there ONNX Runtime computes in bytes. Exact to the bit."""

    name = "fold-dequantised"

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        view = View(model)
        gone = []
        for node in model.graph.node:
            content = _real(view, node) if _plain(view, node) else None
            if content is not None:
                graphs.add_constant(model.graph, node.output[0], content)
                gone.append(node)
        graphs.remove_nodes(model.graph, gone)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Nothing to promise: what is computed in bytes stays."""
        return None


def _plain(view: View, node: NodeProto) -> bool:
    """Whether a node dequantises constants for readers that compute in float."""
    if node.op_type != "DequantizeLinear" or node.domain or node.output[0] in view.outputs:
        return False
    if not view.is_float(node.output[0]) or any(name not in view.stored for name in node.input if name):
        return False
    return not any(_bytes(view, name) for reader in view.readers[node.output[0]] for name in reader.input)


def _bytes(view: View, name: str) -> bool:
    node = view.maker(name, "DequantizeLinear")
    return node is not None and node.input[0] not in view.stored


def _real(view: View, node: NodeProto) -> NDArray[np.float32] | None:
    """Return what a node of constants makes; None where it is too large or in blocks of another form."""
    content, scale = view.array(node.input[0]), view.array(node.input[1])
    zero = view.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if content is None or scale is None or 4 * content.size > MAX_BYTES or scale.dtype != np.float32:
        return None
    attributes = graphs.attributes(node)
    axis, block = int(attributes.get("axis", 1)), int(attributes.get("block_size", 0))
    points = np.zeros((), np.float32) if zero is None else zero.astype(np.float32)
    if scale.size > 1:
        axis %= content.ndim
        if block:
            scale, points = (_repeated(each, block, axis, content.shape[axis]) for each in (scale, points))
        else:
            extents = [-1 if place == axis else 1 for place in range(content.ndim)]
            scale, points = (each.reshape(extents if each.size > 1 else ()) for each in (scale, points))
    else:
        scale, points = scale.reshape(()), points.reshape(())
    made = (content.astype(np.float32) - points) * scale
    return made.astype(np.float32) if made.shape == content.shape else None


def _repeated(each: NDArray[np.float32], block: int, axis: int, extent: int) -> NDArray[np.float32]:
    return each if each.size == 1 else np.repeat(each, block, axis).take(range(extent), axis)

"""BatchNormalization by stored statistics becomes part of the layer before it (Ioffe and Szegedy 2015, arXiv
1502.03167): one product and one sum a channel, done here once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from skerry_compiler import graph as graphs
from skerry_compiler.passes.pattern import View

LAYERS = ("Conv", "ConvTranspose", "Gemm")
Real = NDArray[np.float64]


class FoldNorm:
    """Layers whose only reader is a normalisation; weights and statistics are constants in float32.

    Exact but for the rounding of the weights: about 1e-6 of a channel's scale.
    """

    name = "fold-norm"

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        view = View(model)
        gone = []
        for node in model.graph.node:
            layer = view.maker(node.input[0], *LAYERS) if node.op_type == "BatchNormalization" else None
            if layer is not None and _foldable(view, layer, node):
                _fold(view, layer, node)
                gone.append(node)
        graphs.remove_nodes(model.graph, gone)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Nothing to promise: what cannot be folded stays."""
        return None


def _foldable(view: View, layer: NodeProto, norm: NodeProto) -> bool:
    if not view.alone(layer.output[0]) or graphs.attributes(norm).get("training_mode", 0):
        return False
    if any(norm.output[1:]):  # statistics as outputs: this trains
        return False
    stored = [view.array(name) for name in (*layer.input[1:], *norm.input[1:5]) if name]
    # Some old exporters keep one bias for all channels of a Gemm, or none that can be folded.
    return len(norm.input) == 5 and all(each is not None and each.dtype == np.float32 for each in stored)


def _fold(view: View, layer: NodeProto, norm: NodeProto) -> None:
    scale, offset, mean, variance = (_real(view, name) for name in norm.input[1:5])
    factor = scale / np.sqrt(variance + float(graphs.attributes(norm).get("epsilon", 1e-5)))
    attributes = graphs.attributes(layer)
    weight = _real(view, layer.input[1])
    bias = _real(view, layer.input[2]) if len(layer.input) > 2 and layer.input[2] else np.zeros(1)
    if layer.op_type == "Gemm":
        bias = bias * float(attributes.get("beta", 1.0))
        weight = weight * float(attributes.get("alpha", 1.0))
        weight = weight * (factor[:, None] if attributes.get("transB", 0) else factor)
        kept = [each for each in layer.attribute if each.name not in ("alpha", "beta")]
        del layer.attribute[:]
        layer.attribute.extend(kept)
    elif layer.op_type == "Conv":
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    else:  # ConvTranspose: weight[inputs, outputs / groups, ...], the inputs of a group side by side
        groups = int(attributes.get("group", 1))
        parts = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        spread = factor.reshape(groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
        weight = (parts * spread).reshape(weight.shape)
    names = [f"{norm.output[0]}/weight", f"{norm.output[0]}/bias"]
    graphs.add_constant(view.model.graph, names[0], weight.astype(np.float32))
    graphs.add_constant(view.model.graph, names[1], (offset + (bias - mean) * factor).astype(np.float32))
    source = layer.input[0]
    del layer.input[:]
    layer.input.extend([source, *names])
    layer.output[0] = norm.output[0]


def _real(view: View, name: str) -> Real:
    content = view.array(name)
    assert content is not None
    return content.astype(np.float64)

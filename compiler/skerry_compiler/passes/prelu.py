"""PRelu in words that ONNX Runtime has fast kernels for: its own PRelu is a plain loop that also ends the blocked
layout of the convolutions around it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper

from skerry_compiler import graph as graphs
from skerry_compiler.passes.pattern import View, become, insert

BLOCK = 16  # channels: what the blocked layout of convolutions needs whole
MOST_SLOPE = 16.0  # beyond it, slope * x + (1 - slope) * max(x, 0) would lose more than two digits


class PReluForms:
    """One slope for all: LeakyRelu, which convolutions take in. A slope a channel of an image between convolutions:
    slope * x + (1 - slope) * max(x, 0) as two depthwise 1x1 convolutions, right to rounding for finite x. Else
    max(x, 0) + slope * min(x, 0), exact to the bit.
    """

    name = "prelu-forms"

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        view = View(model)
        for node in [each for each in model.graph.node if each.op_type == "PRelu" and not each.domain]:
            slope = view.array(node.input[1])
            shape = view.shape(node.input[0])
            if slope is None or slope.dtype != np.float32 or not view.is_float(node.output[0]):
                continue
            if slope.size and np.all(slope == slope.reshape(-1)[0]) and slope.ndim <= len(shape or ()):
                become(node, "LeakyRelu", [node.input[0]], alpha=float(slope.reshape(-1)[0]))
            elif shape is not None and _blocked(view, node, slope, shape):
                _as_convolutions(view, node, slope)
            else:
                _as_bounds(view, node)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Nothing to promise: slopes that are computed stay."""
        return None


def _blocked(view: View, node: NodeProto, slope: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether x is an image in blocks of channels, as convolutions make them."""
    if len(shape) != 4 or shape[1] % BLOCK or slope.size != shape[1] or slope.shape[-3:] != (shape[1], 1, 1):
        return False
    if float(np.max(np.abs(slope))) > MOST_SLOPE:
        return False
    source = node.input[0]
    for _ in range(2):
        maker = view.maker(source, "Conv", "BatchNormalization", "Add")
        if maker is None:
            return False
        if maker.op_type == "Conv":
            return True
        source = maker.input[0]
    return True


def _as_convolutions(view: View, node: NodeProto, slope: np.ndarray) -> None:
    x, y = node.input[0], node.output[0]
    flat = slope.reshape(-1, 1, 1, 1)
    graph = view.model.graph
    graphs.add_constant(graph, f"{y}/slope", flat)
    graphs.add_constant(graph, f"{y}/rest", (1 - flat).astype(np.float32))
    groups: dict[str, Any] = {"group": len(flat), "kernel_shape": [1, 1]}
    made = [
        helper.make_node("Conv", [x, f"{y}/slope"], [f"{y}/line"], name=f"{y}/line", **groups),
        helper.make_node("Relu", [x], [f"{y}/relu"], name=f"{y}/relu"),
        helper.make_node("Conv", [f"{y}/relu", f"{y}/rest"], [f"{y}/bend"], name=f"{y}/bend", **groups),
    ]
    insert(view.model, node, made)
    become(node, "Add", [f"{y}/bend", f"{y}/line"])


def _as_bounds(view: View, node: NodeProto) -> None:
    x, slope, y = node.input[0], node.input[1], node.output[0]
    zero = "prelu-forms/zero"
    if zero not in view.stored:
        graphs.add_constant(view.model.graph, zero, np.zeros((), np.float32))
        view.stored[zero] = view.model.graph.initializer[-1]
    made = [
        helper.make_node("Min", [x, zero], [f"{y}/low"], name=f"{y}/low"),
        helper.make_node("Mul", [f"{y}/low", slope], [f"{y}/sloped"], name=f"{y}/sloped"),
        helper.make_node("Relu", [x], [f"{y}/relu"], name=f"{y}/relu"),
    ]
    insert(view.model, node, made)
    become(node, "Add", [f"{y}/relu", f"{y}/sloped"])

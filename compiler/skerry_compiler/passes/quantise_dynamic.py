"""8-bit matrix products whose activations are quantised while the model runs (dynamic quantisation): unsigned
activations by the range that they have just then, signed weights with a scale a column (U8S8).

Needs no calibration data. Only for matrix products: a convolution in this form runs at 0.02 to 0.2 of its float speed
on ONNX Runtime.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from skerry_compiler import graph as graphs
from skerry_compiler.passes.pattern import View, become, insert

MIN_OPSET = 11  # DynamicQuantizeLinear
MIN_WEIGHTS = 1024  # below, quantising the activations costs more than the product


class QuantiseDynamic:
    """MatMul and Gemm with constant weights become DynamicQuantizeLinear, MatMulInteger and a scale a column, which
    ONNX Runtime fuses. Products of the same activations share their quantisation.
    """

    name = "quantise-dynamic"

    def __init__(self, *, reduce_range: bool) -> None:
        self.most = 63 if reduce_range else 127  # processors without VNNI saturate beyond

    def requires(self, model: ModelProto) -> str | None:
        """Matrix products with constant weights, which make up most of the multiplications."""
        view = View(model)
        if view.opset < MIN_OPSET:
            return f"opset {view.opset} cannot quantise dynamically (11 can)"
        if any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph.node):
            return "the model is quantised already"
        products, others = shares(view)
        if not products:
            return "no matrix product with constant weights"
        return None if products > others else "most multiplications are not matrix products with constant weights"

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        view = View(model)
        ready: set[str] = set()
        for node in [each for each in model.graph.node if _fits(view, each)]:
            self._rewrite(view, node, ready)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """There are products of bytes now."""
        there = any(node.op_type == "MatMulInteger" for node in model.graph.node)
        return None if there else "nothing was quantised"

    def _rewrite(self, view: View, node: NodeProto, ready: set[str]) -> None:
        graph, y, x = view.model.graph, node.output[0], node.input[0]
        attributes = graphs.attributes(node)
        weight = _weight(view, node)
        largest = np.abs(weight).max(axis=0)
        scale = np.where(largest > 0, largest / self.most, 1.0).astype(np.float32)
        values = np.clip(np.rint(weight / scale), -self.most, self.most).astype(np.int8)
        graphs.add_constant(graph, f"{y}/bytes", values)
        graphs.add_constant(graph, f"{y}/scales", scale)
        parts = [f"{x}/dynamic", f"{x}/dynamic_scale", f"{x}/dynamic_zero"]
        made = [] if x in ready else [helper.make_node("DynamicQuantizeLinear", [x], parts, name=parts[0])]
        ready.add(x)
        made += [
            helper.make_node("MatMulInteger", [parts[0], f"{y}/bytes", parts[2]], [f"{y}/sums"], name=f"{y}/sums"),
            helper.make_node("Cast", [f"{y}/sums"], [f"{y}/real"], name=f"{y}/real", to=TensorProto.FLOAT),
            helper.make_node("Mul", [parts[1], f"{y}/scales"], [f"{y}/both"], name=f"{y}/both"),
        ]
        if node.op_type == "MatMul" or len(node.input) < 3 or not node.input[2]:
            insert(view.model, node, made)
            become(node, "Mul", [f"{y}/real", f"{y}/both"])
            return
        bias = view.array(node.input[2])
        assert bias is not None
        graphs.add_constant(graph, f"{y}/bias", (bias * np.float32(attributes.get("beta", 1.0))).astype(np.float32))
        made.append(helper.make_node("Mul", [f"{y}/real", f"{y}/both"], [f"{y}/product"], name=f"{y}/product"))
        insert(view.model, node, made)
        become(node, "Add", [f"{y}/product", f"{y}/bias"])


def shares(view: View) -> tuple[int, int]:
    """Return multiplications in matrix products with constant weights, and in all other products and convolutions."""
    products = others = 0
    for node in view.model.graph.node:
        if node.op_type not in ("MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Einsum"):
            continue
        weight, given, made = (view.shape(name) for name in (node.input[1], node.input[0], node.output[0]))
        if weight is None or given is None:
            continue
        if node.op_type == "Gemm":
            count = int(np.prod(weight)) * given[1 if graphs.attributes(node).get("transA", 0) else 0]
        elif node.op_type == "MatMul":
            count = int(np.prod(given)) * weight[-1]
        elif node.op_type == "Conv":
            count = int(np.prod(weight)) * int(np.prod((made or given)[2:]))
        else:
            count = int(np.prod(weight)) * given[0]
        if _fits(view, node):
            products += count
        else:
            others += count
    return products, others


def _fits(view: View, node: NodeProto) -> bool:
    if node.op_type not in ("MatMul", "Gemm") or node.domain or not view.is_float(node.output[0]):
        return False
    weight = view.array(node.input[1])
    if weight is None or weight.ndim != 2 or weight.size < MIN_WEIGHTS or not np.isfinite(weight).all():
        return False
    bias = len(node.input) < 3 or not node.input[2] or view.array(node.input[2]) is not None
    return bias and not graphs.attributes(node).get("transA", 0)


def _weight(view: View, node: NodeProto) -> NDArray[np.float32]:
    """Return the weights f32[inputs, outputs] with Gemm's factor inside."""
    weight = view.array(node.input[1])
    assert weight is not None
    if node.op_type == "MatMul":
        return weight
    attributes = graphs.attributes(node)
    turned = weight.T if attributes.get("transB", 0) else weight
    return np.ascontiguousarray(turned * np.float32(attributes.get("alpha", 1.0)))

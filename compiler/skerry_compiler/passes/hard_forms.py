"""HardSigmoid and HardSwish where an exporter wrote them as sums, clips and products.

relu6(x + 3) / 6 and x * relu6(x + 3) / 6 (Howard et al. 2019, arXiv 1905.02244) come as Add, Clip, Div and Mul in any
order; one node each spares the memory traffic between them.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto, helper

from skerry_compiler import graph as graphs
from skerry_compiler.passes.pattern import View, become, close, insert, product

SWISH_OPSET = 14  # HardSwish
_Line = tuple[str, float, float]  # x, slope, offset


class HardForms:
    """`swish` says whether the engine has a HardSwish of its own: else it stays x * HardSigmoid(x).

    Rounding differs by a few units in the last place, for all finite x.
    """

    name = "hard-forms"

    def __init__(self, *, swish: bool) -> None:
        self.swish = swish

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the module's text."""
        view = View(model)
        for node in list(model.graph.node):
            if node.op_type in ("Mul", "Div") and view.is_float(node.output[0]):
                self._rewrite(view, node)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """No HardSwish where the opset has none."""
        kinds = {node.op_type for node in model.graph.node}
        return "HardSwish below opset 14" if "HardSwish" in kinds and View(model).opset < SWISH_OPSET else None

    def _rewrite(self, view: View, node: NodeProto) -> None:
        factor, names = product(view, node.output[0])
        if len(names) > 2:
            return
        for name, rest in zip(names, names[::-1], strict=True):
            x, alpha, beta = _gate(view, name, factor) or ("", 0.0, 0.0)
            if not x or not view.alike(x, node.output[0]):
                continue
            if len(names) == 1:
                become(node, "HardSigmoid", [x], alpha=alpha, beta=beta)
                return
            one_sixth = rest == x and close(alpha, 1 / 6) and close(beta, 0.5)
            if one_sixth and self.swish and view.opset >= SWISH_OPSET:
                become(node, "HardSwish", [x])
                return
            if view.maker(name, "HardSigmoid") is None:
                gate = f"{node.output[0]}/hard_sigmoid"
                sigmoid = helper.make_node("HardSigmoid", [x], [gate], name=gate, alpha=alpha, beta=beta)
                insert(view.model, node, [sigmoid])
                become(node, "Mul", [rest, gate])
            return


def _gate(view: View, name: str, factor: float) -> _Line | None:
    """Return the line of x that a value times the factor is, clipped to 0..1."""
    sigmoid = view.maker(name, "HardSigmoid")
    if sigmoid is not None:
        attributes = graphs.attributes(sigmoid)
        line = sigmoid.input[0], float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))
        return line if factor == 1 else None
    found = _clipped(view, name)
    if found is None or not close(factor * found[1], 1.0):
        return None
    (x, slope, offset), top = found
    return x, slope / top, offset / top


def _clipped(view: View, name: str) -> tuple[_Line, float] | None:
    """Return what is clipped to 0..top as a line of x, and the top; None where the value is no such clip."""
    node = view.maker(name, "Clip", "Min")
    if node is None or not view.is_float(name):
        return None
    if node.op_type == "Min":
        top = view.number(node.input[1]) if len(node.input) == 2 else None
        inner = view.maker(node.input[0], "Relu", "Max")
        if inner is None or (inner.op_type == "Max" and (len(inner.input) != 2 or view.number(inner.input[1]) != 0)):
            return None
        low, source = 0.0, inner.input[0]
    else:
        low, top = (_bound(view, node, place, key) for place, key in ((1, "min"), (2, "max")))  # type: ignore[assignment]  # numbers or None
        source = node.input[0]
    if low != 0 or top is None or not 0 < top < 1e30:
        return None
    return _line(view, source), top


def _bound(view: View, node: NodeProto, place: int, key: str) -> float | None:
    if len(node.input) > place and node.input[place]:
        return view.number(node.input[place])
    value = graphs.attributes(node).get(key)
    return None if value is None else float(value)


def _line(view: View, name: str) -> _Line:
    """Return a value as slope * x + offset."""
    slope, offset = 1.0, 0.0
    for _ in range(4):
        node = view.maker(name, "Add", "Sub", "Mul", "Div")
        if node is None:
            break
        number = view.number(node.input[1])
        place = 0
        if number is None and node.op_type in ("Add", "Mul"):
            number, place = view.number(node.input[0]), 1
        if number is None or (node.op_type == "Div" and not number):
            break
        if node.op_type in ("Add", "Sub"):
            offset += slope * (number if node.op_type == "Add" else -number)
        else:
            slope *= number if node.op_type == "Mul" else 1 / number
        name = node.input[place]
    return name, slope, offset

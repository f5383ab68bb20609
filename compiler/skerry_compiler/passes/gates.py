"""SiLU, QuickGelu and GELU where an exporter wrote them as products.

x * sigmoid(a x); x * (1 + erf(x / sqrt 2)) / 2 and its tanh form (Hendrycks and Gimpel 2016, arXiv 1606.08415). The
products come in any order, with the halves and roots multiplied or divided.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from onnx import ModelProto, NodeProto

from skerry_compiler.passes.pattern import MICROSOFT, View, become, close, product, use_microsoft

GELU_OPSET = 20
OWN = frozenset(["QuickGelu", "Gelu", "FastGelu"])  # ONNX Runtime's
CUBIC = 0.044715  # of the tanh form


class Gates:
    """`allowed` are those of ONNX Runtime's own QuickGelu, Gelu and FastGelu that the engine takes; its graph optimiser
    does not find them between quantised values. The standard Gelu is named where the opset has it.

    Rounding differs by a few units in the last place of x, for all finite x.
    """

    name = "gates"

    def __init__(self, allowed: Collection[str]) -> None:
        self.allowed = allowed

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the module's text."""
        view = View(model)
        for node in list(model.graph.node):
            if node.op_type in ("Mul", "Div") and not node.domain and view.is_float(node.output[0]):
                self._rewrite(view, node)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Only those of ONNX Runtime's operators that are allowed."""
        kinds = {node.op_type for node in model.graph.node if node.domain == MICROSOFT}
        strange = sorted((kinds & OWN) - set(self.allowed))
        return f"a {strange[0]}" if strange else None

    def _rewrite(self, view: View, node: NodeProto) -> None:
        factor, names = product(view, node.output[0])
        if len(names) != 2 or not view.alike(*names, node.output[0]):
            return
        for x, gate in (names, names[::-1]):
            if "QuickGelu" in self.allowed and factor == 1 and view.maker(gate, "Sigmoid"):
                alpha, inner = product(view, view.made[gate].input[0])
                if inner == [x]:
                    become(node, "QuickGelu", [x], MICROSOFT, alpha=alpha)
                    use_microsoft(view.model)
                    return
            kind = _gelu(view, x, gate) if close(factor, 0.5) else None
            if kind is not None:
                self._gelu(view, node, x, kind)
                return

    def _gelu(self, view: View, node: NodeProto, x: str, kind: str) -> None:
        own = "Gelu" if kind == "none" else "FastGelu"
        if view.opset >= GELU_OPSET:
            become(node, "Gelu", [x], approximate=kind)
        elif own in self.allowed:
            become(node, own, [x], MICROSOFT)
            use_microsoft(view.model)


def _gelu(view: View, x: str, gate: str) -> str | None:
    """Return which form of GELU 1 + erf(...) or 1 + tanh(...) makes of x, by ONNX's name for it."""
    add = view.maker(gate, "Add")
    if add is None:
        return None
    for one, name in ((add.input[0], add.input[1]), (add.input[1], add.input[0])):
        inner = view.maker(name, "Erf", "Tanh") if close(view.number(one), 1.0) else None
        if inner is None:
            continue
        factor, names = product(view, inner.input[0])
        if inner.op_type == "Erf":
            return "none" if names == [x] and close(factor, math.sqrt(0.5)) else None
        return "tanh" if close(factor, math.sqrt(2 / math.pi)) and _cubic(view, x, names) else None
    return None


def _cubic(view: View, x: str, names: list[str]) -> bool:
    """Whether a product is x + 0.044715 x^3, or x times 1 + 0.044715 x^2."""
    if len(names) == 2 and x in names:
        add, base, power = view.maker(names[1] if names[0] == x else names[0], "Add"), None, 2
    elif len(names) == 1:
        add, base, power = view.maker(names[0], "Add"), x, 3
    else:
        return False
    if add is None:
        return False
    for first, name in ((add.input[0], add.input[1]), (add.input[1], add.input[0])):
        plain = first == base if base is not None else close(view.number(first), 1.0)
        if plain:
            factor, factors = product(view, name)
            return close(factor, CUBIC) and _power(view, x, factors) == power
    return False


def _power(view: View, x: str, names: list[str]) -> int:
    """Return which power of x a product is; 0 where it is another."""
    total = 0
    for name in names:
        node = view.maker(name, "Pow", "Mul")
        if name == x:
            total += 1
        elif node is not None and node.op_type == "Pow" and node.input[0] == x:
            exponent = view.number(node.input[1]) or 0.0
            total += int(exponent) if exponent in (2.0, 3.0) else 0
        elif node is not None and list(node.input) == [x, x]:
            total += 2
        else:
            return 0
    return total

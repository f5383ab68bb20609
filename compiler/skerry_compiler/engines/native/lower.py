"""ONNX to the native engine's own form: one function an operator, found in two explicit tables."""

from __future__ import annotations

from onnx import ModelProto

from skerry_compiler import graph as graphs
from skerry_compiler import unsupported
from skerry_compiler.engines.native import ir, lower_select, lower_svm
from skerry_compiler.engines.native.lower_math import OPERATORS as MATH
from skerry_compiler.engines.native.lower_ml import OPERATORS as ML
from skerry_compiler.engines.native.lowering import CannotError, Lowering
from skerry_contracts.evidence import Unsupported

_MATH = {**MATH, **lower_select.MATH}
_ML = {**ML, **lower_select.ML, **lower_svm.OPERATORS}


def lower(model: ModelProto) -> ir.Graph:
    """Return the model in the native engine's form.

    Args:
        model: with fixed shapes; constants folded, dead code gone.

    Raises:
        UnsupportedError: names every node that the engine has no form for.
    """
    versions = {each.domain: each.version for each in model.opset_import}
    state = Lowering(model)
    problems: list[Unsupported] = []
    for value in model.graph.input:
        try:
            state.values[value.name] = state.typed(value.name)
        except CannotError as error:
            problems.append(unsupported.one("Input", "", versions.get("", 0), value.name, str(error)))
    for index, node in enumerate(model.graph.node):
        table = _ML if node.domain == "ai.onnx.ml" else _MATH if node.domain in ("", "ai.onnx") else {}
        try:
            if node.op_type not in table:
                raise CannotError("no native form")
            table[node.op_type](state, node, graphs.attributes(node))
        except CannotError as error:
            where = node.name or (node.output[0] if node.output else str(index))
            opset = versions.get(node.domain, 0)
            problems.append(unsupported.one(node.op_type, node.domain, opset, where, str(error)))
            for name in node.output:  # so that one missing operator does not make all that follow it look missing
                _assume(state, name)
    if problems:
        raise unsupported.error("the native engine", problems)
    outputs = tuple(state.value(value.name) for value in model.graph.output)
    return ir.Graph(tuple(state.values[value.name] for value in model.graph.input), outputs, state.ops)


def _assume(state: Lowering, name: str) -> None:
    """Pretend that a value was made, where its type is known."""
    try:
        state.values[name] = state.typed(name)
    except CannotError:
        return

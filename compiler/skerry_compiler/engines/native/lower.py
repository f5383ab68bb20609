"""ONNX to the native engine's own form: one function an operator, found in two explicit tables."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto

from skerry_compiler import graph as graphs
from skerry_compiler import unsupported
from skerry_compiler.engines.native import ir, lower_select, lower_svm
from skerry_compiler.engines.native.lower_math import OPERATORS as MATH
from skerry_compiler.engines.native.lower_ml import OPERATORS as ML
from skerry_compiler.engines.native.lowering import MAX_CONSTANT_BYTES, CannotError, Lowering
from skerry_compiler.passes import constant_fold
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
            if _known(state, node, model):
                continue
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


def _known(state: Lowering, node: NodeProto, model: ModelProto) -> bool:
    """Make a constant of what depends on constants and shapes alone; return whether it does. Shapes behind operators
    of ai.onnx.ml are known here only.
    """
    if node.domain not in ("", "ai.onnx") or not node.input or not constant_fold.foldable(node):
        return False
    if node.op_type == "Shape" and not node.attribute and node.input[0] in state.values:
        state.constants[node.output[0]] = np.array(state.values[node.input[0]].shape, np.int64)
        return True
    if not all(name in state.constants for name in node.input if name):
        return False
    content = constant_fold.evaluate(node, state.constants, list(model.opset_import))
    if content is None or content.nbytes > MAX_CONSTANT_BYTES:
        return False
    state.constants[node.output[0]] = content
    return True


def _assume(state: Lowering, name: str) -> None:
    """Pretend that a value was made, where its type is known."""
    try:
        state.values[name] = state.typed(name)
    except CannotError:
        return

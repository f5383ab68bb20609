"""Every node that keeps a network from being generated, not only the first: values that a missing node would make are
taken as the model declares them, and reading goes on.
"""

from __future__ import annotations

import onnx

from skerry_compiler import graph as graphs
from skerry_compiler import unsupported
from skerry_compiler.engines.network import read
from skerry_compiler.engines.network.operators import HANDLERS
from skerry_compiler.engines.network.tensors import Tensor
from skerry_compiler.engines.network.values import Value, fold, identity
from skerry_compiler.errors import UnsupportedError
from skerry_compiler.passes.single_form import single
from skerry_contracts.evidence import Unsupported


def missing(model: onnx.ModelProto) -> tuple[Unsupported, ...]:
    """Return the nodes without a form in this engine, those of one operator and reason together. Nodes behind values
    of unknown shape cannot be judged and are left out.

    Raises:
        UnsupportedError: an input that the engine does not take.
    """
    model = single(model)
    reader, _ = read.begin(model, {})
    typed = graphs.values(model.graph)
    found: list[Unsupported] = []
    for proto in model.graph.node:
        if any(name and name not in reader.values and name not in reader.constants for name in proto.input):
            continue
        node = read.node_of(proto, reader.opset)
        try:
            read.add_node(reader, proto, node, HANDLERS, model)
        except UnsupportedError as error:
            found += error.nodes
            for name in proto.output:
                _assume(reader, name, typed.get(name))
    return unsupported.grouped(found)


def _assume(reader: read.Reader, name: str, declared: onnx.ValueInfoProto | None) -> None:
    """Pretend that a value was made, where its type and shape are known."""
    shape = None if declared is None else graphs.static_shape(declared)
    if declared is None or shape is None or declared.type.tensor_type.elem_type not in read.KINDS:
        return
    h, w, c = fold(shape)
    kind = read.KINDS[declared.type.tensor_type.elem_type]
    reader.values[name] = Value(Tensor(name, h, w, c, kind=kind), shape, identity(len(shape)))

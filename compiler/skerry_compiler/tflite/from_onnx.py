"""ONNX to TFLite: the whole graph, in float."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from skerry_compiler import graph as graphs
from skerry_compiler import unsupported
from skerry_compiler.errors import UnsupportedError
from skerry_compiler.passes import pipelines
from skerry_compiler.passes.pattern import MICROSOFT
from skerry_compiler.tflite import write_map, write_spatial
from skerry_compiler.tflite.write import AS_IS, Node, Writer

HANDLERS = {**write_spatial.HANDLERS, **write_map.HANDLERS}
_NONE = "none of the forms that this compiler writes"


def convert(model: ModelProto) -> bytes:
    """Return a float model of fixed shapes as a TFLite file. Inputs and outputs keep their names, order and shapes.

    Raises:
        UnsupportedError: operators or types without a form here; all operators are named.
    """
    model = pipelines.rewritten(model, pipelines.litert())
    versions = {each.domain: each.version for each in model.opset_import}
    unknown = [
        unsupported.one(node.op_type, node.domain, versions.get(node.domain, 0), node.name or node.output[0], _NONE)
        for node in model.graph.node
        if not _known(node)
    ]
    if unknown:
        raise unsupported.error("TFLite", unknown)
    constants = graphs.constants(model)
    writer = Writer(constants, _shapes(model, constants))
    for value in model.graph.input:
        writer.tensors[(value.name, AS_IS)] = writer.tensor(value.name, writer.shapes[value.name])
    for proto in model.graph.node:
        attributes = {key: graphs.text(each) if isinstance(each, bytes) else each
                      for key, each in graphs.attributes(proto).items()}  # fmt: skip
        node = Node(proto.op_type, proto.name, tuple(proto.input), tuple(proto.output), attributes)
        for name in (*node.inputs, *node.outputs[:1]) if node.kind != "DequantizeLinear" else ():
            if name and name not in writer.shapes:
                raise node.fail(f"the shape of {name!r:.60} is not known")
        HANDLERS[node.kind](writer, node)
    return writer.file([value.name for value in model.graph.input], [value.name for value in model.graph.output])


def _known(node: NodeProto) -> bool:
    own = node.domain == MICROSOFT and node.op_type in ("Gelu", "FastGelu")
    return own or (not node.domain and node.op_type in HANDLERS)


def _shapes(model: ModelProto, constants: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every value, all float but for constants.

    Raises:
        UnsupportedError: an input or output of another type.
    """
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {name: content.shape for name, content in constants.items()}
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    for name, value in graphs.values(inferred.graph).items():
        shape = graphs.static_shape(value)
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            if name in ends:
                raise UnsupportedError(f"{name!r:.80} is not float32")
            continue
        if shape is not None:
            shapes[name] = shape
    return shapes

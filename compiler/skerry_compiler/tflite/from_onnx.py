"""ONNX to TFLite: the whole graph, in float."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from skerry_compiler import graph as graphs
from skerry_compiler import unsupported
from skerry_compiler.errors import UnsupportedError
from skerry_compiler.tflite import write_map, write_spatial
from skerry_compiler.tflite.write import AS_IS, Node, Writer

HANDLERS = {**write_spatial.HANDLERS, **write_map.HANDLERS}
_NONE = "none of the forms that this compiler writes"


def convert(model: ModelProto) -> bytes:
    """Return a float model of fixed shapes as a TFLite file. Inputs and outputs keep their names, order and shapes.

    Raises:
        UnsupportedError: operators or types without a form here; all operators are named.
    """
    versions = {each.domain: each.version for each in model.opset_import}
    unknown = [
        unsupported.one(node.op_type, node.domain, versions.get(node.domain, 0), node.name or node.output[0], _NONE)
        for node in model.graph.node
        if node.domain or node.op_type not in HANDLERS
    ]
    if unknown:
        raise unsupported.error("TFLite", unknown)
    model = folded(model)
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


def folded(model: ModelProto) -> ModelProto:
    """Return a copy whose normalisations by stored statistics are part of the convolutions before them."""
    copy = ModelProto()
    copy.CopyFrom(model)
    constants, uses = graphs.constants(copy), graphs.uses(copy.graph)
    made = {node.output[0]: node for node in copy.graph.node}
    gone = []
    for node in copy.graph.node:
        conv = made.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or uses[conv.output[0]] > 1:
            continue
        if not all(name in constants for name in (*conv.input[1:], *node.input[1:])):
            continue
        _fold(copy, conv, node, constants)
        gone.append(node)
    graphs.remove_nodes(copy.graph, gone)
    return copy


def _fold(model: ModelProto, conv: NodeProto, norm: NodeProto, constants: dict[str, np.ndarray]) -> None:
    """Multiply a convolution's weights and bias by what its normalisation multiplies and adds (Ioffe and Szegedy 2015,
    arXiv 1502.03167).
    """
    scale, offset, mean, variance = (constants[name].astype(np.float64) for name in norm.input[1:5])
    factor = scale / np.sqrt(variance + float(graphs.attributes(norm).get("epsilon", 1e-5)))
    weight = constants[conv.input[1]].astype(np.float64)
    bias = constants[conv.input[2]] if len(conv.input) > 2 else np.zeros(len(factor))
    names = [f"{norm.output[0]} weight", f"{norm.output[0]} bias"]
    weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    graphs.add_constant(model.graph, names[0], weight.astype(np.float32))
    graphs.add_constant(model.graph, names[1], (offset + (bias - mean) * factor).astype(np.float32))
    source = conv.input[0]
    del conv.input[:]
    conv.input.extend([source, *names])
    conv.output[0] = norm.output[0]


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

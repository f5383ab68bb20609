"""Operators that ONNX defines by others: their body, with names of its own, in place of the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import defs, helper


def body(
    proto: onnx.NodeProto, opset: int, types: Sequence[onnx.TypeProto], model: onnx.ModelProto, number: int
) -> tuple[list[onnx.NodeProto], list[str], int] | None:
    """Return the nodes that a node stands for, the names of its outputs among them and their opset; None for none.

    Args:
        proto: the node.
        opset: of the graph around it.
        types: of its inputs.
        model: may define functions of its own.
        number: makes names unique.
    """
    function = _function(proto, opset, types, model)
    if function is None:
        return None
    version = next((o.version for o in function.opset_import if o.domain in ("", "ai.onnx")), opset)
    prefix = f"{proto.output[0]}/{proto.op_type}{number}/"
    given = dict.fromkeys(function.input, "") | dict(zip(function.input, proto.input, strict=False))
    attributes = {a.name: a for a in function.attribute_proto} | {a.name: a for a in proto.attribute}
    nodes = [_renamed(node, prefix, given, attributes) for node in function.node]
    return nodes, [given.get(name, prefix + name) for name in function.output], version


def _function(
    proto: onnx.NodeProto, opset: int, types: Sequence[onnx.TypeProto], model: onnx.ModelProto
) -> onnx.FunctionProto | None:
    function = onnx.FunctionProto()
    for own in model.functions:
        if (own.domain, own.name) == (proto.domain, proto.op_type):
            function.CopyFrom(own)
            return function
    try:
        schema: Any = defs.get_schema(proto.op_type, opset, proto.domain)
    except defs.SchemaError:
        return None
    full = onnx.NodeProto()
    full.CopyFrom(proto)
    have = {a.name for a in proto.attribute}
    full.attribute.extend(
        a.default_value for n, a in schema.attributes.items() if n not in have and a.default_value.name
    )
    plain = [v for v in schema.function_opset_versions if v <= opset]
    dependent = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    if plain:
        text = schema.get_function_with_opset_version(max(plain))
    elif dependent:
        said = [t.SerializeToString() for t in types]
        text = schema.get_context_dependent_function_with_opset_version(max(dependent), full.SerializeToString(), said)
    else:
        return None
    if not text:
        return None
    function.ParseFromString(text)
    del function.attribute_proto[:]
    function.attribute_proto.extend(full.attribute)
    return function


def _renamed(
    node: onnx.NodeProto, prefix: str, given: dict[str, str], attributes: dict[str, onnx.AttributeProto]
) -> onnx.NodeProto:
    """Return a node of a body with the outside's names and attributes."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for field in (copy.input, copy.output):
        renamed = [given.get(name, prefix + name) if name else "" for name in field]
        del field[:]
        field.extend(renamed)
    del copy.attribute[:]
    for attribute in node.attribute:
        new = onnx.AttributeProto()
        if attribute.ref_attr_name:
            if attribute.ref_attr_name not in attributes:
                continue
            new.CopyFrom(attributes[attribute.ref_attr_name])
            new.name = attribute.name
        elif attribute.type == onnx.AttributeProto.GRAPH:
            new.CopyFrom(helper.make_attribute(attribute.name, _graph(attribute.g, prefix, given, attributes)))
        else:
            new.CopyFrom(attribute)
        copy.attribute.append(new)
    return copy


def _graph(
    graph: onnx.GraphProto, prefix: str, given: dict[str, str], attributes: dict[str, onnx.AttributeProto]
) -> onnx.GraphProto:
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    del copy.node[:]
    copy.node.extend(_renamed(node, prefix, given, attributes) for node in graph.node)
    for info in (*copy.output, *copy.input, *copy.initializer):
        info.name = given.get(info.name, prefix + info.name)
    return copy

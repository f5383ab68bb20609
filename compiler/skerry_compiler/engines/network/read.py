"""ONNX to the engine's form: one pass over the nodes, each handled by the function that its operator names.

Constants are folded on the way with ONNX Runtime, so that shapes computed in the graph, dequantised
weights and the like never reach the engine. What cannot be generated is named: operator, opset and node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from skerry_compiler import unsupported
from skerry_compiler.engines.network import constants, inline
from skerry_compiler.engines.network.graph import Constant, Input, Network, Op, Output, Tensor
from skerry_compiler.engines.network.tensors import CTYPES
from skerry_compiler.engines.network.values import Layouts, Value, fold, identity
from skerry_compiler.errors import UnsupportedError

MAX_ELEMENTS = 1 << 28
KINDS = {int(helper.np_dtype_to_tensor_dtype(np.dtype(kind))): kind for kind in CTYPES}
HALF = onnx.TensorProto.FLOAT16  # only at the border: float32 inside (see passes/single_form.py)
RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """An ONNX node with its attributes as plain Python values."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    domain: str = ""

    def fail(self, why: str) -> UnsupportedError:
        """Return the error that says what about this node is not supported; "…; what is" names the nearest form."""
        name = self.name or (self.outputs or ("",))[0]
        return unsupported.at_node(self.op_type, self.domain, self.opset, name, why)

    def given(self, index: int) -> bool:
        """Whether an optional input is there."""
        return len(self.inputs) > index and self.inputs[index] != ""


class Reader:
    """What the handlers share: values and constants by name, and the operations so far."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.values: dict[str, Value] = {}
        self.constants: dict[str, NDArray[Any]] = {}
        self.ops: list[Op] = []
        self.halves: set[str] = set()  # outputs that the caller takes as float16
        self.layouts = Layouts(self.ops)
        # What bytes were rounded from: (themselves, source, scale, zero), by the id of their tensor.
        self.rounded: dict[int, tuple[Value, Value, Any, Any]] = {}
        self.parts: dict[int, tuple[Value, list[Value]]] = {}  # images and what they were joined from, likewise

    def constant(self, node: Node, index: int) -> NDArray[Any]:
        """Return an input that must be a constant."""
        name = node.inputs[index]
        if name not in self.constants:
            raise node.fail(f"input {index} ({name!r:.60}) must be a constant")
        return self.constants[name]

    def value(self, node: Node, index: int) -> Value:
        """Return an input of float32 as a value; other types are an error."""
        value = self.typed(node, index)
        if value.kind != "float32":
            raise node.fail(f"input {index} is {value.kind}; float32 is supported here")
        return value

    def typed(self, node: Node, index: int) -> Value:
        """Return an input of any type as a value; a constant is written by an operation of its own."""
        if not node.given(index):
            raise node.fail(f"input {index} is missing")
        name = node.inputs[index]
        return self.values[name] if name in self.values else self.written(node, self.constants[name], name)

    def written(self, node: Node, data: NDArray[Any], name: str) -> Value:
        """Return a value that holds a constant."""
        if str(data.dtype) not in CTYPES or data.size == 0:
            raise node.fail(f"a constant of {data.dtype}{list(data.shape)}")
        h, w, c = fold(data.shape)
        y = self.add(Constant(label=node.name, y=Tensor(name, h, w, c, kind=str(data.dtype)), data=data))
        return Value(y, tuple(data.shape), identity(data.ndim))

    def kind(self, node: Node, index: int) -> str:
        """Return the type of an input."""
        name = node.inputs[index]
        return self.values[name].kind if name in self.values else str(self.constants[name].dtype)

    def shape(self, node: Node, index: int) -> tuple[int, ...]:
        """Return the logical shape of an input."""
        name = node.inputs[index]
        return self.values[name].shape if name in self.values else tuple(self.constants[name].shape)

    def give(self, node: Node, tensor: Tensor, shape: Sequence[int], order: Sequence[int], index: int = 0) -> None:
        """Say that an output of the node is this tensor."""
        self.values[node.outputs[index]] = Value(tensor, tuple(shape), tuple(order))

    def view(self, node: Node, value: Value) -> None:
        """Say that the node's output is this value."""
        self.values[node.outputs[0]] = value

    def add(self, op: Op) -> Tensor:
        """Append an operation; returns what it writes."""
        self.ops.append(op)
        return op.y


Handler = Callable[[Reader, Node], None]


def read(
    model: onnx.ModelProto, handlers: Mapping[str, Handler], shapes: Mapping[str, Sequence[int]] | None = None
) -> Network:
    """Return the network of a model. `shapes` gives sizes of inputs whose dimensions have names (the batch is 1).

    Raises:
        UnsupportedError: a node that cannot be generated.
    """
    reader, named = begin(model, shapes or {})
    _nodes(reader, model.graph.node, handlers, model)
    outputs = []
    for index, info in enumerate(model.graph.output):
        outputs.append((info.name, _output(reader, info.name, index)))
    return Network(reader.ops, named, outputs)


def begin(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]
) -> tuple[Reader, list[tuple[str, tuple[int, ...]]]]:
    """Return a reader that knows the constants and inputs of a model, and the inputs' names and shapes."""
    reader = Reader(max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1))
    reader.halves = {each.name for each in model.graph.output if each.type.tensor_type.elem_type == HALF}
    for initializer in model.graph.initializer:
        reader.constants[initializer.name] = numpy_helper.to_array(initializer)
    inputs = [i for i in model.graph.input if i.name not in reader.constants]
    named = [(i.name, _shape(i, shapes)) for i in inputs]
    for index, (info, (name, shape)) in enumerate(zip(inputs, named, strict=True)):
        _input(reader, info, index, name, shape)
    return reader, named


def _shape(info: onnx.ValueInfoProto, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    if info.type.tensor_type.elem_type not in (*KINDS, HALF):
        kind = onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type)
        raise UnsupportedError(
            f"input {info.name!r:.80} is {kind}", hint=f"this engine takes tensors of {', '.join(CTYPES)}"
        )
    if info.name in shapes:
        return tuple(shapes[info.name])
    dims = [d.dim_value if d.HasField("dim_value") else 0 for d in info.type.tensor_type.shape.dim]
    dims = [1 if i == 0 and d <= 0 and not _is_zero(info) else d for i, d in enumerate(dims)]
    if any(d <= 0 for d in dims):
        raise UnsupportedError(f"input {info.name!r:.80} has no fixed shape: {dims}", hint="give its shape")
    return tuple(dims)


def _is_zero(info: onnx.ValueInfoProto) -> bool:
    """Whether the first extent is said to be 0, not left open."""
    first = info.type.tensor_type.shape.dim[0]
    return bool(first.HasField("dim_value") and first.dim_value == 0)


def _input(reader: Reader, info: onnx.ValueInfoProto, index: int, name: str, shape: tuple[int, ...]) -> None:
    h, w, c = fold(shape)
    if h * w * c > MAX_ELEMENTS:
        raise UnsupportedError(f"input {name!r:.80} has {h * w * c} elements, more than {MAX_ELEMENTS}")
    given = KINDS.get(info.type.tensor_type.elem_type, "float16")
    kind = given if given in CTYPES else "float32"
    y = Tensor(name, h, w, c, kind=kind)
    dense = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    reader.ops.append(Input(label="Input", y=y, index=index, dims=shape, strides=dense, given=given))
    reader.values[name] = Value(y, shape, identity(len(shape)))


def _output(reader: Reader, name: str, index: int) -> tuple[int, ...]:
    node = Node("Output", name, (name,), (), {}, reader.opset)
    if name not in reader.values and name not in reader.constants:
        raise UnsupportedError(f"output {name!r:.80} comes from nowhere")
    value = reader.typed(node, 0)
    x = reader.layouts.ordered(value, identity(len(value.shape))).tensor
    taken = "float16" if name in reader.halves else x.kind
    reader.ops.append(Output(label="Output", x=x, y=Tensor(name, 1, 1, 1, kind=x.kind), index=index, taken=taken))
    return value.shape


def _nodes(
    reader: Reader, protos: Sequence[onnx.NodeProto], handlers: Mapping[str, Handler], model: onnx.ModelProto
) -> None:
    for proto in protos:
        node = node_of(proto, reader.opset)
        for name in node.inputs:
            if name and name not in reader.values and name not in reader.constants:
                raise node.fail(f"input {name!r:.60} comes from nowhere")
        add_node(reader, proto, node, handlers, model)


def node_of(proto: onnx.NodeProto, opset: int) -> Node:
    """Return a node as handlers see it."""
    attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    plain = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    return Node(proto.op_type, proto.name, tuple(proto.input), tuple(proto.output), plain, opset, proto.domain)


def add_node(
    reader: Reader, proto: onnx.NodeProto, node: Node, handlers: Mapping[str, Handler], model: onnx.ModelProto
) -> None:
    """Read one node; every value that it reads is known.

    Raises:
        UnsupportedError: it cannot be generated.
    """
    known = proto.domain in ("", "ai.onnx")
    if known and node.op_type in RANDOM:
        raise node.fail("random numbers")
    if known and node.op_type in ("Shape", "Size") and node.inputs[0] in reader.values:
        shape = reader.shape(node, 0)
        start, end = int(node.attributes.get("start", 0)), int(node.attributes.get("end", len(shape)))
        size = np.array(int(np.prod(shape)), np.int64)
        reader.constants[node.outputs[0]] = size if node.op_type == "Size" else np.array(shape[start:end], np.int64)
    elif known and node.op_type == "If":
        _branch(reader, node, handlers, model)
    elif all(i in reader.constants or i == "" for i in node.inputs):
        try:
            reader.constants |= constants.computed(proto, reader.constants, reader.opset, model)
        except ValueError as error:
            raise node.fail(f"its constants cannot be folded: {error}") from error
    elif known and node.op_type in handlers:
        try:
            handlers[proto.op_type](reader, node)
        except (ValueError, KeyError, IndexError) as error:  # attributes that do not fit the inputs
            raise node.fail(f"its attributes and inputs do not fit: {str(error)[:100]}") from error
    else:
        _inlined(reader, proto, node, handlers, model)


def _branch(reader: Reader, node: Node, handlers: Mapping[str, Handler], model: onnx.ModelProto) -> None:
    """Read the branch that a constant condition chooses in place of the node."""
    graph = node.attributes["then_branch" if reader.constant(node, 0).item() else "else_branch"]
    for initializer in graph.initializer:
        reader.constants[initializer.name] = numpy_helper.to_array(initializer)
    _nodes(reader, graph.node, handlers, model)
    for name, info in zip(node.outputs, graph.output, strict=True):
        _rename(reader, node, info.name, name)


def _rename(reader: Reader, node: Node, old: str, new: str) -> None:
    if old in reader.values:
        reader.values[new] = reader.values[old]
    elif old in reader.constants:
        reader.constants[new] = reader.constants[old]
    elif new:
        raise node.fail(f"output {new!r:.60} is never written")


def _inlined(
    reader: Reader, proto: onnx.NodeProto, node: Node, handlers: Mapping[str, Handler], model: onnx.ModelProto
) -> None:
    """Read what ONNX says that the node is made of."""
    types = []
    for i, name in enumerate(node.inputs):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(reader.kind(node, i))) if name else 0
        types.append(helper.make_tensor_type_proto(kind, reader.shape(node, i)) if name else onnx.TypeProto())
    found = inline.body(proto, reader.opset, types, model, len(reader.values) + len(reader.constants))
    if found is None:
        raise node.fail("this engine has no such operator")
    nodes, names, opset = found
    outside, reader.opset = reader.opset, opset
    try:
        _nodes(reader, nodes, handlers, model)
    except UnsupportedError as error:
        raise node.fail(f"inside it, {error}") from error
    finally:
        reader.opset = outside
    for name, inner in zip(node.outputs, names, strict=False):
        if name:
            _rename(reader, node, inner, name)

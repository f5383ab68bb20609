"""ONNX to the engine's form: one pass over the nodes, each handled by the function that its operator names.

Constants are folded on the way with ONNX Runtime, so that shapes computed in the graph, dequantised
weights and the like never reach the engine. What cannot be generated is named: operator, opset and node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from skerry_compiler.engines.network.graph import Input, Network, Op, Output, Tensor
from skerry_compiler.engines.network.values import Layouts, Value, fold, identity
from skerry_compiler.errors import UnsupportedError

MAX_ELEMENTS = 1 << 28
IR_VERSION = 10
KINDS = {onnx.TensorProto.FLOAT: "float"}


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """An ONNX node with its attributes as plain Python values."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def fail(self, why: str) -> UnsupportedError:
        """Return the error that says what about this node is not supported."""
        name = self.name or (self.outputs or ("",))[0]
        said = f"{self.op_type} (opset {self.opset}) at node {name!r:.120}: {why}"
        return UnsupportedError(said, hint="another engine can run this model")

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
        self.layouts = Layouts(self.ops)

    def constant(self, node: Node, index: int) -> NDArray[Any]:
        """Return an input that must be a constant."""
        name = node.inputs[index]
        if name not in self.constants:
            raise node.fail(f"input {index} ({name!r:.60}) must be a constant")
        return self.constants[name]

    def value(self, node: Node, index: int) -> Value:
        """Return an input as a value; a constant becomes an error."""
        name = node.inputs[index]
        if name not in self.values:
            raise node.fail(
                f"input {index} ({name!r:.60}) is a constant or missing, which this engine does not take here"
            )
        return self.values[name]

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
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    reader = Reader(opset)
    for initializer in model.graph.initializer:
        reader.constants[initializer.name] = numpy_helper.to_array(initializer)
    inputs = [i for i in model.graph.input if i.name not in reader.constants]
    named = [(i.name, _shape(i, shapes or {})) for i in inputs]
    for index, (info, (name, shape)) in enumerate(zip(inputs, named, strict=True)):
        _input(reader, info, index, name, shape)
    for proto in model.graph.node:
        _node(reader, proto, handlers, model)
    outputs = []
    for index, info in enumerate(model.graph.output):
        outputs.append((info.name, _output(reader, info.name, index)))
    return Network(reader.ops, named, outputs)


def load(path: Path) -> onnx.ModelProto:
    """Return the model of a file."""
    return onnx.load(str(path))


def _shape(info: onnx.ValueInfoProto, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    if info.name in shapes:
        return tuple(shapes[info.name])
    if info.type.tensor_type.elem_type not in KINDS:
        kind = onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type)
        raise UnsupportedError(f"input {info.name!r:.80} is {kind}; this engine takes FLOAT inputs")
    dims = [d.dim_value if d.HasField("dim_value") else 0 for d in info.type.tensor_type.shape.dim]
    dims = [1 if i == 0 and d <= 0 else d for i, d in enumerate(dims)]
    if any(d <= 0 for d in dims):
        raise UnsupportedError(f"input {info.name!r:.80} has no fixed shape: {dims}", hint="give its shape")
    return tuple(dims)


def _input(reader: Reader, info: onnx.ValueInfoProto, index: int, name: str, shape: tuple[int, ...]) -> None:
    h, w, c = fold(shape)
    if h * w * c > MAX_ELEMENTS:
        raise UnsupportedError(f"input {name!r:.80} has {h * w * c} elements, more than {MAX_ELEMENTS}")
    y = Tensor(name, h, w, c)
    dense = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    reader.ops.append(Input(label="Input", y=y, index=index, dims=shape, strides=dense))
    reader.values[name] = Value(y, shape, identity(len(shape)))


def _output(reader: Reader, name: str, index: int) -> tuple[int, ...]:
    if name not in reader.values:
        raise UnsupportedError(f"output {name!r:.80} is a constant", hint="another engine can run this model")
    value = reader.values[name]
    x = reader.layouts.ordered(value, identity(len(value.shape))).tensor
    reader.ops.append(Output(label="Output", x=x, y=Tensor(name, 1, 1, 1), index=index))
    return value.shape


def _node(reader: Reader, proto: onnx.NodeProto, handlers: Mapping[str, Handler], model: onnx.ModelProto) -> None:
    attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    plain = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    node = Node(proto.op_type, proto.name, tuple(proto.input), tuple(proto.output), plain, reader.opset)
    if proto.op_type == "Shape" and node.inputs[0] in reader.values:
        shape = reader.shape(node, 0)
        start, end = int(node.attributes.get("start", 0)), int(node.attributes.get("end", len(shape)))
        reader.constants[node.outputs[0]] = np.array(shape[start:end], np.int64)
        return
    if all(i in reader.constants or i == "" for i in node.inputs):
        _fold(reader, proto, node, model)
        return
    if proto.domain not in ("", "ai.onnx") or proto.op_type not in handlers:
        raise node.fail("this engine has no such operator")
    for name in node.inputs:
        if name and name not in reader.values and name not in reader.constants:
            raise node.fail(f"input {name!r:.60} comes from nowhere")
    handlers[proto.op_type](reader, node)


def _fold(reader: Reader, proto: onnx.NodeProto, node: Node, model: onnx.ModelProto) -> None:
    """Compute a node of constants now."""
    if node.op_type == "Constant" and "value" in node.attributes:
        reader.constants[node.outputs[0]] = numpy_helper.to_array(node.attributes["value"])
        return
    names = list(dict.fromkeys(n for n in node.inputs if n))
    kinds = [helper.np_dtype_to_tensor_dtype(reader.constants[n].dtype) for n in names]
    outputs = [n for n in node.outputs if n]
    graph = helper.make_graph(
        [proto],
        "constant",
        [helper.make_tensor_value_info(n, k, reader.constants[n].shape) for n, k in zip(names, kinds, strict=True)],
        [helper.make_value_info(n, onnx.TypeProto()) for n in outputs],
    )
    one = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=min(model.ir_version, IR_VERSION))
    try:
        session = ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
        results = session.run(None, {n: reader.constants[n] for n in names})
    except (RuntimeError, TypeError, ValueError, ort_errors.Fail, ort_errors.InvalidGraph, ort_errors.NotImplemented,
            ort_errors.InvalidArgument) as error:  # fmt: skip
        raise node.fail(f"its constants cannot be folded: {str(error)[:200]}") from error
    for name, result in zip(outputs, results, strict=True):
        reader.constants[name] = np.asarray(result)

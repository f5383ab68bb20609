"""What passes ask of a graph while they look for patterns: who makes a value, who reads it, which number it is.

A pattern is rewritten at its last node, which changes its kind and inputs in place; what only fed it is dead code
afterwards. So nothing is reordered, and a value that others read as well stays.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from skerry_compiler import graph as graphs

MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators


class View:
    """The top graph of a model as it was when the view was made; rewriting a node in place keeps it true enough."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.model = model
        self.opset = opset(model)
        self.made = {name: node for node in graph.node for name in node.output if name}
        self.stored: dict[str, TensorProto] = {each.name: each for each in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.types = graphs.values(graph)
        self.read: Counter[str] = Counter(value.name for value in graph.output)
        self.readers: defaultdict[str, list[NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                if name:
                    self.read[name] += 1
                    self.readers[name].append(node)
        for inner in graphs.walk(graph):
            if inner is not graph:  # a graph inside a node may read any value of this one
                self.read.update(name for node in inner.node for name in node.input if name)
                self.read.update(value.name for value in inner.output)
        self._arrays: dict[str, NDArray[Any]] = {}

    def maker(self, name: str, *kinds: str) -> NodeProto | None:
        """Return the standard node of one of these kinds that makes a value, or None."""
        node = self.made.get(name)
        return node if node is not None and node.op_type in kinds and node.domain in ("", "ai.onnx") else None

    def alone(self, name: str) -> bool:
        """Whether a value is read exactly once and is no output."""
        return self.read[name] == 1 and name not in self.outputs

    def array(self, name: str) -> NDArray[Any] | None:
        """Return a constant, or None for what is computed."""
        if name not in self.stored:
            return None
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self.stored[name])
        return self._arrays[name]

    def number(self, name: str) -> float | None:
        """Return a constant of one real element, or None."""
        stored = self.stored.get(name)
        if stored is None or int(np.prod(stored.dims)) != 1 or stored.data_type not in _REAL:
            return None
        content = self.array(name)
        return None if content is None else float(content.reshape(-1)[0])

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the fixed shape of a value, or None."""
        if name in self.stored:
            return tuple(self.stored[name].dims)
        value = self.types.get(name)
        return None if value is None else graphs.static_shape(value)

    def alike(self, *names: str) -> bool:
        """Whether values are known to have one fixed shape."""
        shapes = {self.shape(name) for name in names}
        return len(shapes) == 1 and None not in shapes

    def is_float(self, name: str) -> bool:
        """Whether a value is known to be float32."""
        value = self.types.get(name)
        return value is not None and value.type.tensor_type.elem_type == TensorProto.FLOAT

    def axes(self, node: NodeProto, place: int = 1) -> list[int] | None:
        """Return a node's axes, whether an attribute or a constant input says them; None: all, or not known."""
        if len(node.input) > place and node.input[place]:
            content = self.array(node.input[place])
            return None if content is None else [int(each) for each in content.reshape(-1)]
        return [int(each) for each in graphs.attributes(node).get("axes", [])] or None


_REAL = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def opset(model: ModelProto) -> int:
    """Return the version of the standard operators that a model asks for."""
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)


def other(node: NodeProto, name: str) -> str | None:
    """Return the other operand of a node of two, one of which is `name`."""
    if len(node.input) != 2 or name not in node.input:
        return None
    return str(node.input[1] if node.input[0] == name else node.input[0])


def become(node: NodeProto, kind: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> None:
    """Turn a node into another that makes the same value."""
    made = helper.make_node(kind, inputs, list(node.output[:1]), name=node.name, domain=domain, **attributes)
    node.CopyFrom(made)


def insert(model: ModelProto, before: NodeProto, nodes: Iterable[NodeProto]) -> None:
    """Put nodes in front of one."""
    place = next(index for index, node in enumerate(model.graph.node) if node.output[:1] == before.output[:1])
    for offset, node in enumerate(nodes):
        model.graph.node.insert(place + offset, node)


def use_microsoft(model: ModelProto) -> None:
    """Say that a model uses ONNX Runtime's own operators."""
    if all(each.domain != MICROSOFT for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def product(view: View, name: str, most: int = 8) -> tuple[float, list[str]]:
    """Return a value as a number times factors: multiplications and divisions by numbers are taken apart as far as
    nobody else reads what is between them.
    """
    factor, open_ = 1.0, [(name, True)]
    found: list[str] = []
    while open_:
        each, free = open_.pop()
        node = view.maker(each, "Mul", "Div") if free and len(open_) + len(found) < most else None
        if node is None:
            number = view.number(each)
            if number is None:
                found.append(each)
            else:
                factor *= number
        elif node.op_type == "Mul":
            open_ += [(operand, view.alone(operand)) for operand in node.input]
        else:
            divisor = view.number(node.input[1])
            if divisor:
                factor /= divisor
                open_.append((node.input[0], view.alone(node.input[0])))
            else:
                found.append(each)
    return factor, sorted(found)


def close(one: float | None, two: float, tolerance: float = 1e-5) -> bool:
    """Whether a number is another but for how exporters round it."""
    return one is not None and abs(one - two) <= tolerance * max(1.0, abs(two))

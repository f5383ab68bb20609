"""ONNX to TFLite, float: what the operators' conversions share, and the file.

ONNX keeps images as [n, c, h, w], TFLite computes on [n, h, w, c]. A value of four axes may be known in both layouts
and is transposed only where an operator needs the one that is not there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.tflite import schema
from skerry_compiler.tflite.builder import CONTENT_ALIGNMENT, Record, serialise

Array = NDArray[Any]
AS_IS, ROWS = "as is", "rows"  # ONNX's own order; [n, h, w, c]
TO_ROWS, TO_PLANES = (0, 2, 3, 1), (0, 3, 1, 2)
MAX_FILE_BYTES = (1 << 31) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """An ONNX node with its attributes as plain Python values."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def fail(self, why: str) -> UnsupportedError:
        """Return the error that says what about the node has no form in TFLite."""
        return UnsupportedError(f"{self.kind} at node {self.name or self.outputs[0]!r:.80}: {why}")

    def given(self, place: int) -> bool:
        """Whether an optional input is there."""
        return place < len(self.inputs) and self.inputs[place] != ""


@dataclasses.dataclass(slots=True)
class Writer:
    """The TFLite graph so far. `tensors` holds the index of each ONNX value by layout."""

    constants: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    tensors: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    records: list[Record] = dataclasses.field(default_factory=list)
    buffers: list[Record] = dataclasses.field(default_factory=lambda: [Record()])
    operators: list[Record] = dataclasses.field(default_factory=list)
    codes: dict[str, int] = dataclasses.field(default_factory=dict)
    sizes: list[tuple[int, ...]] = dataclasses.field(default_factory=list)

    def tensor(self, name: str, shape: Sequence[int], kind: Any = np.float32, content: Array | None = None) -> int:
        """Add a tensor; returns its index."""
        buffer = 0
        if content is not None:
            buffer = len(self.buffers)
            raw = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
            self.buffers.append(Record().numbers(0, raw, CONTENT_ALIGNMENT))
        record = Record().numbers(0, np.array(shape, np.int32)).number(1, "b", schema.TYPE_CODES[np.dtype(kind).type])
        self.records.append(record.number(2, "I", buffer).text(3, name))
        self.sizes.append(tuple(shape))
        return len(self.records) - 1

    def store(self, content: Array, name: str) -> int:
        """Add a constant tensor."""
        return self.tensor(name, content.shape, content.dtype, content)

    def emit(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: Record | None = None, version: int = 1
    ) -> None:
        """Append an operator."""
        self.codes.setdefault(kind, version)
        record = Record().number(0, "I", list(self.codes).index(kind))
        record.numbers(1, np.array(inputs, np.int32)).numbers(2, np.array(outputs, np.int32))
        if kind in schema.OPTIONS:
            record.number(3, "B", schema.OPTIONS[kind]).record(4, options or Record())
        self.operators.append(record)

    def constant(self, node: Node, place: int) -> Array:
        """Return an input that must be a constant.

        Raises:
            UnsupportedError: it is computed.
        """
        if not node.given(place) or node.inputs[place] not in self.constants:
            raise node.fail(f"input {place} must be a constant")
        return self.constants[node.inputs[place]]

    def moving(self, node: Node, place: int = 0) -> str:
        """Return an input's name, which must be computed."""
        if node.inputs[place] in self.constants:
            raise node.fail(f"input {place} is a constant")
        return node.inputs[place]

    def layout(self, node: Node) -> str:
        """Return the layout in which an operator that knows none computes: where its inputs are."""
        names = [each for each in node.inputs if each and each not in self.constants]
        if any(len(self.shapes[each]) != 4 for each in (*names, *node.outputs)):
            return AS_IS
        return ROWS if any((each, ROWS) in self.tensors for each in names) else AS_IS

    def get(self, name: str, layout: str = AS_IS) -> int:
        """Return the tensor that holds a value in a layout; makes it where it is not there yet."""
        key = (name, layout)
        if key not in self.tensors:
            if name in self.constants:
                content = self.constants[name]
                moved = content.transpose(TO_ROWS) if layout == ROWS and content.ndim == 4 else content
                self.tensors[key] = self.store(moved, name)
            else:
                order, other = (TO_ROWS, AS_IS) if layout == ROWS else (TO_PLANES, ROWS)
                source = self.tensors[(name, other)]
                self.tensors[key] = self.transposed(source, order, f"{name} {layout}")
        return self.tensors[key]

    def transposed(self, source: int, order: Sequence[int], name: str) -> int:
        """Append a transposition; where it moves nothing, a reshape."""
        shape = [self.sizes[source][each] for each in order]
        target = self.tensor(name, shape)
        wide = [each for each in order if self.sizes[source][each] != 1]
        if wide == sorted(wide):
            self.emit("RESHAPE", [source, self.store(np.array(shape, np.int32), f"{name} shape")], [target])
        else:
            self.emit("TRANSPOSE", [source, self.store(np.array(order, np.int32), f"{name} order")], [target])
        return target

    def give(self, name: str, layout: str = AS_IS) -> int:
        """Add the tensor that an operator writes."""
        shape = self.shapes[name]
        ordered = [shape[each] for each in TO_ROWS] if layout == ROWS else shape
        self.tensors[(name, layout)] = self.tensor(name if layout == AS_IS else f"{name} {layout}", ordered)
        return self.tensors[(name, layout)]

    def between(self, shape: Sequence[int], name: str) -> int:
        """Add a tensor between two operators of one node."""
        return self.tensor(name, shape)

    def file(self, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        """Return the file.

        Raises:
            UnsupportedError: it would be too large.
        """
        ends = [np.array([self.get(each) for each in names], np.int32) for names in (inputs, outputs)]
        graph = Record().records(0, self.records).numbers(1, ends[0]).numbers(2, ends[1])
        graph.records(3, self.operators).text(4, "main")
        codes = [_code(kind, version) for kind, version in self.codes.items()]
        root = Record().number(0, "I", schema.VERSION).records(1, codes).records(2, [graph]).records(4, self.buffers)
        content = serialise(root, schema.IDENTIFIER)
        if len(content) > MAX_FILE_BYTES:
            raise UnsupportedError(f"{len(content)} bytes, TFLite allows {MAX_FILE_BYTES}")
        return content


def _code(kind: str, version: int) -> Record:
    code = schema.OPERATOR_CODES[kind]
    return Record().number(0, "b", min(code, 127)).number(2, "i", version).number(3, "i", code)

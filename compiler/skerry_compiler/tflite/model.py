"""A TFLite file as plain records. Only the first subgraph is read: what calls others has no form in ONNX."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.errors import LimitError, ModelError, UnsupportedError
from skerry_compiler.tflite import flatbuffer, schema
from skerry_compiler.tflite.flatbuffer import Table

MAX_TENSORS = 100_000
MAX_OPERATORS = 100_000
MAX_OPERANDS = 1_000_000
MAX_RANK = 8
MAX_ELEMENTS = 1 << 31
MAX_CHANNELS = 1 << 20
_NO_OPTIONS = Table(b"\x08\x00\x00\x00\x04\x00\x04\x00\x04\x00\x00\x00", 8)


@dataclasses.dataclass(frozen=True, slots=True)
class Quantisation:
    """How integers stand for numbers: real = scale * (integer - zero point), one pair or one a channel of `axis`."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int

    @property
    def per_tensor(self) -> bool:
        """Whether one pair holds for the whole tensor."""
        return len(self.scale) == 1


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor; `content` where it is constant. Shapes as the file has them (images are [n, h, w, c])."""

    name: str
    shape: tuple[int, ...]
    kind: type[np.generic]
    content: NDArray[Any] | None
    quantisation: Quantisation | None


@dataclasses.dataclass(frozen=True, slots=True)
class Operator:
    """A node: what it is, the tensors it reads (-1: left out) and writes, and its options table."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """The first subgraph of a file."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read(content: bytes, name: str) -> Model:
    """Return the model in a file's bytes.

    Raises:
        ModelError: not TFLite, cut short, or offsets and indices that lead nowhere.
        UnsupportedError: tensors of text or other kinds that are no numbers.
        LimitError: absurd sizes.
    """
    if content[4:8] != schema.IDENTIFIER:
        raise ModelError(f"{name} is not a TFLite model: it does not say TFL3", hint="convert it again")
    root = flatbuffer.root(content)
    subgraphs = root.tables(2, 1024, "subgraphs")
    if not subgraphs:
        raise ModelError(f"{name} has no graph", hint="convert it again")
    codes = [_code(each) for each in root.tables(1, 4096, "operator codes")]
    buffers = root.tables(4, MAX_TENSORS, "buffers")
    graph = subgraphs[0]
    tensors = tuple(_tensor(each, buffers, content) for each in graph.tables(0, MAX_TENSORS, "tensors"))
    operators = tuple(
        _operator(index, each, codes, len(tensors))
        for index, each in enumerate(graph.tables(3, MAX_OPERATORS, "operators"))
    )
    if sum(len(each.inputs) + len(each.outputs) for each in operators) > MAX_OPERANDS:
        raise LimitError(f"more than {MAX_OPERANDS} operands", hint="is the file what it should be?")
    inputs, outputs = (_indices(graph, slot, len(tensors), 0) for slot in (1, 2))
    if not outputs:
        raise ModelError(f"{name} has no outputs", hint="convert it again")
    model = Model(tensors, operators, inputs, outputs)
    _check_order(model)
    return model


def _code(table: Table) -> str:
    code = max(table.integer(0, 0, "b"), table.integer(3, 0))
    if code == schema.OPERATOR_CODES["CUSTOM"]:
        return f"CUSTOM:{table.text(1)}"
    return schema.OPERATORS.get(code, f"operator {code}")


def _tensor(table: Table, buffers: list[Table], content: bytes) -> Tensor:
    name = table.text(3)
    code = table.integer(1, 0, "b")
    if code not in schema.TYPES:
        said = schema.TYPE_NAMES.get(code, f"type {code}")
        raise UnsupportedError(f"tensor {name!r:.80} is {said}, which cannot be served")
    kind = schema.TYPES[code]
    shape = tuple(int(each) for each in table.numbers(0, np.int32, MAX_RANK, f"extents of tensor {name!r:.60}"))
    if any(extent < 0 for extent in shape):
        raise ModelError(f"tensor {name!r:.80} has the shape {list(shape)}", hint="convert it with a fixed shape")
    elements = 1
    for extent in shape:
        elements *= extent
    if elements > MAX_ELEMENTS:
        raise LimitError(f"tensor {name!r:.80} has {elements} elements, more than {MAX_ELEMENTS}")
    index = table.integer(2, 0, "I")
    if index >= len(buffers):
        raise flatbuffer.damaged(f"tensor {name!r:.60} names buffer {index} of {len(buffers)}")
    held = _content(buffers[index], content, name)
    if held is not None and table.table(6) is not None:
        raise UnsupportedError(f"tensor {name!r:.80} is stored sparsely", hint="convert the model without sparsity")
    array = None
    if held is not None:
        if len(held) != elements * np.dtype(kind).itemsize:
            raise flatbuffer.damaged(f"tensor {name!r:.60} of shape {list(shape)} has {len(held)} bytes")
        array = held.view(kind).reshape(shape)
    return Tensor(name, shape, kind, array, _quantisation(table.table(4), shape, name))


def _content(buffer: Table, content: bytes, name: str) -> NDArray[np.uint8] | None:
    """Return a buffer's bytes: inside its table, or behind the tables where a large file keeps them."""
    offset, size = int(buffer.number(1, "Q")), int(buffer.number(2, "Q"))
    if offset > 1 and size:
        if offset + size > len(content):
            raise flatbuffer.damaged(f"tensor {name!r:.60} lies behind the end of the file")
        return np.frombuffer(content, np.uint8, size, offset)
    held = buffer.numbers(0, np.uint8, len(content), "bytes")
    return held if held.size else None


def _quantisation(table: Table | None, shape: tuple[int, ...], name: str) -> Quantisation | None:
    if table is None:
        return None
    what = f"scales of tensor {name!r:.60}"
    scale = table.numbers(2, np.float32, MAX_CHANNELS, what)
    zero_point = table.numbers(3, np.int64, MAX_CHANNELS, what)
    if not scale.size:
        if table.integer(4, 0, "B"):
            raise UnsupportedError(f"tensor {name!r:.80} is quantised in a way of its own")
        return None
    axis = table.integer(6)
    if zero_point.size not in (0, 1, scale.size):
        raise flatbuffer.damaged(f"tensor {name!r:.60} has {scale.size} scales and {zero_point.size} zero points")
    if scale.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size):
        raise flatbuffer.damaged(f"tensor {name!r:.60} of shape {list(shape)} has {scale.size} scales")
    if not np.all(np.isfinite(scale)) or np.any(scale < 0):
        raise ModelError(f"tensor {name!r:.80} has a scale that is no positive number", hint="convert it again")
    points = np.zeros(scale.size, np.int64) if not zero_point.size else np.resize(zero_point, scale.size)
    return Quantisation(scale, points, axis)


def _operator(index: int, table: Table, codes: list[str], tensors: int) -> Operator:
    code = table.integer(0, 0, "I")
    if code >= len(codes):
        raise flatbuffer.damaged(f"node {index} names operator code {code} of {len(codes)}")
    inputs, outputs = _indices(table, 1, tensors, -1), _indices(table, 2, tensors, 0)
    return Operator(index, codes[code], inputs, outputs, table.table(4) or _NO_OPTIONS)


def _indices(table: Table, slot: int, tensors: int, least: int) -> tuple[int, ...]:
    found = tuple(int(each) for each in table.numbers(slot, np.int32, MAX_OPERANDS, "tensor indices"))
    wrong = [each for each in found if not least <= each < tensors]
    if wrong:
        raise flatbuffer.damaged(f"tensor {wrong[0]} of {tensors} is named")
    return found


def _check_order(model: Model) -> None:
    """Refuse nodes that read what nothing made before them, and tensors that are made twice."""
    made = set(model.inputs) | {index for index, each in enumerate(model.tensors) if each.content is not None}
    for operator in model.operators:
        for index in operator.inputs:
            if index >= 0 and index not in made:
                name = model.tensors[index].name
                raise ModelError(f"node {operator.index} ({operator.name}) reads {name!r:.80}, which nothing makes")
        for index in operator.outputs:
            if index in made:
                raise ModelError(
                    f"node {operator.index} ({operator.name}) makes {model.tensors[index].name!r:.80} again"
                )
            made.add(index)
    for index in model.outputs:
        if index not in made:
            raise ModelError(f"the output {model.tensors[index].name!r:.80} is made by nothing")

"""TFLite to ONNX: what the operators' conversions share.

TFLite keeps images as [n, h, w, c], ONNX computes on [n, c, h, w]. So every tensor may be known in two layouts, ROWS
(as the file has it) and PLANES, and is transposed only where an operator needs the one that is not there: chains of
convolutions stay in planes.

A quantised tensor becomes QuantizeLinear, DequantizeLinear with the file's own scale. Signed activations are shifted to
unsigned ones (integer and zero point by 128, which is exact), for that is what processors multiply fastest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from skerry_compiler.errors import UnsupportedError
from skerry_compiler.tflite import schema
from skerry_compiler.tflite.model import Model, Operator, Quantisation, Tensor

ROWS, PLANES = "rows", "planes"
TO_PLANES, TO_ROWS = (0, 3, 1, 2), (0, 2, 3, 1)
SHIFT = 128  # from signed to unsigned bytes
Array = NDArray[Any]


@dataclasses.dataclass(slots=True)
class Converter:
    """The ONNX graph so far. `values` holds the real numbers of each tensor by layout."""

    model: Model
    nodes: list[NodeProto] = dataclasses.field(default_factory=list)
    initializers: list[TensorProto] = dataclasses.field(default_factory=list)
    values: dict[tuple[int, str], str] = dataclasses.field(default_factory=dict)
    folded: dict[int, Array] = dataclasses.field(default_factory=dict)
    names: set[str] = dataclasses.field(default_factory=set)

    def tensor(self, index: int) -> Tensor:
        """Return a tensor of the file."""
        return self.model.tensors[index]

    def shape(self, index: int) -> tuple[int, ...]:
        """Return a tensor's shape as the file has it."""
        return self.model.tensors[index].shape

    def name(self, wanted: str) -> str:
        """Return a name that is not taken yet."""
        found, count = wanted or "value", 0
        while found in self.names:
            count += 1
            found = f"{wanted or 'value'}_{count}"
        self.names.add(found)
        return found

    def emit(self, kind: str, inputs: Sequence[str], near: str, **attributes: Any) -> str:
        """Append a node with one output, named near a tensor; returns the output."""
        output = self.name(near)
        self.node(kind, inputs, [output], **attributes)
        return output

    def node(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Append a node."""
        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), name=outputs[0], **attributes))

    def store(self, content: Array | np.generic, near: str) -> str:
        """Add an initializer; returns its name."""
        name = self.name(near)
        self.initializers.append(numpy_helper.from_array(np.asarray(content, order="C"), name))
        return name

    def is_constant(self, index: int) -> bool:
        """Whether a tensor's content is known now."""
        return index in self.folded or (self.tensor(index).content is not None and (index, ROWS) not in self.values)

    def constant(self, operator: Operator, place: int) -> Array:
        """Return the stored integers or numbers of an operand.

        Raises:
            UnsupportedError: it is computed.
        """
        index = operator.inputs[place] if place < len(operator.inputs) else -1
        if index < 0 or not self.is_constant(index):
            raise refuse(operator, f"input {place} must be a constant")
        return self.stored(index)

    def stored(self, index: int) -> Array:
        """Return the content of a constant tensor as it is stored."""
        if index in self.folded:
            return self.folded[index]
        content = self.tensor(index).content
        assert content is not None
        return content

    def real(self, index: int) -> Array:
        """Return the numbers that a constant tensor stands for."""
        content, tensor = self.stored(index), self.tensor(index)
        if tensor.quantisation is None or index in self.folded or content.dtype.kind == "f":
            return content.astype(np.float32) if content.dtype == np.float16 else content
        return dequantised(content, tensor.quantisation)

    def given(self, operator: Operator, place: int) -> bool:
        """Whether an optional operand is there."""
        return place < len(operator.inputs) and operator.inputs[place] >= 0

    def layout(self, operator: Operator) -> str:
        """Return the layout in which an operator of four axes that knows none computes: where its operands are."""
        if any(len(self.shape(each)) != 4 for each in operator.outputs):
            return ROWS
        moving = [each for each in operator.inputs if each >= 0 and not self.is_constant(each)]
        if any(len(self.shape(each)) != 4 for each in moving):
            return ROWS
        return PLANES if any((each, PLANES) in self.values for each in moving) else ROWS

    def get(self, index: int, layout: str = ROWS) -> str:
        """Return the value that holds a tensor's real numbers in a layout; makes it where it is not there yet."""
        key = (index, layout)
        if key not in self.values:
            if self.is_constant(index):
                self.values[key] = self._constant(index, layout)
            else:
                self.values[key] = self._moved(index, layout)
        return self.values[key]

    def give(self, index: int, value: str, layout: str = ROWS) -> None:
        """Say that a value is what the file calls a tensor; quantised ones are rounded as the file rounds them."""
        tensor = self.tensor(index)
        if tensor.quantisation is not None and tensor.kind in (np.int8, np.uint8):
            value = self.rounded(value, tensor)
        self.values[(index, layout)] = value

    def rounded(self, value: str, tensor: Tensor) -> str:
        """Return a value after it went through a tensor's bytes."""
        assert tensor.quantisation is not None
        if not tensor.quantisation.per_tensor:
            raise UnsupportedError(f"tensor {tensor.name!r:.80} is computed, but has a scale for each channel")
        scale, zero_point = self.scale(tensor)
        integers = self.emit("QuantizeLinear", [value, scale, zero_point], f"{tensor.name}_q")
        return self.emit("DequantizeLinear", [integers, scale, zero_point], f"{tensor.name}_dq")

    def scale(self, tensor: Tensor, *, shifted: bool = True) -> tuple[str, str]:
        """Return the stored scale and zero point of a byte tensor, shifted to unsigned bytes or as they are."""
        assert tensor.quantisation is not None
        point = int(tensor.quantisation.zero_point[0])
        kind: type[np.generic] = tensor.kind
        if shifted and kind is np.int8:
            kind, point = np.uint8, point + SHIFT
        scale = self.store(np.float32(tensor.quantisation.scale[0]), f"{tensor.name}_scale")
        return scale, self.store(np.array(point, kind), f"{tensor.name}_zero_point")

    def weights(self, index: int, array: Array, axis: int, *, integers: bool) -> str:
        """Return stored weights after they were reordered: `array` is their stored content, `axis` where the channels
        of their scales are now. Integers stay integers, to be dequantised in the graph, where `integers` says so.
        """
        tensor = self.tensor(index)
        found = tensor.quantisation
        if found is None or array.dtype.kind == "f":
            return self.store(array.astype(np.float32), tensor.name)
        moved = dataclasses.replace(found, axis=axis)
        if not integers:
            return self.store(dequantised(array, moved), tensor.name)
        return self._dequantised(array, moved, tensor.name)

    def activation(self, value: str, code: int, operator: Operator) -> str:
        """Return a value after an operator's fused activation."""
        kind = schema.ACTIVATIONS.get(code, f"activation {code}")
        near = f"{self.tensor(operator.outputs[0]).name}_{kind.lower()}"
        if kind == "NONE":
            return value
        if kind in ("RELU", "TANH"):
            return self.emit(kind.capitalize(), [value], near)
        if kind in ("RELU6", "RELU_N1_TO_1"):
            return self.clip(value, *((0.0, 6.0) if kind == "RELU6" else (-1.0, 1.0)), near)
        raise refuse(operator, f"the fused activation {kind} has no form here")

    def clip(self, value: str, low: float, high: float, near: str) -> str:
        """Return a value held between two numbers."""
        bounds = [self.store(np.float32(each), f"{near}_bound") for each in (low, high)]
        return self.emit("Clip", [value, *bounds], near)

    def reshaped(self, value: str, shape: Sequence[int], near: str) -> str:
        """Return a value in another shape."""
        return self.emit("Reshape", [value, self.store(np.array(shape, np.int64), f"{near}_shape")], near)

    def _constant(self, index: int, layout: str) -> str:
        tensor, content = self.tensor(index), self.stored(index)
        moves = layout == PLANES and content.ndim == 4
        found = tensor.quantisation if index not in self.folded else None
        content = content.transpose(TO_PLANES) if moves else content
        if found is None or content.dtype.kind == "f" or tensor.kind not in (np.int8, np.uint8):
            real = self.real(index)
            return self.store(real.transpose(TO_PLANES) if moves else real, tensor.name)
        axis = TO_PLANES.index(found.axis) if moves else found.axis
        return self._dequantised(content, dataclasses.replace(found, axis=axis), tensor.name)

    def _dequantised(self, content: Array, found: Quantisation, near: str) -> str:
        single = found.per_tensor
        scale = self.store(found.scale[0] if single else found.scale, f"{near}_scale")
        points = found.zero_point.astype(content.dtype)
        inputs = [self.store(content, near), scale]
        if content.dtype != np.int32:
            inputs.append(self.store(points[0] if single else points, f"{near}_zero_point"))
        attributes = {} if single else {"axis": found.axis}
        return self.emit("DequantizeLinear", inputs, f"{near}_dq", **attributes)

    def _moved(self, index: int, layout: str) -> str:
        """Return a tensor of four axes in the other layout."""
        shape, near = self.shape(index), f"{self.tensor(index).name}_{layout}"
        source = self.values[(index, ROWS if layout == PLANES else PLANES)]
        order = TO_PLANES if layout == PLANES else TO_ROWS
        if shape[3] == 1 or shape[1] * shape[2] == 1:
            target = [shape[each] for each in TO_PLANES] if layout == PLANES else shape
            return self.reshaped(source, target, near)
        return self.emit("Transpose", [source], near, perm=list(order))


def dequantised(content: Array, found: Quantisation) -> Array:
    """Return the numbers that integers stand for, f32 in the integers' shape."""
    extents = [1] * content.ndim
    if not found.per_tensor:
        extents[found.axis] = -1
    scale, points = found.scale.reshape(extents or ()), found.zero_point.reshape(extents or ())
    real: Array = ((content.astype(np.int64) - points) * scale.astype(np.float64)).astype(np.float32)
    return real


def refuse(operator: Operator, why: str) -> UnsupportedError:
    """Return the error that says what about a node has no form in ONNX."""
    return UnsupportedError(
        f"{operator.name} (node {operator.index}): {why}", hint="LiteRT runs what ONNX has no form for"
    )

"""The state that the lowering functions share: values, constants, and the operations made so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto

from skerry_compiler import graph as graphs
from skerry_compiler.data import NUMPY
from skerry_compiler.engines.native import ir
from skerry_contracts.tensor import DType

MAX_CONSTANT_BYTES = 64 << 20


class CannotError(Exception):
    """This node, in this form, is not for the native engine; the text says why."""


class Lowering:
    """The state of one lowering: which values are known, which are constants, which operations were made."""

    def __init__(self, model: ModelProto) -> None:
        self.constants = graphs.constants(model)
        self.types = graphs.values(model.graph)
        self.values: dict[str, ir.Value] = {}
        self.ops: list[ir.Op] = []
        self.made = 0

    def typed(self, name: str) -> ir.Value:
        """Return a value of the ONNX graph as it is declared there.

        Raises:
            CannotError: type or shape is not known or not for this engine.
        """
        found = self.types.get(name)
        shape = None if found is None else graphs.static_shape(found)
        if found is None or shape is None:
            rank = None if found is None else graphs.shape_of(found)
            if rank != ():
                raise CannotError(f"the shape of {name!r:.60} is not known")
            shape = ()
        dtype = graphs.DTYPES.get(found.type.tensor_type.elem_type) if found is not None else None
        if dtype not in ir.C_TYPES:
            raise CannotError(f"the type of {name!r:.60} is not for this engine")
        return ir.Value(name, dtype, shape)

    def value(self, name: str) -> ir.Value:
        """Return a value that an operation reads: computed before, an input, or a constant.

        Raises:
            CannotError: it is none of these.
        """
        if name not in self.values:
            if name not in self.constants:
                raise CannotError(f"value {name!r:.60} is not there")
            content = self.constants[name]
            kind = next((key for key, each in NUMPY.items() if content.dtype == each and key in ir.C_TYPES), None)
            if kind is None or content.nbytes > MAX_CONSTANT_BYTES:
                raise CannotError(f"constant {name!r:.60} is of a type or size that is not for this engine")
            made = ir.Value(name, kind, tuple(content.shape))
            self.add(ir.Constant((), made, content))
        return self.values[name]

    def constant(self, name: str) -> np.ndarray:
        """Return a constant's content.

        Raises:
            CannotError: the value is computed by the model.
        """
        if name not in self.constants:
            raise CannotError(f"{name!r:.60} must be a constant")
        return self.constants[name]

    def fresh(self, like: str, dtype: DType, shape: Sequence[int]) -> ir.Value:
        """Return a new value between two operations of one ONNX node."""
        self.made += 1
        return ir.Value(f"{like}#{self.made}", dtype, tuple(shape))

    def add(self, op: ir.Op) -> ir.Value:
        """Append an operation and return its output."""
        self.ops.append(op)
        self.values[op.output.name] = op.output
        return op.output

    def row(self, node: NodeProto, content: np.ndarray) -> ir.Value:
        """Add a constant that a node of the ONNX graph holds as an attribute and return it."""
        kind = next(key for key, each in NUMPY.items() if content.dtype == each)
        return self.add(ir.Constant((), self.fresh(node.output[0], kind, content.shape), content))

    def out(self, node: NodeProto, dtype: DType, shape: Sequence[int], index: int = 0) -> ir.Value:
        """Return the node's output of this type and shape, which the caller computes."""
        return ir.Value(node.output[index], dtype, tuple(shape))


Lower = Callable[[Lowering, NodeProto, dict[str, Any]], None]

"""No value inside the model is larger than a tensor may be: ninety bytes of a file can ask for gigabytes of memory.

Runs once shapes are fixed, and again once constants are folded, which makes more of them known. What shapes do not
tell, the sandbox's limit of memory stops.
"""

from __future__ import annotations

import math

from onnx import ModelProto, TensorProto, helper

from skerry_compiler import graph as graphs
from skerry_compiler.errors import LimitError
from skerry_contracts.tensor import MAX_TENSOR_BYTES


class BoundedSize:
    """`most_bytes` is what one value may take."""

    name = "bounded-size"

    def __init__(self, most_bytes: int = MAX_TENSOR_BYTES) -> None:
        self.most_bytes = most_bytes

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """Return the model as it is.

        Raises:
            LimitError: a value is larger; names the largest.
        """
        sizes = {name: _bytes(value.type.tensor_type) for name, value in graphs.values(model.graph).items()}
        name = max(sizes, key=lambda each: sizes[each], default="")
        if sizes and sizes[name] > self.most_bytes:
            raise LimitError(
                f"the value {name!r:.80} takes {sizes[name] >> 20} MB, at most {self.most_bytes >> 20}",
                hint="is the input's shape what it should be?",
            )
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Nothing was changed."""
        return None


def _bytes(kind: object) -> int:
    """Return the bytes of a tensor type; 0 where its extents or its elements are not known."""
    extents = [each.dim_value for each in kind.shape.dim]  # type: ignore[attr-defined]  # a message of onnx
    element = kind.elem_type  # type: ignore[attr-defined]  # as above
    if element in (TensorProto.UNDEFINED, TensorProto.STRING) or element not in TensorProto.DataType.values():
        return 0
    size = int(helper.tensor_dtype_to_np_dtype(element).itemsize)
    return size * int(math.prod(max(0, each) for each in extents))

"""Tensors between JSON and bytes, and whether what was given is what a model takes. Little-endian machines only, as the
contracts say.

Shapes are fixed by the bundle's signature (batch included), so every check is an equality.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from skerry_agent.errors import RequestError
from skerry_agent.floats import all_finite
from skerry_contracts.tensor import STRUCT_CODE, DType, Tensor, TensorSpec

FLOATS = (DType.FP16, DType.FP32, DType.FP64)
_WHOLE = frozenset((int,))
_NUMBERS = frozenset((int, float))
_TRUTHS = frozenset((bool,))


def check_inputs(specs: Sequence[TensorSpec], tensors: Sequence[Tensor]) -> list[bytes]:
    """Return the inputs' bytes in the signature's order.

    Raises:
        RequestError: an input is missing, unknown, given twice, or of another type or shape; or its bytes are not here.
    """
    given = {tensor.name: tensor for tensor in tensors}
    if len(given) != len(tensors):
        raise RequestError("an input stands twice")
    unknown = set(given) - {spec.name for spec in specs}
    if unknown:
        raise RequestError(
            f"no input is called {min(unknown)!r:.80}", hint=f"inputs: {', '.join(spec.name for spec in specs)}"
        )
    return [_matching(spec, given.get(spec.name)) for spec in specs]


def _matching(spec: TensorSpec, tensor: Tensor | None) -> bytes:
    if tensor is None:
        raise RequestError(f"the input {spec.name!r:.80} is missing")
    check_form(spec, tensor.dtype, tensor.shape)
    if tensor.data is None:
        raise RequestError(f"the input {spec.name!r:.80} is given by reference, its bytes are needed")
    return tensor.data


def check_form(spec: TensorSpec, dtype: str, shape: Sequence[int]) -> None:
    """Check a tensor's type and shape.

    Raises:
        RequestError: they are not the signature's.
    """
    if dtype != spec.dtype:
        raise RequestError(f"input {spec.name!r:.80} is {dtype!r:.20}, the model takes {spec.dtype.value}")
    if tuple(shape) != spec.shape:
        raise RequestError(f"input {spec.name!r:.80} has shape {list(shape)!s:.80}, the model takes {list(spec.shape)}")


def from_json(spec: TensorSpec, data: Any) -> bytes:
    """Return the bytes of JSON data, nested as the shape says or flat in row-major order.

    Raises:
        RequestError: another number of elements, ragged nesting, or elements that the type does not hold.
    """
    flat = _flat(spec, data)
    kinds = set(map(type, flat))
    allowed = _TRUTHS if spec.dtype is DType.BOOL else _NUMBERS if spec.dtype in FLOATS else _WHOLE
    if not kinds <= allowed:
        wanted = {_TRUTHS: "true or false", _NUMBERS: "numbers", _WHOLE: "whole numbers"}[allowed]
        raise RequestError(f"input {spec.name!r:.80}: {spec.dtype.value} takes {wanted}")
    try:
        packed = struct.pack(f"<{len(flat)}{STRUCT_CODE[spec.dtype]}", *flat)
    except (struct.error, OverflowError) as error:
        raise RequestError(f"input {spec.name!r:.80}: a number does not fit {spec.dtype.value}") from error
    if not all_finite(spec.dtype, memoryview(packed)):
        raise RequestError(f"input {spec.name!r:.80}: a number does not fit {spec.dtype.value}")
    return packed


def _flat(spec: TensorSpec, data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise RequestError(f"input {spec.name!r:.80}: data must be a list")
    if len(data) == spec.elements and not (data and isinstance(data[0], list)):
        return data
    level: list[Any] = [data]
    for extent in spec.shape:
        below: list[Any] = []
        for item in level:
            if not isinstance(item, list) or len(item) != extent:
                raise RequestError(
                    f"input {spec.name!r:.80}: data does not have shape {list(spec.shape)}",
                    hint=f"nest it so, or give {spec.elements} numbers in one list",
                )
            below += item
        level = below
    return level


def to_json(tensor: Tensor) -> list[Any]:
    """Return a tensor's elements as one flat list, row-major.

    Raises:
        RequestError: an element is infinite, which JSON cannot say.
    """
    data = tensor.data or b""
    count = math.prod(tensor.shape)
    numbers = list(struct.unpack(f"<{count}{STRUCT_CODE[tensor.dtype]}", data))
    if not all_finite(tensor.dtype, memoryview(data)):
        raise RequestError(
            f"output {tensor.name!r:.80} holds an infinite number, which JSON cannot say",
            hint="ask for it with binary_data",
        )
    return numbers

"""Buffers on the client's side: tensors as views that numpy takes without a copy, and how they are shared."""

from __future__ import annotations

import dataclasses
import json
import mmap
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from skerry_agent import tensors
from skerry_agent.errors import RequestError
from skerry_contracts.tensor import STRUCT_CODE, DType, TensorSpec

Values = Any  # bytes, arrays or numbers: Python 3.11 has no name for what has the buffer protocol
# memoryview knows no half precision (Python 3.11): its bits, which numpy's view("f2") takes as what they are.
_VIEWS = {**STRUCT_CODE, DType.FP16: "H"}
_KINDS = {code: kind for kind, codes in (("f", "efd"), ("i", "bhilqn"), ("u", "BHILQN"), ("?", "?")) for code in codes}


def buffer(spec: TensorSpec, values: Any) -> bytes | memoryview:
    """Return a tensor's bytes: little-endian bytes or an array of the tensor's own type as it lies, else numbers.

    Raises:
        RequestError: an array of another type, or numbers that are not the tensor's.
    """
    try:
        view = memoryview(values)
    except TypeError:
        if not isinstance(values, Iterable):
            kind = type(values).__name__
            raise RequestError(f"{spec.name!r:.80} is a {kind}", hint="give numbers, an array or bytes") from None
        return tensors.from_json(spec, list(values))
    raw = view.ndim == 1 and view.format in ("B", "b", "c")
    if not raw and not _fits(spec.dtype, view):
        raise RequestError(
            f"{spec.name!r:.80} is an array of {view.format!r} ({view.itemsize} bytes an element), the model takes "
            f"{spec.dtype.value}",
            hint="convert it first; nothing is converted silently",
        )
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()


def _fits(dtype: DType, view: memoryview) -> bool:
    code, said = STRUCT_CODE[dtype], view.format.lstrip("@=<")
    return _KINDS.get(said) == _KINDS[code] and view.itemsize == struct.calcsize(f"<{code}")


def typed(spec: TensorSpec, data: memoryview) -> memoryview:
    """Return bytes as a view of the tensor's type and shape (half precision: its bits as 16-bit numbers)."""
    code: Any = _VIEWS[spec.dtype]
    return data.cast("B").cast(code, list(spec.shape)) if data.nbytes else data


@dataclasses.dataclass(frozen=True, slots=True)
class SharedInference:
    """An answer whose outputs lie in the frame."""

    prediction_id: str
    model_version: str


class Asked(NamedTuple):
    """What is asked of an inference besides its tensors: see `LocalClient.infer`."""

    sample: bool = True
    id: str | None = None
    capture: str | None = None


class Way(Protocol):
    """How a frame's tensors get to the agent: client_fast.Fast, or client_shared.Registered."""

    memory: mmap.mmap

    def infer(self, asked: Asked) -> SharedInference:
        """Let the model answer what is in the memory. Raises RequestError; OSError: this way is closed for now."""

    def close(self) -> None:
        """Take the memory from the agent; views that are still in use stay valid."""


_to_json = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps with settings makes one with every call


def head(document: Any) -> bytes:
    """Return a document as a request's JSON."""
    return _to_json(document).encode()

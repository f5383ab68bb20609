"""The client's side of shared memory, and of buffers in general: tensors as views that numpy takes without a copy."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import mmap
import os
import secrets
import stat
import struct
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, Self

from skerry_agent import shm, tensors
from skerry_agent.errors import RequestError
from skerry_contracts.tensor import STRUCT_CODE, DType, TensorSpec

Values = Any  # bytes, arrays or numbers: Python 3.11 has no name for what has the buffer protocol
FOLDER = Path("/dev/shm")
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


class Talker(Protocol):
    """What a frame needs of a client."""

    def post(self, path: str, document: Any = None) -> Any:
        """Return the answer to a JSON document."""

    def socket_gid(self) -> int | None:
        """Return the group of the agent's socket."""


@dataclasses.dataclass(frozen=True, slots=True)
class SharedInference:
    """An answer whose outputs lie in the frame."""

    prediction_id: str
    model_version: str


class Frame:
    """Memory for one model's inputs and outputs, shared with the agent. Made by `LocalClient.share`.

    `inputs` and `outputs` are views by name, of the tensors' types and shapes; `numpy.asarray` takes them without a
    copy. What is in `outputs` stays until the next `infer`.
    """

    def __init__(
        self, client: Talker, model: str, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> None:
        self._client, self._model, self._specs = client, model, dict(inputs)
        specs = [*inputs.values(), *outputs.values()]
        starts, self._size = shm.offsets([spec.size_bytes for spec in specs])
        self._name = f"skerry-{os.getpid()}-{secrets.token_hex(8)}"
        self._path = FOLDER / self._name
        self._map = _create(self._path, self._size, client.socket_gid())
        self._unlink = weakref.finalize(self, _unlink, self._path)
        whole = memoryview(self._map)
        views = [typed(spec, whole[start : start + spec.size_bytes]) for spec, start in zip(specs, starts, strict=True)]
        self.inputs: Mapping[str, memoryview] = MappingProxyType(dict(zip(inputs, views, strict=False)))
        self.outputs: Mapping[str, memoryview] = MappingProxyType(dict(zip(outputs, views[len(inputs) :], strict=True)))
        places = [self._place(spec, start) for spec, start in zip(specs, starts, strict=True)]
        self._document = {"inputs": places[: len(inputs)], "outputs": places[len(inputs) :]}
        try:
            self._register()
        except BaseException:
            self._unlink()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, name: str, values: Values) -> None:
        """Put an input there: bytes, an array of its type, or numbers.

        Raises:
            RequestError: no such input, or values that are not its own.
        """
        if name not in self._specs:
            raise RequestError(f"no input is called {name!r:.80}", hint=f"inputs: {', '.join(self._specs)}")
        spec = self._specs[name]
        data = buffer(spec, values)
        if len(data) != spec.size_bytes:
            raise RequestError(f"input {name!r:.80} takes {spec.size_bytes} bytes, {len(data)} were given")
        if data:
            self.inputs[name].cast("B")[:] = data

    def infer(self, *, sample: bool = True, id: str | None = None, capture: str | None = None) -> SharedInference:
        """Let the model answer what is in `inputs`; the answer is in `outputs` when this returns.

        An agent that was started anew is told of the memory again.

        Raises:
            RequestError: the agent refuses (its status), or cannot be reached (503).
        """
        document: dict[str, Any] = {**self._document, "parameters": {"sample": sample}}
        if id is not None:
            document["id"] = id
        if capture is not None:
            document["parameters"]["capture"] = capture
        path = f"/v2/models/{self._model}/infer"
        try:
            answer = self._client.post(path, document)
        except RequestError as error:
            if error.status != 404 or "no region" not in str(error):
                raise
            self._register()
            answer = self._client.post(path, document)
        return SharedInference(answer["parameters"]["prediction_id"], answer["model_version"])

    def close(self) -> None:
        """Take the memory from the agent and out of /dev/shm; views that are still in use stay valid."""
        with contextlib.suppress(RequestError):
            self._client.post(f"/v2/systemsharedmemory/region/{self._name}/unregister")
        self._unlink()

    def _place(self, spec: TensorSpec, start: int) -> dict[str, Any]:
        where = {
            "shared_memory_region": self._name,
            "shared_memory_byte_size": spec.size_bytes,
            "shared_memory_offset": start,
        }
        return {"name": spec.name, "datatype": spec.dtype.value, "shape": list(spec.shape), "parameters": where}

    def _register(self) -> None:
        document = {"key": f"/{self._name}", "offset": 0, "byte_size": self._size}
        self._client.post(f"/v2/systemsharedmemory/region/{self._name}/register", document)


def _create(path: Path, size_bytes: int, gid: int | None) -> mmap.mmap:
    """Return new memory that the agent's group may read and write.

    Raises:
        RequestError: there is none, 503.
    """
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RequestError(f"no shared memory at {path}: {error.strerror}", status=503) from error
    try:
        if gid is not None and os.fstat(fd).st_gid != gid:
            with contextlib.suppress(PermissionError):  # then only an agent of this user can open it
                os.fchown(fd, -1, gid)
        if os.fstat(fd).st_gid == gid:
            os.fchmod(fd, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP)
        os.posix_fallocate(fd, 0, size_bytes)  # now: a full /dev/shm must be an error here, not a SIGBUS later
        return mmap.mmap(fd, size_bytes)
    except OSError as error:
        _unlink(path)
        raise RequestError(f"no shared memory at {path}: {error.strerror}", status=503) from error
    finally:
        os.close(fd)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def head(document: Any) -> bytes:
    """Return a document as a request's JSON."""
    return json.dumps(document, separators=(",", ":")).encode()

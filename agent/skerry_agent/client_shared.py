"""A frame's memory as a file of /dev/shm that is registered over HTTP: for an agent without a fast channel, or by its
port.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import stat
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from skerry_agent import shm
from skerry_agent.client_memory import Asked, SharedInference
from skerry_agent.errors import RequestError
from skerry_contracts.tensor import TensorSpec

FOLDER = Path("/dev/shm")


class Talker(Protocol):
    """What this needs of a client."""

    def post(self, path: str, document: Any = None) -> Any:
        """Return the answer to a JSON document."""

    def socket_gid(self) -> int | None:
        """Return the group of the agent's socket."""


class Registered:
    """Memory that the agent reads and writes by its name."""

    def __init__(
        self, client: Talker, model: str, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> None:
        """Make the memory and register it.

        Raises:
            RequestError: the agent refuses (its status), cannot be reached (503), or there is no memory (503).
        """
        self._client, self._path = client, f"/v2/models/{quote(model, '')}/infer"
        self._name = f"skerry-{os.getpid()}-{secrets.token_hex(8)}"
        specs = [*inputs.values(), *outputs.values()]
        starts, self._size = shm.offsets([spec.size_bytes for spec in specs])
        self.memory = _create(FOLDER / self._name, self._size, client.socket_gid())
        self._unlink = weakref.finalize(self, _unlink, FOLDER / self._name)
        places = [self._place(spec, start) for spec, start in zip(specs, starts, strict=True)]
        self._document = {"inputs": places[: len(inputs)], "outputs": places[len(inputs) :]}
        try:
            self._register()
        except BaseException:
            self._unlink()
            raise

    def infer(self, asked: Asked) -> SharedInference:
        """See client_memory.Way. An agent that was started anew is told of the memory again."""
        document: dict[str, Any] = {**self._document, "parameters": {"sample": asked.sample}}
        if asked.id is not None:
            document["id"] = asked.id
        if asked.capture is not None:
            document["parameters"]["capture"] = asked.capture
        try:
            answer = self._client.post(self._path, document)
        except RequestError as error:
            if error.status != 404 or "no region" not in str(error):
                raise
            self._register()
            answer = self._client.post(self._path, document)
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

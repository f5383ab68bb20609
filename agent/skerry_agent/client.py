"""A client of the local API for programs on the device: standard library only, binary tensors, one connection kept
open.

    with LocalClient(Path("/var/lib/skerry/run/api.sock")) as client:
        answer = client.infer("digits", {"image": pixels})
        answer.outputs["scores"], answer.prediction_id
"""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from skerry_agent import sockets, tensors
from skerry_agent.errors import RequestError
from skerry_contracts.tensor import STRUCT_CODE, DType, TensorSpec

Values = bytes | Sequence[Any]
_MAX_HEAD_BYTES = 65536


@dataclasses.dataclass(frozen=True, slots=True)
class Inference:
    """An answer: each output's elements in one flat list, row-major, and its shape."""

    outputs: dict[str, list[Any]]
    shapes: dict[str, tuple[int, ...]]
    prediction_id: str
    model_version: str


class LocalClient:
    """Talks to the agent at a Unix socket. Not for several threads at once: give each its own."""

    def __init__(self, socket_path: Path, *, timeout_s: float = 30.0) -> None:
        self._path = Path(socket_path)
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._specs: dict[str, dict[str, TensorSpec]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def infer(
        self, model: str, inputs: Mapping[str, Values], *, sample: bool = True, id: str | None = None
    ) -> Inference:
        """Return what a model makes of its inputs: little-endian bytes, or numbers (flat, or nested as the shape says).

        Raises:
            RequestError: the agent refuses (its status), or cannot be reached (503).
        """
        specs = self._inputs(model)
        entries, chunks = [], []
        for name, values in inputs.items():
            if name not in specs:
                raise RequestError(f"no input is called {name!r:.80}", hint=f"inputs: {', '.join(specs)}")
            spec = specs[name]
            data = (
                bytes(values)
                if isinstance(values, (bytes, bytearray, memoryview))
                else tensors.from_json(spec, list(values))
            )
            entries.append(
                {
                    "name": name,
                    "shape": spec.shape,
                    "datatype": spec.dtype.value,
                    "parameters": {"binary_data_size": len(data)},
                }
            )
            chunks.append(data)
        document: dict[str, Any] = {"inputs": entries, "parameters": {"binary_data_output": True, "sample": sample}}
        if id is not None:
            document["id"] = id
        head = json.dumps(document).encode()
        try:
            headers, body = self._ask("POST", f"/v2/models/{model}/infer", b"".join((head, *chunks)), len(head))
        except RequestError as error:
            if error.status == 400:
                self._specs.pop(model, None)  # the model may have changed
            raise
        return _inference(body, int(headers["inference-header-content-length"]))

    def get(self, path: str) -> Any:
        """Return the JSON document at a path, such as `/v2/models/digits` or `/skerry/status`.

        Raises:
            RequestError: the agent refuses (its status), or cannot be reached (503).
        """
        return json.loads(self._ask("GET", path, b"", None)[1])

    def ready(self, model: str) -> bool:
        """Return whether a model can answer now; False also where no agent runs."""
        try:
            return bool(self.get(f"/v2/models/{model}/ready")["ready"])
        except RequestError:
            return False

    def _inputs(self, model: str) -> dict[str, TensorSpec]:
        if model not in self._specs:
            entries = self.get(f"/v2/models/{model}")["inputs"]
            self._specs[model] = {
                entry["name"]: TensorSpec(entry["name"], DType(entry["datatype"]), tuple(entry["shape"]))
                for entry in entries
            }
        return self._specs[model]

    def _ask(self, method: str, path: str, body: bytes, head_bytes: int | None) -> tuple[dict[str, str], bytes]:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        if head_bytes is not None:
            lines += ["Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {head_bytes}"]
        request = "\r\n".join([*lines, "", ""]).encode("ascii") + body
        kept = self._socket is not None
        try:
            status, headers, answer = self._exchange(request)
        except ConnectionError as error:
            self.close()
            if not kept:
                raise _unreachable(self._path, error) from error
            try:  # a kept connection may have been closed while it was idle, or the agent was started anew
                status, headers, answer = self._exchange(request)
            except OSError as again:
                self.close()
                raise _unreachable(self._path, again) from again
        except OSError as error:
            self.close()
            raise _unreachable(self._path, error) from error
        if headers.get("connection", "").lower() == "close":
            self.close()
        if status != 200:
            raise RequestError(_error(answer), status=status)
        return headers, answer

    def _exchange(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._socket is None:
            self._socket = sockets.connect(self._path, self._timeout_s)
        self._socket.sendall(request)
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > _MAX_HEAD_BYTES:
                raise ConnectionError("the answer is no HTTP")
            received += self._more()
        first, *lines = received[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        try:
            status, length = int(first.split(" ")[1]), int(headers["content-length"])
        except (IndexError, ValueError, KeyError) as error:
            raise ConnectionError("the answer is no HTTP") from error
        while len(received) < end + 4 + length:
            received += self._more()
        return status, headers, bytes(received[end + 4 : end + 4 + length])

    def _more(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(262144)
        if not data:
            raise ConnectionResetError("the agent closed the connection")
        return data


def _inference(body: bytes, head_bytes: int) -> Inference:
    document = json.loads(body[:head_bytes])
    outputs, shapes, at = {}, {}, head_bytes
    for entry in document["outputs"]:
        size, dtype = entry["parameters"]["binary_data_size"], DType(entry["datatype"])
        spec = TensorSpec(entry["name"], dtype, tuple(entry["shape"]))
        outputs[spec.name] = list(struct.unpack(f"<{spec.elements}{STRUCT_CODE[dtype]}", body[at : at + size]))
        shapes[spec.name] = spec.shape
        at += size
    return Inference(outputs, shapes, document["parameters"]["prediction_id"], document["model_version"])


def _error(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return "the agent refuses"


def _unreachable(path: Path, error: OSError) -> RequestError:
    reason = error.strerror or str(error)
    return RequestError(
        f"no agent answers at {path}: {reason}", status=503, hint="is it running? see: skerry agent run"
    )

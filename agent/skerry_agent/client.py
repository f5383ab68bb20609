"""A client of the local API for programs on the device: standard library only, binary tensors or shared memory, one
connection kept open.

    with LocalClient(Path("/var/lib/skerry/run/api.sock")) as client:
        answer = client.infer("digits", {"image": pixels})
        answer.outputs["scores"], answer.prediction_id
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from skerry_agent.client_frame import Frame
from skerry_agent.client_memory import Values, buffer, head, typed
from skerry_agent.client_wire import Wire
from skerry_agent.errors import RequestError
from skerry_contracts.tensor import STRUCT_CODE, DType, TensorSpec


class Inference:
    """An answer. `views` holds each output as a view of its type and shape, without a copy; `numpy.asarray` takes it
    (half precision: its bits, `.view("f2")`).
    """

    def __init__(self, specs: Sequence[TensorSpec], chunks: Sequence[memoryview], document: Mapping[str, Any]) -> None:
        self.views = {spec.name: typed(spec, chunk) for spec, chunk in zip(specs, chunks, strict=True)}
        self.shapes = {spec.name: spec.shape for spec in specs}
        self.prediction_id: str = document["parameters"]["prediction_id"]
        self.model_version: str = document["model_version"]
        self._specs, self._chunks = specs, chunks
        self._outputs: dict[str, list[Any]] | None = None

    @property
    def outputs(self) -> dict[str, list[Any]]:
        """Each output's elements in one flat list, row-major."""
        if self._outputs is None:
            self._outputs = {
                spec.name: list(struct.unpack(f"<{spec.elements}{STRUCT_CODE[spec.dtype]}", chunk))
                for spec, chunk in zip(self._specs, self._chunks, strict=True)
            }
        return self._outputs


class LocalClient:
    """Talks to the agent at a Unix socket, or with `port` (and `token`, where it is asked for) over loopback TCP.

    Not for several threads at once: give each its own. A connection that broke is made anew with the next call.
    """

    def __init__(
        self, socket_path: Path | None = None, *, port: int | None = None, token: str = "", timeout_s: float = 30.0
    ) -> None:
        if (socket_path is None) == (port is None):
            raise RequestError("give either the agent's socket or its port")
        self.socket_path = Path(socket_path) if socket_path is not None else None
        self.timeout_s = timeout_s
        self._wire = Wire(self.socket_path, port or 0, token, timeout_s)
        self._signatures: dict[str, tuple[dict[str, TensorSpec], dict[str, TensorSpec]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._wire.close()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Values],
        *,
        sample: bool = True,
        id: str | None = None,
        capture: str | None = None,
    ) -> Inference:
        """Return what a model makes of its inputs: little-endian bytes, an array of the input's own type (anything with
        the buffer protocol, as numpy's), or numbers (flat, or nested as the shape says).

        `capture`: keep this prediction under that id, whatever the sampling policy says.

        Raises:
            RequestError: the agent refuses (its status), or cannot be reached (503).
        """
        entries, chunks = _entries(self._signature(model)[0], inputs)
        parameters: dict[str, Any] = {"binary_data_output": True, "sample": sample}
        if capture is not None:
            parameters["capture"] = capture
        document: dict[str, Any] = {"inputs": entries, "parameters": parameters}
        if id is not None:
            document["id"] = id
        first = head(document)
        try:
            headers, body = self._wire.ask("POST", f"/v2/models/{quote(model, '')}/infer", [first, *chunks], len(first))
        except RequestError as error:
            if error.status == 400:
                self._signatures.pop(model, None)  # the model may have changed
            raise
        return _inference(body, int(headers["inference-header-content-length"]))

    def share(self, model: str) -> Frame:
        """Return memory shared with the agent for a model's inputs and outputs: see `Frame`.

        Raises:
            RequestError: the agent refuses (its status), cannot be reached (503), or there is no memory (503).
        """
        return Frame(self, model, *self._signature(model))

    def stats(self, model: str | None = None) -> list[dict[str, Any]]:
        """Return the statistics of a model or of all, in Triton's form."""
        path = "/v2/models/stats" if model is None else f"/v2/models/{quote(model, '')}/stats"
        return list(self.get(path)["model_stats"])

    def repository(self) -> list[dict[str, str]]:
        """Return what is installed: name, version, state (READY, LOADING, UNAVAILABLE) and the reason for the state."""
        return list(self.post("/v2/repository/index"))

    def load(self, model: str) -> None:
        """Start a model's worker again after `unload`; returns once it serves.

        Raises:
            RequestError: no such model (404), it does not load (500).
        """
        self.post(f"/v2/repository/models/{quote(model, '')}/load")

    def unload(self, model: str) -> None:
        """Free a model's worker; the model stays installed. Raises RequestError: no such model (404)."""
        self.post(f"/v2/repository/models/{quote(model, '')}/unload")

    def capture(
        self,
        model: str,
        id: str,
        *,
        prediction: str | None = None,
        inputs: Mapping[str, Values] | None = None,
        outputs: Mapping[str, Values] | None = None,
    ) -> dict[str, Any]:
        """Keep a prediction under an id of yours, whatever the sampling policy says: one of the last ones by its own
        id, or tensors. Returns what `captured` does.

        Raises:
            RequestError: 404 no such prediction (any more), 409 the id was used, 413 too large, 429 beyond the budget.
        """
        path = f"/skerry/capture/{quote(model, '')}"
        if prediction is not None:
            return dict(self.post(path, {"id": id, "prediction": prediction}))
        signature = self._signature(model)
        document: dict[str, Any] = {"id": id}
        chunks: list[bytes | memoryview] = []
        for side, specs, given in zip(("inputs", "outputs"), signature, (inputs or {}, outputs or {}), strict=True):
            document[side], data = _entries(specs, given)
            chunks += data
        first = head(document)
        return dict(json.loads(self._wire.ask("POST", path, [first, *chunks], len(first))[1]))

    def captured(self, id: str) -> dict[str, Any]:
        """Return what became of a capture: `state` (buffered, kept, sent, acknowledged, dropped) and `reason`.

        Raises:
            RequestError: 404, no capture has that id.
        """
        return dict(self.get(f"/skerry/capture/{quote(id, '')}"))

    def get(self, path: str) -> Any:
        """Return the JSON document at a path, such as `/v2/models/digits` or `/skerry/status`.

        Raises:
            RequestError: the agent refuses (its status), or cannot be reached (503).
        """
        return json.loads(self._wire.ask("GET", path, [], None)[1])

    def post(self, path: str, document: Any = None) -> Any:
        """Return the JSON answer to a JSON document (None: an empty body); None where the answer is empty.

        Raises:
            RequestError: the agent refuses (its status), or cannot be reached (503).
        """
        answer = self._wire.ask("POST", path, [head(document)] if document is not None else [], None)[1]
        return json.loads(answer) if answer else None

    def ready(self, model: str) -> bool:
        """Return whether a model can answer now; False also where no agent runs."""
        try:
            return bool(self.get(f"/v2/models/{quote(model, '')}/ready")["ready"])
        except RequestError:
            return False

    def socket_gid(self) -> int | None:
        """Return the group of the agent's socket; None where it is not known."""
        if self.socket_path is not None:
            with contextlib.suppress(OSError):
                return self.socket_path.stat().st_gid
        return None

    def _signature(self, model: str) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
        if model not in self._signatures:
            said = self.get(f"/v2/models/{quote(model, '')}")
            self._signatures[model] = (_specs(said["inputs"]), _specs(said["outputs"]))
        return self._signatures[model]


def _entries(
    specs: Mapping[str, TensorSpec], given: Mapping[str, Values]
) -> tuple[list[dict[str, Any]], list[bytes | memoryview]]:
    """Return tensors as a request lists them, and their bytes."""
    entries: list[dict[str, Any]] = []
    chunks = []
    for name, values in given.items():
        if name not in specs:
            raise RequestError(f"no tensor is called {name!r:.80}", hint=f"one of {', '.join(specs)}")
        spec = specs[name]
        data = buffer(spec, values)
        form = {"name": name, "shape": spec.shape, "datatype": spec.dtype.value}
        entries.append({**form, "parameters": {"binary_data_size": len(data)}})
        chunks.append(data)
    return entries, chunks


def _specs(entries: Sequence[Mapping[str, Any]]) -> dict[str, TensorSpec]:
    return {each["name"]: TensorSpec(each["name"], DType(each["datatype"]), tuple(each["shape"])) for each in entries}


def _inference(body: bytes, head_bytes: int) -> Inference:
    document = json.loads(body[:head_bytes])
    specs, chunks, at, whole = list(_specs(document["outputs"]).values()), [], head_bytes, memoryview(body)
    for spec in specs:
        chunks.append(whole[at : at + spec.size_bytes])
        at += spec.size_bytes
    return Inference(specs, chunks, document)

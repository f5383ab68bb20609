"""The local API: Open Inference Protocol v2 for programs on this device, over a Unix socket and, if asked for, a
loopback port.

    GET  /v2, /v2/health/live, /v2/health/ready
    GET  /v2/models/{model}[/versions/{version}][/ready]
    GET  /v2/models/{model}[/versions/{version}]/config     how it is run (Triton's model configuration extension)
    POST /v2/models/{model}[/versions/{version}]/infer      parameter "sample": false keeps the input out of samples and
                                                            sketches
    GET  /v2/models[/{model}[/versions/{version}]]/stats    counts and times (Triton's statistics extension)
    POST /v2/repository/index                               what is installed, and whether it serves
    POST /v2/repository/models/{model}/load, .../unload     start and end workers; nothing is installed or removed
    GET  /v2/systemsharedmemory[/region/{region}]/status    regions of shared memory of the asking user
    POST /v2/systemsharedmemory/region/{region}/register, /v2/systemsharedmemory[/region/{region}]/unregister
    POST /skerry/capture/{model}                            keep a prediction, or tensors, under an id of the caller's
    GET  /skerry/capture/{id}                               what became of it
    GET  /skerry/status                                     what `skerry agent status` shows

Programs that share memory with the agent ask over the fast channel beside the Unix socket instead (fast.py).

Every answer to an inference carries `parameters.prediction_id`, which leads back to bundle, training run and data.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.metadata
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from skerry_agent import api_infer, capture_words, fast_words, oip, repository, sockets
from skerry_agent.behalf import Behalf
from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.fast import FastChannel, FastLimits
from skerry_agent.hooks import Hooks
from skerry_agent.http import HttpServer
from skerry_agent.http_words import HttpLimits, Request, Response, error_response, json_response
from skerry_agent.regions import RegionLimits, Regions
from skerry_agent.runtime import TRIAL, Runtime
from skerry_agent.slot import Slot
from skerry_agent.strict_json import parse_json
from skerry_agent.tensors import check_inputs

LOG = logging.getLogger("skerry.agent.api")
# JSON takes up to 25 characters for a float of 4 bytes, and 6 for a truth value of 1.
_JSON_BYTES_PER_BYTE = 16
_SMALL_BODY_BYTES = 64 * 1024


class LocalApi:
    """The API in front of a runtime. `hooks` gives prediction ids and hears of every answered inference."""

    def __init__(
        self,
        runtime: Runtime,
        hooks: Hooks,
        limits: HttpLimits | None = None,
        shared: RegionLimits | None = None,
        fast: FastLimits | None = None,
    ) -> None:
        self._runtime = runtime
        self._hooks = hooks
        self._regions = Regions(shared)
        self._server = HttpServer(self, limits)
        self._fast = FastChannel(runtime, hooks, fast)
        self.behalf = Behalf()
        self._socket_path: Path | None = None
        self.port: int | None = None

    async def start(self, socket_path: Path, port: int | None = None, token: str | None = None) -> None:
        """Listen at a Unix socket (mode 0660) with the fast channel beside it and, unless `port` is None, at that port
        of 127.0.0.1 (0: any free one).

        With `token` every request on the port must bear it; the socket's permissions are enough on the socket.

        Raises:
            OSError: the path or port is taken or may not be used.
        """
        self._server.token = token
        self._fast.listen(fast_words.beside(socket_path))  # first: who finds the one socket finds the other
        try:
            await self._server.serve(sockets.listen(socket_path))
        except OSError:
            self._fast.close()
            raise
        self._socket_path = socket_path
        LOG.info("the local API is at %s", socket_path)
        if port is None:
            return
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", port))
            listening.listen(64)
            listening.setblocking(False)
        except OSError:
            listening.close()
            await self.close()
            raise
        self.port = listening.getsockname()[1]
        await self._server.serve(listening)
        LOG.info("the local API is at http://127.0.0.1:%d, too%s", self.port, ", with the token" if token else "")

    async def close(self) -> None:
        """Stop listening, end the connections and take the sockets away."""
        self._fast.close()
        await self._server.close()
        self._regions.close()
        if self._socket_path is not None:
            with contextlib.suppress(OSError):
                self._socket_path.unlink(missing_ok=True)
            self._socket_path = None

    def body_limit(self, method: str, path: str) -> int:
        """Return how many bytes of body a request may have: what the model's inputs take as JSON."""
        parts = path.split("/")
        capture = parts[1:3] == ["skerry", "capture"]
        tensors = method == "POST" and len(parts) > 3 and (capture or (parts[-1] == "infer" and len(parts) > 4))
        slot = self._runtime.slot(parts[3]) if tensors else None
        if slot is None:
            return _SMALL_BODY_BYTES
        signature = slot.manifest.signature
        size = sum(spec.size_bytes for spec in (*signature.inputs, *(signature.outputs if capture else ())))
        return _SMALL_BODY_BYTES + _JSON_BYTES_PER_BYTE * size

    def begin(self, request: Request, tell: Callable[[Response], None]) -> Callable[[], None] | None:
        """Begin an inference that needs nothing but the model's worker; see Handler."""
        parts = request.path.split("/")
        if request.method != "POST" or len(parts) != 5 or parts[1:3] != ["v2", "models"] or parts[4] != "infer":
            return None
        model = parts[3]
        slot = self._runtime.slot(model) if TRIAL not in model else None
        if slot is None or slot.evicted:
            return None
        asked = self._read(request, slot)
        data = check_inputs(slot.manifest.signature.inputs, asked.inputs)
        return api_infer.Asking(self._hooks, model, asked, tell).begin(slot, data, request.peer.client())

    async def handle(self, request: Request) -> Response:
        """Return the answer to a request."""
        request = self.behalf.of(request)
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        match parts:
            case ["v2"]:
                _only("GET", request)
                return json_response({"name": "skerry", "version": _version(), "extensions": list(oip.EXTENSIONS)})
            case ["v2", "health", "live"]:
                _only("GET", request)
                return json_response({"live": True})
            case ["v2", "health", "ready"]:
                _only("GET", request)
                ready = all(slot.ready or slot.unloaded for slot in self._slots())
                return json_response({"ready": ready}, 200 if ready else 503)
            case ["v2", "models", "stats"]:
                _only("GET", request)
                return json_response(repository.statistics(self._slots()))
            case ["v2", "models", model, *rest]:
                return await self._model(request, model, rest)
            case ["v2", "repository", "index"]:
                _only("POST", request)
                return json_response(repository.index(self._slots(), request.body))
            case ["v2", "repository", "models", model, ("load" | "unload") as action]:
                _only("POST", request)
                return await self._control(request, model, action)
            case ["v2", "systemsharedmemory", "region", region, action]:
                return self._memory(request, region, action)
            case ["v2", "systemsharedmemory", action]:
                return self._memory(request, None, action)
            case ["skerry", "capture", name]:
                return self._capture(request, name)
            case ["skerry", "status"]:
                _only("GET", request)
                return json_response(self._hooks.status())
        return error_response(f"there is nothing at {request.path[:120]}", 404)

    def _slots(self) -> list[Slot]:
        return [slot for name in self._runtime.models() if (slot := self._runtime.slot(name)) is not None]

    def _slot(self, model: str) -> Slot:
        slot = self._runtime.slot(model) if TRIAL not in model else None
        if slot is None:
            known = ", ".join(self._runtime.models()) or "none"
            raise RequestError(f"no model {model!r:.80} here", status=404, hint=f"models: {known}")
        return slot

    async def _control(self, request: Request, model: str, action: str) -> Response:
        slot = self._slot(model)
        repository.check_control(request.body)
        try:
            # A client that goes away meanwhile changes nothing: what was begun with workers is finished.
            await asyncio.shield(self._runtime.load(model) if action == "load" else slot.unload())
        except WorkerError as error:
            return error_response(f"{model} does not load: {error}", 500)
        return Response(200, b"")

    def _memory(self, request: Request, region: str | None, action: str) -> Response:
        if action == "status":
            _only("GET", request)
            return json_response(self._regions.status(region, request.peer))
        if action == "unregister":
            _only("POST", request)
            self._regions.unregister(region, request.peer)
            return Response(200, b"")
        if action == "register" and region is not None:
            _only("POST", request)
            self._regions.register(region, parse_json(request.body), request.peer)
            return Response(200, b"")
        return error_response(f"there is nothing at {request.path[:120]}", 404)

    def _capture(self, request: Request, name: str) -> Response:
        if request.method == "GET":
            found = self._hooks.capture_status(name)
            return json_response(found) if found else error_response(f"no capture has the id {name!r:.160}", 404)
        _only("POST", request)
        find = functools.partial(self._regions.find, peer=request.peer)
        order = capture_words.read(self._slot(name).manifest, request.headers, request.body, find)
        self._hooks.capture(order)
        return json_response(self._hooks.capture_status(order.id))

    async def _model(self, request: Request, model: str, rest: list[str]) -> Response:
        slot = self._slot(model)
        if len(rest) >= 2 and rest[0] == "versions":
            if rest[1] != slot.manifest.version:
                raise RequestError(
                    f"{model} has no version {rest[1]!r:.80} here", status=404, hint=f"version: {slot.manifest.version}"
                )
            rest = rest[2:]
        match rest:
            case []:
                _only("GET", request)
                return json_response(oip.model_metadata(slot.manifest, slot.variant.engine))
            case ["config"]:
                _only("GET", request)
                return json_response(repository.config(slot, self._runtime.room.wanted(slot)))
            case ["ready"]:
                _only("GET", request)
                return json_response({"name": model, "ready": slot.ready}, 200 if slot.ready else 503)
            case ["stats"]:
                _only("GET", request)
                return json_response(repository.statistics([slot]))
            case ["infer"]:
                _only("POST", request)
                return await self._infer(request, slot)
        return error_response(f"there is nothing at {request.path[:120]}", 404)

    async def _infer(self, request: Request, slot: Slot) -> Response:
        model, asked = slot.manifest.model, self._read(request, slot)
        try:
            result = await self._runtime.infer(model, asked.inputs, client=request.peer.client(), wait_s=asked.wait_s)
        except WorkerError as error:
            return api_infer.failure(model, error)
        return api_infer.answer(self._hooks, model, asked, result)

    def _read(self, request: Request, slot: Slot) -> oip.InferRequest:
        find = functools.partial(self._regions.find, peer=request.peer)
        asked = oip.read_infer(slot.manifest.signature, request.headers, request.body, find)
        if asked.capture is not None:
            self._hooks.check_capture(asked.capture)
        return asked


def _only(method: str, request: Request) -> None:
    if request.method != method:
        raise RequestError(f"{request.path[:120]} takes {method} only", status=405)


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("skerry")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"

"""The calls of the gRPC service, each answered by one request to the local API.

    status of the local API -> gRPC's (grpc.io, "Status codes and their use in gRPC"), with the same words

A call reads its message itself, once the caller is known to be admitted: what is refused is never taken in whole.
Deadlines are gRPC's own: a call whose time is up is cancelled, and its connection to the agent with it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from skerry_agent import api_token, behalf
from skerry_agent.errors import RequestError
from skerry_agent.grpc_front import schema, words
from skerry_agent.grpc_front.relay import Caller, Relay
from skerry_agent.grpc_front.upstream import Upstream, model_path

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ALREADY_EXISTS,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    431: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """`calls`: answered at once; `read_s`: from a call's first byte to its message; `idle_s`: between two messages of a
    stream; `inferences` and `others`: connections to the agent.
    """

    calls: int = 64
    read_s: float = 20.0
    idle_s: float = 300.0
    inferences: int = 16
    others: int = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """`secret` speaks for others at the agent; `token` is asked for on the port, None: none is."""

    secret: str
    token: str | None = None
    limits: Limits = Limits()


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """All calls. `inferring` and `asking` are the ways to the agent for inferences and for the rest: a slow model must
    not keep anybody from asking how the agent fares.
    """

    def __init__(self, relay: Relay, inferring: Upstream, asking: Upstream, settings: Settings) -> None:
        self._relay, self._inferring, self._asking = relay, inferring, asking
        self._settings = settings
        self._calls = 0
        self._schema = schema.load()
        self._simple: dict[str, Callable[[Any, Any, _Ask], Awaitable[Any]]] = {
            "ServerLive": _live,
            "ServerReady": _ready,
            "ServerMetadata": _server,
            "ModelReady": _model_ready,
            "ModelMetadata": _model,
            "ModelStatistics": _statistics,
            "RepositoryIndex": _index,
            "RepositoryModelLoad": _load,
            "RepositoryModelUnload": _unload,
            "SystemSharedMemoryStatus": _memory,
            "SystemSharedMemoryRegister": _register,
            "SystemSharedMemoryUnregister": _unregister,
        }

    def service(self, details: Any) -> Any:
        """Return the handler of a call; also of one that is not offered, to say so."""
        package, _, name = details.method.lstrip("/").rpartition("/")
        method = self._schema.methods.get(name) if package == self._schema.service else None

        async def answer(_: Any, context: Any) -> None:
            try:
                await self._answer(method, details.method, context)
            except RequestError as error:
                await _refuse(context, error)

        return grpc.stream_stream_rpc_method_handler(answer)

    async def _answer(self, method: schema.Method | None, said: str, context: Any) -> None:
        if method is None:
            hint = ", ".join(self._schema.methods)
            raise RequestError(f"there is nothing at {said[:120]}", status=405, hint=f"offered: {hint}")
        ask = _Ask(self._asking, self._admitted(context), self._settings.secret)
        self._calls += 1
        try:
            if method.client_streams:
                await self._stream(method, ask, context)
                return
            request = method.request()
            if not await _read(context, request, self._settings.limits.read_s):
                raise RequestError(f"{method.name} needs a message, none came")
            if method.name == "ModelInfer":
                response = await self._infer(request, method.response(), ask)
            else:
                response = await self._simple[method.name](request, method.response(), ask)
            await context.write(response.SerializeToString())
        finally:
            self._calls -= 1

    def _admitted(self, context: Any) -> Caller:
        """Return who asks.

        Raises:
            RequestError: 401, without the token; 403, not through the relay; 429, too many calls.
        """
        caller = self._relay.caller(context.peer())
        if caller is None:
            raise RequestError("this connection is not one that the agent has taken", status=403)
        token = self._settings.token
        if caller.guarded and token is not None:
            said = [value for name, value in context.invocation_metadata() if name == "authorization"]
            if len(said) != 1 or not api_token.matches(token, said[0].encode("utf-8", "replace")):
                raise RequestError("this port asks for a token: authorization: Bearer <see run/api.token>", status=401)
        if self._calls >= self._settings.limits.calls:
            raise RequestError(f"{self._calls} calls are being answered", status=429, hint="ask again")
        return caller

    async def _stream(self, method: schema.Method, ask: _Ask, context: Any) -> None:
        while await _read(context, request := method.request(), self._settings.limits.idle_s):
            response = method.response()
            try:
                await self._infer(request, response.infer_response, ask)
            except RequestError as error:
                response = method.response(error_message=_words(error))
                response.infer_response.id = request.id
            await context.write(response.SerializeToString())

    async def _infer(self, request: Any, response: Any, ask: _Ask) -> Any:
        head, chunks = words.read_infer(request)
        path = model_path(request.model_name, request.model_version, "infer")
        headers, body = await self._inferring.ask("POST", path, [ask.header()], [head, *chunks], len(head))
        length = headers.get("inference-header-content-length")
        return words.write_infer(body, int(length) if length is not None else None, response)


class _Ask:
    """Asks the agent for one caller."""

    def __init__(self, upstream: Upstream, caller: Caller, secret: str) -> None:
        self._upstream, self._caller, self._secret = upstream, caller, secret

    def header(self) -> tuple[str, str]:
        """Return for whom is asked."""
        return behalf.header(self._secret, self._caller.peer)

    async def __call__(self, method: str, path: str, document: Any = None) -> Any:
        """Return the JSON answer; None where it is empty."""
        parts = [json.dumps(document).encode()] if document is not None else []
        _, body = await self._upstream.ask(method, path, [self.header()], parts)
        return json.loads(body) if body else None


async def _read(context: Any, request: Any, within_s: float) -> bool:
    """Fill a request from the next message; return False where the caller has said all.

    Raises:
        RequestError: 400, it is none; 408, it does not come.
    """
    try:
        async with asyncio.timeout(within_s):
            data = await context.read()
    except TimeoutError:
        raise RequestError("the request came too slowly", status=408) from None
    if data is grpc.aio.EOF:
        return False
    try:
        request.ParseFromString(data)
    except DecodeError as error:
        raise RequestError(f"not a {request.DESCRIPTOR.name}: {str(error)[:120]}") from error
    return True


async def _refuse(context: Any, error: RequestError) -> NoReturn:
    await context.abort(CODES.get(error.status, grpc.StatusCode.INTERNAL), _words(error))
    raise AssertionError("abort raises")


def _words(error: RequestError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)


async def _live(_: Any, response: Any, ask: _Ask) -> Any:
    return words.fill(await ask("GET", "/v2/health/live"), response)


async def _ready(_: Any, response: Any, ask: _Ask) -> Any:
    return await _whether(response, ask, "/v2/health/ready")


async def _server(_: Any, response: Any, ask: _Ask) -> Any:
    return words.fill(await ask("GET", "/v2"), response)


async def _model_ready(request: Any, response: Any, ask: _Ask) -> Any:
    return await _whether(response, ask, model_path(request.name, request.version, "ready"))


async def _whether(response: Any, ask: _Ask, path: str) -> Any:
    """Answer whether something is ready: as in Triton, what is not there is not."""
    try:
        await ask("GET", path)
        response.ready = True
    except RequestError as error:
        if error.status not in (404, 503) or error.hint:  # 503 with a hint: the agent itself does not answer
            raise
    return response


async def _model(request: Any, response: Any, ask: _Ask) -> Any:
    return words.fill(await ask("GET", model_path(request.name, request.version)), response)


async def _statistics(request: Any, response: Any, ask: _Ask) -> Any:
    path = model_path(request.name, request.version, "stats") if request.name else "/v2/models/stats"
    return words.fill(await ask("GET", path), response)


async def _index(request: Any, response: Any, ask: _Ask) -> Any:
    models = await ask("POST", "/v2/repository/index", {"ready": request.ready})
    return words.fill({"models": models}, response)


async def _load(request: Any, response: Any, ask: _Ask) -> Any:
    response.model_name = await _control(request, ask, "load")
    response.isLoaded = True
    return response


async def _unload(request: Any, response: Any, ask: _Ask) -> Any:
    response.model_name = await _control(request, ask, "unload")
    response.isUnloaded = True
    return response


async def _control(request: Any, ask: _Ask, action: str) -> str:
    name = str(request.model_name or request.repository_name)
    path = model_path(name, "", action).replace("/v2/models/", "/v2/repository/models/", 1)
    await ask("POST", path, {"parameters": words.plain(request.parameters)})
    return name


async def _memory(request: Any, response: Any, ask: _Ask) -> Any:
    regions = await ask("GET", _region(request.name, "status"))
    return words.fill({"regions": {each["name"]: each for each in regions}}, response)


async def _register(request: Any, response: Any, ask: _Ask) -> Any:
    where = {"key": request.key, "offset": request.offset, "byte_size": request.byte_size}
    await ask("POST", _region(request.name, "register"), where)
    return response


async def _unregister(request: Any, response: Any, ask: _Ask) -> Any:
    await ask("POST", _region(request.name, "unregister"))
    return response


def _region(name: str, action: str) -> str:
    return "/v2/systemsharedmemory/" + (f"region/{model_path(name, '').rpartition('/')[2]}/" if name else "") + action

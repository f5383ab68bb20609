"""The calls of the gRPC service, each answered by one request to the local API.

    status of the local API -> gRPC's (grpc.io, "Status codes and their use in gRPC"), with the same words

A call reads its message itself, once the caller is known to be admitted: what is refused is never taken in whole.
Deadlines are gRPC's own: a call whose time is up is cancelled, and its connection to the agent with it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from skerry_agent import api_token
from skerry_agent.errors import RequestError
from skerry_agent.grpc_front import schema, words
from skerry_agent.grpc_front.calls import CALLS, Ask
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
    """`calls`: answered at once, `streams` among them; `messages`: of inferences that are read or handed on at once,
    and as many of all other calls; `other_bytes`: of one of those; `read_s`: from a call's first byte to its message;
    `idle_s`: between two messages of a stream; `inferences` and `others`: connections to the agent.
    """

    calls: int = 64
    streams: int = 8
    messages: int = 4
    other_bytes: int = 64 * 1024
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
        self._calls = self._streams = 0
        self._holds = {infers: asyncio.Semaphore(settings.limits.messages) for infers in (True, False)}
        self._schema = schema.load()

    def service(self, details: Any) -> Any:
        """Return the handler of a call; also of one that is not offered, to say so."""
        package, _, name = details.method.lstrip("/").rpartition("/")
        method = self._schema.methods.get(name) if package == self._schema.service else None

        async def answer(_: Any, context: Any) -> None:
            refused: tuple[Any, str] | None = None
            try:
                await self._answer(method, details.method, context)
            except RequestError as error:  # and not kept: its traceback holds the message
                refused = CODES.get(error.status, grpc.StatusCode.INTERNAL), _words(error)
            if refused is not None:
                await context.abort(*refused)

        return grpc.stream_stream_rpc_method_handler(answer)

    async def _answer(self, method: schema.Method | None, said: str, context: Any) -> None:
        if method is None:
            hint = ", ".join(self._schema.methods)
            raise RequestError(f"there is nothing at {said[:120]}", status=405, hint=f"offered: {hint}")
        ask = Ask(self._asking, self._admitted(context), self._settings.secret)
        self._calls += 1
        try:
            await (self._stream if method.client_streams else self._one)(method, ask, context)
        finally:
            self._calls -= 1

    async def _one(self, method: schema.Method, ask: Ask, context: Any) -> None:
        infers, limits = method.name == "ModelInfer", self._settings.limits
        async with _Hold(self._holds[infers]) as hold:
            request, response = method.request(), method.response()
            if not await _read(context, request, limits.read_s, None if infers else limits.other_bytes):
                raise RequestError(f"{method.name} needs a message, none came")
            if infers:
                response = await self._infer(request, response, ask, hold)
            else:
                hold.release()
                response = await CALLS[method.name](request, response, ask)
        await context.write(response.SerializeToString())

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

    async def _stream(self, method: schema.Method, ask: Ask, context: Any) -> None:
        if self._streams >= self._settings.limits.streams:
            raise RequestError(f"{self._streams} streams are open", status=429, hint="close one, or call ModelInfer")
        self._streams += 1
        try:
            while await _read(context, request := method.request(), self._settings.limits.idle_s):
                response, name = method.response(), request.id
                try:
                    async with _Hold(self._holds[True]) as hold:
                        await self._infer(request, response.infer_response, ask, hold)
                except RequestError as error:
                    response = method.response(error_message=_words(error))
                    response.infer_response.id = name
                await context.write(response.SerializeToString())
        finally:
            self._streams -= 1

    async def _infer(self, request: Any, response: Any, ask: Ask, hold: _Hold) -> Any:
        head, chunks = words.read_infer(request)
        path = model_path(request.model_name, request.model_version, "infer")
        request.Clear()  # what has been taken out of it is enough to hold
        parts = [head, *chunks]
        del chunks
        headers, body = await self._inferring.ask("POST", path, [ask.header()], parts, len(head), hold.release)
        length = headers.get("inference-header-content-length")
        return words.write_infer(body, int(length) if length is not None else None, response)


class _Hold:
    """A place among the messages that may be in memory; it may be given back before the end."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places, self._held = places, False

    async def __aenter__(self) -> _Hold:
        await self._places.acquire()
        self._held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the place back, once."""
        if self._held:
            self._held = False
            self._places.release()


async def _read(context: Any, request: Any, within_s: float, limit_bytes: int | None = None) -> bool:
    """Fill a request from the next message; return False where the caller has said all.

    Raises:
        RequestError: 400, it is none; 408, it does not come; 413, it is too large.
    """
    try:
        async with asyncio.timeout(within_s):
            data = await context.read()
    except TimeoutError:
        raise RequestError("the request came too slowly", status=408) from None
    if data is grpc.aio.EOF:
        return False
    if limit_bytes is not None and len(data) > limit_bytes:
        raise RequestError(f"a message of {len(data)} bytes, at most {limit_bytes} are taken", status=413)
    try:
        request.ParseFromString(data)
    except DecodeError as error:
        raise RequestError(f"not a {request.DESCRIPTOR.name}: {str(error)[:120]}") from error
    return True


def _words(error: RequestError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)

"""What every request passes first: an id, limits on its size and on its slowness; and what every refusal looks like.

{"error": {"code": "not-found", "message": "no device x", "hint": "..."}}
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skerry_contracts.errors import ContractError, MalformedError
from skerry_fleet import conditional
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import FleetError, InputError, TooLargeError
from skerry_fleet.limits import Limits
from skerry_fleet.metrics import Metrics

log = logging.getLogger(__name__)
_CODES = {400: "bad-request", 401: "unauthenticated", 403: "forbidden", 404: "not-found", 405: "method-not-allowed"}
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
# Headers of which one alone is meant: two programs that read two of them may choose differently.
_SINGLE = (b"authorization", b"content-encoding", b"content-type", b"idempotency-key", b"range", b"if-range")
_SLOWEST_BYTES_PER_S = 1000.0
_SAFE_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def refusal(status: int, code: str, message: str, hint: str = "", headers: dict[str, str] | None = None) -> Response:
    """Return an error as every client of ours reads it."""
    content = msgspec.json.encode({"error": {"code": code, "message": message, "hint": hint}})
    return Response(content, status, headers, media_type="application/json")


class FrontDoor:
    """ASGI middleware: gives each request an id, counts it, and refuses who asks too much, bodies over the limit,
    announced or not, and bodies that trickle.

    Bundles are large: paths that end in `/bundles` or `/bundle` limit themselves.
    """

    def __init__(self, app: ASGIApp, config: FleetConfig, limits: Limits, metrics: Metrics) -> None:
        self.app = app
        self.max_body_bytes, self.slow_s = config.max_body_bytes, config.slow_request_s
        self.limits, self.metrics = limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if 0 < len(given) <= 64 and _SAFE_ID.issuperset(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        address = (scope.get("client") or ("", 0))[0]
        answer = self._answering(scope, address, request_id, send)
        by, wait_s = self.limits.wait_s(scope["path"], address, headers.get(b"authorization", b""))
        if by:
            self.metrics.limited.labels(by).inc()
            await _too_many(by, wait_s)(scope, receive, answer)
            return
        large = scope["method"] == "POST" and scope["path"].endswith(("/bundles", "/bundle"))
        limit = None if large else self.max_body_bytes
        refused = _odd(scope["headers"], headers, limit)
        if refused is not None:
            await refused(scope, receive, answer)
            return
        if scope["method"] == "GET":
            answer = conditional.Answer(answer, headers.get(b"if-none-match", b"").decode("latin-1"))
        has_body = b"content-length" in headers or b"transfer-encoding" in headers
        try:
            await self.app(scope, _limited(receive, limit, self.slow_s) if has_body else receive, answer)
        except ClientDisconnect:
            log.info("a client left in the midst of its request %s", request_id)

    def _answering(self, scope: Scope, address: str, request_id: str, send: Send) -> Send:
        """Return what sends the answer of one request, with its id, and counts it."""
        began_s = time.perf_counter()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                status = message["status"]
                if status == 401:
                    self.limits.guessed(address)
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self.metrics.answered(method, route, status, time.perf_counter() - began_s)
            await send(message)

        return answer


def _odd(every: list[tuple[bytes, bytes]], headers: dict[bytes, bytes], limit: int | None) -> Response | None:
    """Return the refusal of a request whose headers announce what is not taken."""
    if len(every) != len(headers):
        names = [name for name, _ in every]
        twice = next((name.decode() for name in _SINGLE if names.count(name) > 1), None)
        if twice is not None:
            return refusal(400, "bad-request", f"the header {twice} stands twice", "send it once")
    if b"transfer-encoding" in headers and b"content-length" in headers:
        # RFC 9112 section 6.3: whoever forwards this may end the body elsewhere than we do.
        said = "both Transfer-Encoding and Content-Length say where the body ends"
        return refusal(400, "bad-request", said, "send one of them", {"connection": "close"})
    packed = headers.get(b"content-encoding", b"identity").strip().lower()
    if packed not in (b"identity", b""):
        hint = "send it as it is; a bundle is packed already"
        return refusal(415, "unsupported-encoding", f"a body in {packed.decode('latin-1')!r:.40}", hint)
    length = headers.get(b"content-length", b"0")
    if limit is not None and (not length.isdigit() or int(length) > limit):
        return refusal(413, "too-large", f"a body of more than {limit} bytes")
    return None


def _limited(receive: Receive, limit: int | None, slow_s: float) -> Receive:
    """Return what reads a body, and refuses it once it is too large or too slow."""
    size, whole, loop = 0, False, asyncio.get_running_loop()
    began_s = loop.time()

    async def read() -> Message:
        nonlocal size, whole
        if whole:  # what may come now is that the client leaves
            return await receive()
        try:
            async with asyncio.timeout_at(began_s + slow_s + size / _SLOWEST_BYTES_PER_S):
                message = await receive()
        except TimeoutError as error:
            said, hint = "the body arrives too slowly", f"{slow_s:g} s, and 1 s for each 1000 bytes"
            raise InputError(said, hint=hint, code="too-slow", status=408) from error
        size += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if limit is not None and size > limit:
            raise TooLargeError(f"a body of more than {limit} bytes")
        return message

    return read


def _too_many(by: str, wait_s: float) -> Response:
    seconds = math.ceil(wait_s)
    hint = f"wait {seconds} s, as Retry-After says; {by}_per_s and {by}_burst of the fleet's settings are the limit"
    headers = {"retry-after": str(seconds)}
    return refusal(429, "too-many-requests", f"too many requests from one {by}", hint, headers)


def install(app: FastAPI, config: FleetConfig, limits: Limits, metrics: Metrics) -> None:
    """Put the front door and the shape of refusals on an application."""
    app.add_middleware(FrontDoor, config=config, limits=limits, metrics=metrics)
    app.add_exception_handler(FleetError, _fleet)
    app.add_exception_handler(ContractError, _contract)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(Exception, _unforeseen)


def _fleet(request: Request, error: Any) -> Response:
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else None
    return refusal(error.status, error.code, str(error), error.hint, headers)


def _contract(request: Request, error: Any) -> Response:
    status, code = (400, "malformed") if isinstance(error, MalformedError) else (422, "bad-input")
    return refusal(status, code, str(error), error.hint)


def _http(request: Request, error: Any) -> Response:
    hint = "see docs/fleet.md for the paths" if error.status_code in (404, 405) else ""
    code = _CODES.get(error.status_code, "refused")
    headers = error.headers
    if error.status_code == 405:  # the router names only the methods of the first route with this path
        here = [route for route in every_route(request.app) if route.path_regex.match(request.url.path)]
        fewest = min((route.path.count("{") for route in here), default=0)  # /rollouts/r1/devices is no order `devices`
        named = {method for route in here if route.path.count("{") == fewest for method in route.methods or ()}
        headers = {"allow": ", ".join(sorted(named))}
    return refusal(error.status_code, code, str(error.detail), hint, headers)


def every_route(app: FastAPI) -> list[APIRoute]:
    """Return every route of an application, the dashboard's as well, by path."""
    found: list[APIRoute] = []
    rooms: list[Any] = list(app.routes)
    while rooms:
        each = rooms.pop()
        if hasattr(each, "original_router"):  # how FastAPI keeps a router that was included
            rooms += each.original_router.routes
        elif isinstance(each, APIRoute):
            found.append(each)
    return sorted(found, key=lambda route: route.path)


def _validation(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first.get("loc", ()))
    return refusal(422, "bad-input", f"{where}: {first.get('msg', 'refused')}")


def _database(request: Request, error: Any) -> Response:
    log.error("the database refuses: %s", error.orig)
    return refusal(503, "unavailable", f"the database refuses: {error.orig}", "is the disk full?")


def _unforeseen(request: Request, error: Exception) -> Response:
    return refusal(500, "internal", "an error in the fleet manager; its log says more")

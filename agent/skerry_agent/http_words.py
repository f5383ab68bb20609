"""What the HTTP server and what it serves say to each other: whole requests, whole responses, how much of either."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, Protocol

from skerry_agent.errors import AgentError, RequestError
from skerry_agent.peers import Peer

JSON = "application/json"
Body = bytes | bytearray
# Made once: json.dumps with settings makes an encoder with every call.
to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclasses.dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one client may take.

    `header_bytes` counts request line and headers; `read_s` runs from a request's first byte to its last, `idle_s`
    between two requests, `write_s` while a client does not read its answer, `linger_s` after a refusal.
    """

    connections: int = 64
    header_bytes: int = 16 * 1024
    read_s: float = 20.0
    idle_s: float = 300.0
    write_s: float = 20.0
    linger_s: float = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A whole request. Header names are lower case; `path` is still percent-encoded and has no query."""

    method: str
    path: str
    headers: dict[str, str]
    body: Body
    peer: Peer


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """A whole response. `after` is called once it was handed to the kernel: work that must not delay the answer."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    after: Callable[[], None] | None = None


class Handler(Protocol):
    """What the server serves."""

    def body_limit(self, method: str, path: str) -> int:
        """Return how many bytes of body this request may have."""

    def begin(self, request: Request, tell: Callable[[Response], None]) -> Callable[[], None] | None:
        """Begin to answer where that needs no task: `tell` is then called once. Returns how to give it up, or None
        where `handle` is to be asked.

        Raises:
            RequestError: answered with its status.
        """

    async def handle(self, request: Request) -> Response:
        """Return the answer.

        Raises:
            RequestError: answered with its status.
        """


class Server(Protocol):
    """What a connection needs of its server (http.HttpServer)."""

    handler: Handler
    limits: HttpLimits
    token: str | None
    connections: set[Any]
    closed: bool
    scratch: bytearray


def json_response(plain: Any, status: int = 200) -> Response:
    """Return a response of plain JSON data."""
    return Response(status, to_json(plain).encode())


def refusal(error: AgentError) -> Response:
    """Return an error as the answer to a request; Retry-After is in whole seconds (RFC 9110, 10.2.3)."""
    status = error.status if isinstance(error, RequestError) else 500
    response = error_response(f"{error} ({error.hint})" if error.hint else str(error), status)
    after_s = error.retry_after_s if isinstance(error, RequestError) else None
    if after_s is None:
        return response
    return dataclasses.replace(response, headers=(("retry-after", str(max(1, math.ceil(after_s)))),))


def error_response(message: str, status: int) -> Response:
    """Return an error in the form of the Open Inference Protocol."""
    return json_response({"error": message}, status)

"""Requests in the plainest form of HTTP/1.1, as a client sends them again and again, and answers to them.

What a general parser does for every request costs more than an inference. So the head that most requests have is read
here: one version, no transfer coding, no upgrade, no expectation, each header once, nothing folded, and only letters
that RFC 9110 allows. Anything else is left to the general parser, which then also says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from skerry_agent import api_token
from skerry_agent.errors import RequestError
from skerry_agent.http_words import Response

_FIRST = re.compile(rb"(GET|POST) (/[!$-;=?-Z_a-z~]*) HTTP/1\.1")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*((?:[!-~](?:[ -~]*[!-~])?)?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,12}")
_OTHER = frozenset(("transfer-encoding", "expect", "upgrade", "trailer", "te", "content-encoding", "http2-settings"))


class Head(NamedTuple):
    """A request's head: header names are lower case; `path` has no query."""

    method: str
    path: str
    headers: dict[str, str]
    length: int


def read_head(head: bytes) -> Head | None:
    """Return a head, given without the empty line that ends it; None where it is not of the plainest form."""
    first, *lines = head.split(b"\r\n")
    asked = _FIRST.fullmatch(first)
    if asked is None:
        return None
    headers: dict[str, str] = {}
    for line in lines:
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        name = found[1].decode("ascii").lower()
        if name in headers or name in _OTHER:
            return None
        headers[name] = found[2].decode("ascii")
    length = headers.get("content-length", "0")
    plain = "host" in headers and headers.get("connection", "keep-alive").lower() == "keep-alive"
    if not plain or _LENGTH.fullmatch(length) is None:
        return None
    return Head(asked[1].decode(), asked[2].partition(b"?")[0].decode("ascii"), headers, int(length))


class PlainReader:
    """Puts one connection's plain requests together; `rest` is where the next bytes of a body belong."""

    __slots__ = ("_body", "_head", "_last", "rest")

    def __init__(self) -> None:
        self.rest: memoryview | None = None
        self._last = b""
        self._head: Head | None = None
        self._body = bytearray()

    def take(self, scratch: bytearray, nbytes: int, head_bytes: int, allowed: Callable[[Head], bool]) -> bool:
        """Take the first `nbytes` bytes as the beginning of a request; returns whether they are one: plain, `allowed`,
        and with nothing behind it.
        """
        end = scratch.find(b"\r\n\r\n", 0, min(nbytes, head_bytes))
        if end < 0:
            return False
        if (said := bytes(scratch[:end])) != self._last:  # most clients say the same again and again
            self._head, self._last = read_head(said), said
        head, come = self._head, nbytes - end - 4
        if head is None or come > head.length or not allowed(head):
            return False
        self._body = bytearray(head.length)
        self._body[:come] = memoryview(scratch)[end + 4 : nbytes]
        self.rest = memoryview(self._body)[come:] if come < head.length else None
        return True

    def came(self, nbytes: int) -> bool:
        """Take note of bytes that came into `rest`; returns whether the request is whole."""
        assert self.rest is not None
        self.rest = self.rest[nbytes:] or None
        return self.rest is None

    def whole(self) -> tuple[Head, bytearray]:
        """Return the request's head and body."""
        assert self._head is not None
        body, self._body = self._body, bytearray()
        return self._head, body


def render(response: Response) -> bytes:
    """Return an answer as it goes out."""
    more = "".join(f"{name}: {value}\r\n" for name, value in response.headers)
    form = f"content-type: {response.content_type}\r\ncontent-length: {len(response.body)}"
    return b"".join((f"HTTP/1.1 {response.status} \r\n{form}\r\n{more}\r\n".encode(), response.body))


def check_stranger(headers: dict[str, str], token: str | None) -> None:
    """Refuse on a port what a web page makes a browser send (pages may reach loopback ports, also by names that resolve
    to them), and who does not bear the token, where one is set.

    Raises:
        RequestError: 403, 401.
    """
    host = headers.get("host", "").lower()
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if "origin" in headers or name not in ("127.0.0.1", "localhost", "[::1]"):
        raise RequestError(
            "web pages may not ask this server", status=403, hint="ask 127.0.0.1 without an Origin header"
        )
    if token is not None and not api_token.matches(token, headers.get("authorization", "").encode("latin-1")):
        raise RequestError("this port asks for a token: Authorization: Bearer <see run/api.token>", status=401)

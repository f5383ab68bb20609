"""The front's connections to the local API: HTTP/1.1 over its Unix socket, several at once, kept open."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from skerry_agent import sockets
from skerry_agent.errors import RequestError

_HEAD_BYTES = 65536
_READ_BYTES = 1 << 20
_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Upstream:
    """Asks the agent at a Unix socket, over at most so many connections; who finds them all busy waits."""

    def __init__(self, path: Path, connections: int) -> None:
        self._path = path
        self._idle: list[_Stream] = []
        self._free = asyncio.Semaphore(connections)

    async def ask(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        parts: list[bytes] | None = None,
        head_bytes: int | None = None,
        sent: Callable[[], None] | None = None,
    ) -> tuple[dict[str, str], bytes]:
        """Return an answer's headers and body. `parts` is emptied as it goes out; `sent` is called when it is.

        Raises:
            RequestError: the agent refuses (its status), or cannot be reached (503).
        """
        parts = parts or []
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {sum(map(len, parts))}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if head_bytes is not None:
            lines += ["Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {head_bytes}"]
        parts.insert(0, "\r\n".join([*lines, "", ""]).encode("ascii"))
        async with self._free:
            try:
                status, found, body = await self._exchange(await self._stream(), parts, sent)
            except (OSError, EOFError, ValueError) as error:
                raise RequestError(f"the agent does not answer: {error}", status=503, hint="ask again") from error
        if status != 200:
            raise RequestError(_error(body), status=status)
        return found, body

    async def _stream(self) -> _Stream:
        while self._idle:
            reader, writer = self._idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()  # the agent has closed it meanwhile
        with sockets.address(self._path) as where:
            return await asyncio.open_unix_connection(where, limit=_READ_BYTES)

    async def _exchange(
        self, stream: _Stream, parts: list[bytes], sent: Callable[[], None] | None
    ) -> tuple[int, dict[str, str], bytes]:
        reader, writer = stream
        with _ended_unless_done(writer) as done:
            while parts:  # nothing is held longer than it takes to hand it to the kernel
                writer.write(parts.pop(0))
                await writer.drain()
            if sent is not None:
                sent()
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:_HEAD_BYTES].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            status, length = int(first.split(" ")[1]), int(headers.get("content-length", "0"))
            body = await reader.readexactly(length)
            if headers.get("connection", "").lower() != "close":
                done.append(True)
                self._idle.append(stream)
        return status, headers, body


@contextlib.contextmanager
def _ended_unless_done(writer: asyncio.StreamWriter) -> Iterator[list[bool]]:
    """Abort the connection where the exchange did not come to its end: what it still brings belongs to nobody."""
    done: list[bool] = []
    try:
        yield done
    finally:
        if not done:
            writer.transport.abort()


def model_path(model: str, version: str, *more: str) -> str:
    """Return the path of a model, or of something of it.

    >>> model_path("a/b", "", "infer"), model_path("m", "2")
    ('/v2/models/a%2Fb/infer', '/v2/models/m/versions/2')
    """
    parts = [model, *(("versions", version) if version else ()), *more]
    return "/v2/models/" + "/".join(quote(part, "") for part in parts)


def _error(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return "the agent refuses"

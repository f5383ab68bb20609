"""The client's connection to the local API: HTTP/1.1 over a Unix socket or a loopback port, standard library only."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

from skerry_agent import sockets
from skerry_agent.errors import RequestError

_MAX_HEAD_BYTES = 65536
_MAX_PARTS = 64
_READ_BYTES = 65536  # more at once costs more memory from the system than it saves calls


class Wire:
    """One connection, opened when it is needed and kept."""

    def __init__(self, path: Path | None, port: int, token: str, timeout_s: float) -> None:
        self.socket: socket.socket | None = None
        self._path, self._port, self._token, self._timeout_s = path, port, token, timeout_s
        self._asked: tuple[str, str, int, int | None] | None = None
        self._head = self._said = b""
        self._answer: tuple[int, int, dict[str, str]] = (0, 0, {})

    def close(self) -> None:
        """Close it; the next call opens another."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def ask(
        self, method: str, path: str, parts: Sequence[bytes | memoryview], head_bytes: int | None
    ) -> tuple[dict[str, str], bytes]:
        """Return an answer's headers and body; a connection that broke since the last call is made anew.

        Raises:
            RequestError: the agent refuses (its status), or cannot be reached (503).
        """
        asked = (method, path, sum(map(len, parts)), head_bytes)
        if asked != self._asked:  # a program asks the same again and again
            self._asked, self._head = asked, self._lines(*asked)
        request = [self._head, *parts]
        kept = self.socket is not None
        try:
            status, headers, answer = self._exchange(request)
        except ConnectionError as error:
            self.close()
            if not kept:
                raise self._unreachable(error) from error
            try:  # a kept connection may have been closed while it was idle, or the agent was started anew
                status, headers, answer = self._exchange(request)
            except OSError as again:
                self.close()
                raise self._unreachable(again) from again
        except OSError as error:
            self.close()
            raise self._unreachable(error) from error
        if headers.get("connection", "").lower() == "close":
            self.close()
        if status != 200:
            raise RequestError(_error(answer), status=status)
        return headers, answer

    def _exchange(self, request: Sequence[bytes | memoryview]) -> tuple[int, dict[str, str], bytes]:
        if self.socket is None:
            self.socket = self._connect()
        _send(self.socket, request)
        received = self._more()
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > _MAX_HEAD_BYTES:
                raise ConnectionError("the answer is no HTTP")
            received += self._more()
        if (said := received[:end]) != self._said:
            self._answer = _read_head(said)
            self._said = said
        status, length, headers = self._answer
        chunks, missing = [received[end + 4 :]], end + 4 + length - len(received)
        while missing > 0:
            chunks.append(self._more())
            missing -= len(chunks[-1])
        return status, headers, b"".join(chunks)[:length]

    def _lines(self, method: str, path: str, body_bytes: int, head_bytes: int | None) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {body_bytes}"]
        if self._token:
            lines.append(f"Authorization: Bearer {self._token}")
        if head_bytes is not None:
            lines += ["Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {head_bytes}"]
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def _connect(self) -> socket.socket:
        if self._path is not None:
            return sockets.connect(self._path, self._timeout_s)
        made = socket.create_connection(("127.0.0.1", self._port), self._timeout_s)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _more(self) -> bytes:
        assert self.socket is not None
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError("the agent closed the connection")
        return data

    def _unreachable(self, error: OSError) -> RequestError:
        reason, where = error.strerror or str(error), self._path or f"127.0.0.1:{self._port}"
        return RequestError(
            f"no agent answers at {where}: {reason}", status=503, hint="is it running? see: skerry agent run"
        )


def _read_head(said: bytes) -> tuple[int, int, dict[str, str]]:
    """Return an answer's status, the length of its body, and its headers. Raises ConnectionError: it is no HTTP."""
    first, *lines = said.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    try:
        return int(first.split(" ")[1]), int(headers["content-length"]), headers
    except (IndexError, ValueError, KeyError) as error:
        raise ConnectionError("the answer is no HTTP") from error


def _send(connection: socket.socket, parts: Sequence[bytes | memoryview]) -> None:
    """Send all parts without putting them together first."""
    views = [memoryview(part) for part in parts if len(part)]
    while views:
        sent = connection.sendmsg(views[:_MAX_PARTS])
        while views and sent >= len(views[0]):
            sent -= len(views.pop(0))
        if sent:
            views[0] = views[0][sent:]


def _error(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return "the agent refuses"

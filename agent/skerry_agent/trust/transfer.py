"""HTTP to the fleet, for child processes: plain `http.client`, one connection, no redirects, every answer bounded."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from skerry_agent.errors import NetworkError, TrustError
from skerry_contracts.device import Reason

CHUNK_BYTES = 256 * 1024
TIMEOUT_S = 20.0
MAX_ANSWER_BYTES = 1024 * 1024


class Fleet:
    """The fleet's HTTP side. `ca_pem` is believed beside the system's authorities where the address is https."""

    def __init__(self, url: str, *, token: str = "", ca_pem: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """Take an address apart.

        Raises:
            NetworkError: it is no http or https address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NetworkError(f"{url!r:.120} is no address", hint="give it as http://HOST:PORT or https://HOST:PORT")
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._where = parts.netloc
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            if ca_pem is not None:
                context.load_verify_locations(cadata=ca_pem)
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout_s, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def get(self, path: str, *, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
        """Return a small document.

        Raises:
            NetworkError: no answer, not 200, or more bytes than allowed.
        """
        return b"".join(self.stream(path, max_bytes=max_bytes)[1])

    def post(self, path: str, body: bytes) -> bytes:
        """Send a JSON document and return the answer.

        Raises:
            NetworkError: no answer, or an unreadable one.
            TrustError: the fleet said no (4xx); its words are passed on.
        """
        answer = self._ask("POST", path, body, {"Content-Type": "application/json"})
        try:
            data = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        if 400 <= answer.status < 500:
            message, hint = _words(data)
            raise TrustError(f"the fleet refused: {message}", reason=Reason.UNSIGNED, hint=hint)
        if answer.status not in (200, 201) or len(data) > MAX_ANSWER_BYTES:
            raise NetworkError(f"{self._where}{path}: HTTP {answer.status}", hint="is this the fleet's address?")
        return data

    def stream(self, path: str, *, max_bytes: int, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """Return where an answer begins (0, where the server knows no ranges) and its pieces.

        Raises:
            NetworkError: no answer, another status, a range that was not asked for; while reading, a cut or too many
            bytes.
        """
        answer = self._ask("GET", path, None, {"Range": f"bytes={offset}-"} if offset else {})
        if answer.status == 206 and offset:
            if not (answer.getheader("Content-Range") or "").startswith(f"bytes {offset}-"):
                self._connection.close()
                raise NetworkError(f"{self._where}{path}: another range than the one asked for")
            return offset, self._pieces(answer, path, max_bytes - offset)
        if answer.status != 200:
            message, _ = _words(answer.read(4096))
            self._connection.close()
            raise NetworkError(f"{self._where}{path}: HTTP {answer.status} {message}".strip())
        return 0, self._pieces(answer, path, max_bytes)

    def _pieces(self, answer: http.client.HTTPResponse, path: str, max_bytes: int) -> Iterator[bytes]:
        received = 0
        try:
            while piece := answer.read(CHUNK_BYTES):
                received += len(piece)
                if received > max_bytes:
                    self._connection.close()
                    raise NetworkError(f"{self._where}{path}: more than {max_bytes} bytes")
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        for fresh in (False, True):
            try:
                if fresh:
                    self._connection.close()
                self._connection.request(method, self._prefix + path, body, {**self._headers, **headers})
                return self._connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                if fresh or method != "GET":  # a kept connection may have been closed meanwhile: once more
                    raise self._lost(error) from error
        raise AssertionError("unreachable")

    def _lost(self, error: Exception) -> NetworkError:
        self._connection.close()
        words = str(error) or type(error).__name__
        return NetworkError(f"{self._where}: {words}", hint="check the address and the network")


def _words(data: bytes) -> tuple[str, str]:
    """Return message and hint of the fleet's JSON error; empty where there is none."""
    try:
        error = json.loads(data)["error"]
        return str(error["message"])[:300], str(error.get("hint") or "")[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""

"""The fleet's HTTP API as a few calls, for the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from skerry_fleet.errors import FleetError, InputError, UnavailableError
from skerry_fleet.patience import CHANGING, new_key, patiently

TIMEOUT_S = 60.0
LONG_BYTES = 8_000_000
"""Uploads of more show how far they are."""


class FleetClient:
    """Talks to one fleet with one key."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"authorization": f"Bearer {key}"}
        try:
            self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT_S, trust_env=False)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise InputError(f"--url {url!r:.80}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def call(self, method: str, path: str, **parts: Any) -> Any:
        """Make one request, patiently (see `patience.py`), and return its JSON. Where `content` can be called, it gives
        the pieces of a body, from the beginning each time.

        Raises:
            FleetError: no answer, or a refusal in the fleet's own words.
        """
        headers, content = dict(parts.pop("headers", {})), parts.get("content")
        if method in CHANGING:
            headers.setdefault("idempotency-key", new_key())

        def send() -> httpx.Response:
            given = {**parts, "content": content()} if callable(content) else parts
            return self._http.request(method, path, headers=headers, **given)

        try:
            answer = patiently(method, path, send)
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise self._lost(error) from error
        return self._plain(answer, path)

    def _lost(self, error: Exception) -> UnavailableError:
        return UnavailableError(
            f"no fleet at {self._http.base_url}: {error or type(error).__name__}",
            hint="is `skerry fleet serve` running, and is --url its address?",
        )

    def _plain(self, answer: httpx.Response, path: str) -> Any:
        """Return an answer's JSON, or raise what the fleet refused."""
        try:
            plain = answer.json()
        except ValueError as error:
            raise UnavailableError(f"{path}: the answer is no JSON", hint="is --url a fleet?") from error
        if answer.status_code >= 400:
            said = plain.get("error", {}) if isinstance(plain, dict) else {}
            raise FleetError(
                str(said.get("message", f"status {answer.status_code}")),
                hint=str(said.get("hint", "")),
                code=str(said.get("code", "refused")),
                status=answer.status_code,
            )
        return plain

    def text(self, path: str) -> str:
        """Return an answer that is no JSON.

        Raises:
            FleetError: no answer, or a refusal.
        """
        try:
            answer = patiently("GET", path, lambda: self._http.get(path))
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise self._lost(error) from error
        return answer.text if answer.status_code == 200 else str(self._plain(answer, path))

    def events(self) -> Iterator[tuple[str, Any]]:
        """Give events as they come, each with its kind, for as long as the fleet serves.

        Raises:
            FleetError: no answer, a refusal, or the fleet has ended.
        """
        path, kind = "/api/v1/events", "message"
        try:
            with self._http.stream("GET", path, timeout=httpx.Timeout(TIMEOUT_S)) as answer:
                if answer.status_code != 200:
                    answer.read()
                    self._plain(answer, path)
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data":
                        yield kind, json.loads(value)
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise self._lost(error) from error

    def items(self, path: str, most: int, **query: Any) -> list[dict[str, Any]]:
        """Return up to `most` items of a list, page by page."""
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while len(found) < most:
            wanted = {name: value for name, value in query.items() if value not in (None, "")}
            limit = {"limit": str(min(most - len(found), 1000))}
            answer = self.call("GET", path, params={**wanted, **limit, **after})
            found += answer["items"]
            if answer["next"] is None:
                break
            after = {"after": answer["next"]}
        return found

    def upload(self, path: str, file: Path, **query: str) -> Any:
        """Send a file as the body of a request.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            size = file.stat().st_size
            headers = {"content-type": "application/octet-stream", "content-length": str(size)}
            with file.open("rb") as content:
                return self.call("POST", path, content=lambda: _pieces(content, size), headers=headers, params=query)
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}") from error

    def download(self, path: str, file: Path, method: str = "POST") -> int:
        """Write an answer's body to a file, whole or not at all; return its size.

        Raises:
            FleetError: no answer, a refusal, or an answer cut short.
            InputError: the file cannot be written.
        """
        arriving = file.with_name(f"{file.name}.part")
        try:
            with self._http.stream(method, path) as answer:
                if answer.status_code != 200:
                    answer.read()
                    self._plain(answer, path)
                with arriving.open("wb") as out:
                    for piece in answer.iter_raw():
                        out.write(piece)
            size = arriving.stat().st_size
            arriving.replace(file)
            return size
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise self._lost(error) from error
        except OSError as error:
            raise InputError(f"cannot write {file}: {error.strerror}") from error
        finally:
            arriving.unlink(missing_ok=True)


def _pieces(content: BinaryIO, size: int) -> Iterator[bytes]:
    """Give a file's bytes from its beginning; on a terminal, say how far it is."""
    content.seek(0)
    sent, shown = 0, size > LONG_BYTES and sys.stderr.isatty()
    while piece := content.read(1 << 20):
        yield piece
        sent += len(piece)
        if shown:
            end = "\n" if sent >= size else ""
            print(f"\r{sent / 1e6:.0f} of {size / 1e6:.0f} MB", end=end, file=sys.stderr, flush=True)

"""The few calls that a compile makes to a fleet: a lease of a board, candidates up, figures down. Standard library
only, no proxy.
"""

from __future__ import annotations

import dataclasses
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from skerry_compiler.errors import CompileError, UsageError

TIMEOUT_S = 30.0
UPLOAD_S = 600.0
MAX_ANSWER_BYTES = 64 << 20


class LostError(CompileError):
    """The fleet gave no answer: it may be starting anew."""


class RefusedError(CompileError):
    """The fleet refused, in its own words."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """Where a fleet is, and the key that opens it (role `measurer` or above)."""

    url: str
    key: str = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--fleet {self.url!r:.80} is no address", hint="such as http://fleet.example:8707")
        if not self.key.startswith("sk1_") or not self.key.isascii() or not self.key.isprintable():
            raise UsageError(
                "--fleet-key holds no API key", hint="`skerry fleet key create NAME --role measurer` makes one"
            )

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON and return the answer's.

        Raises:
            LostError: no answer.
            RefusedError: refused, in the fleet's words.
        """
        return self._send(path, json.dumps(body).encode(), "application/json", TIMEOUT_S)

    def upload(self, path: str, file: Path, query: dict[str, int]) -> Any:
        """Send a file and return the answer's JSON; raises as `post`."""
        return self._send(
            f"{path}?{urllib.parse.urlencode(query)}", file.read_bytes(), "application/octet-stream", UPLOAD_S
        )

    def _send(self, path: str, content: bytes, kind: str, timeout_s: float) -> Any:
        headers = {"authorization": f"Bearer {self.key}", "content-type": kind}
        request = urllib.request.Request(self.url.rstrip("/") + path, content, headers, method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return _plain(answer.read(MAX_ANSWER_BYTES), path)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error.code, error.read(1 << 16), path) from error
        except (OSError, ValueError, urllib.error.URLError) as error:
            reason = getattr(error, "reason", None) or error
            hint = "is `skerry fleet serve` running, and is --fleet its address?"
            raise LostError(f"no fleet at {self.url}: {reason}", hint=hint) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key goes where the person said, and nowhere else."""

    def redirect_request(self, *unused: Any, **more: Any) -> None:
        return None


def _plain(content: bytes, path: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise RefusedError(f"{path}: the answer is no JSON", hint="is --fleet a fleet?") from error


def _refused(status: int, content: bytes, path: str) -> CompileError:
    """Return a refusal in the fleet's own words; a part of it that does not answer is like one that is not there."""
    try:
        said = json.loads(content)["error"]
        message, hint = str(said["message"]), str(said.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        message, hint = f"{path}: status {status}", "is --fleet a fleet?"
    if status == 403 and "role" in message:
        hint = hint or "`skerry fleet key create NAME --role measurer` makes a key that may"
    return RefusedError(f"the fleet refuses: {message}", hint=hint)

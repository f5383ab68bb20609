"""What strangers write, and a client that sends it as it is."""

from __future__ import annotations

import dataclasses
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI

# As they stand in an address: raw, encoded once, encoded twice.
NAMES = (
    "..",
    "%2e%2e%2f%2e%2e%2fadmin.key",
    "%252e%252e%252fadmin.key",
    "..\\..\\admin.key",
    "%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "http:%2f%2f169.254.169.254%2f",
    "a%00b",
    "%ed%a0%80",
    "%0d%0aset-cookie:%20x=1",
    "'%3b%20DROP%20TABLE%20device%3b--",
    "*",
    "-1",
    "9" * 40,
    "x" * 5000,
)
LEAKS = ("root:x:0", "Traceback", "sqlalchemy", "site-packages", "SELECT ", "sk1_")
VALUES: tuple[Any, ...] = (
    [],
    {},
    True,
    -1,
    10**400,
    -(10**400),
    1e308,
    2**63,
    "",
    "\0",
    "\ud800",
    "../../x",
    "..\\x",
    "%2e%2e%2f",
    "file:///etc/passwd",
    "=cmd|' /C calc'!A0",
    "a\r\n2026-01-01 INFO all is well",
    "<script>alert(1)</script>",
    "\x1b[2J\u202e",
    "x" * 100_000,
    ["\0"],
    ["../x"],
    {"\0": "\ud800"},
)
TEXTS = (
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"name":"a","name":"b"}',
    b'{"name":NaN}',
    b'{"name":Infinity}',
    b'{"name":-Infinity}',
    b'{"name":1e999}',
    b'{"name":' + b"9" * 10_000 + b"}",
    b'{"n\xff":1}',
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b'{"name":"\0"}',
    b"{} {}",
    b"{'name':'a'}",
    b"null",
    b"[]",
    b'"x"',
    b"5",
    b"\0",
)


@dataclasses.dataclass
class Stand:
    """A fleet that has something of everything, asked byte by byte: no client tidies what is sent."""

    app: FastAPI
    client: httpx.Client
    device: str

    def __post_init__(self) -> None:
        where = urlsplit(str(self.client.base_url))
        self.line = http.client.HTTPConnection(str(where.hostname), where.port, timeout=60)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        try:
            return self._ask(method, path, body)
        except (ConnectionError, http.client.RemoteDisconnected):
            self.line.close()  # it was idle for too long
            return self._ask(method, path, body)

    def _ask(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        key = f"Bearer {self.device}" if path.startswith(("/tuf", "/blobs", "/deltas", "/device")) else ""
        self.line.putrequest(method, path)
        self.line.putheader("authorization", key or self.client.headers["authorization"])
        self.line.putheader("content-length", str(len(body)))
        self.line.endheaders(body)
        answer = self.line.getresponse()
        return answer.status, answer.read().decode()

    def refused(self, method: str, path: str, body: bytes = b"") -> int:
        """Ask; hold a refusal against the one shape. Returns the status."""
        status, text = self.ask(method, path, body)
        said = f"{method} {path[:120]} {body[:60]!r}: {status} {text[:300]}"
        assert status < 500 and status != 429, said
        assert not any(leak in text for leak in LEAKS), said
        assert str(self.app.state.fleet.config.root) not in text, said
        if status >= 400:
            error = json.loads(text)["error"]
            assert set(error) == {"code", "message", "hint"} and error["message"], said
            assert len(text) < 2000, "what was sent is not sent back at length"
        return status

    def state(self) -> Any:
        lists = ("audit", "devices", "groups", "claims", "keys", "models", "rollouts", "routes", "mutes", "alerts")
        return [self.client.get(f"/api/v1/{each}").json() for each in lists]

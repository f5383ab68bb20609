"""A provider of identities that a test can turn against us: its own HTTP server, with answers as the test says."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT = "skerry-fleet"
KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})


@dataclasses.dataclass
class Provider:
    """What it says: `about` changes discovery, `keys` are published, `sign` makes the ID token of some claims."""

    url: str = ""
    key: RSAKey = dataclasses.field(default_factory=lambda: KEY)
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    keys: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    claims: dict[str, Any] = dataclasses.field(default_factory=dict)
    sign: Callable[[dict[str, Any]], str] | None = None
    token_status: int = 200
    nonce: str = ""
    challenge: str = ""
    asked: list[str] = dataclasses.field(default_factory=list)
    forms: list[dict[str, str]] = dataclasses.field(default_factory=list)
    back: str = ""
    """Where the authorization endpoint sends browsers, at once; they are asked for nothing."""
    raw: dict[str, bytes] = dataclasses.field(default_factory=dict)

    def token(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append(path)
        if path in self.raw:
            return 200, self.raw[path]
        if path.endswith("/openid-configuration"):
            base = {"issuer": self.url, "authorization_endpoint": f"{self.url}/authorize"}
            base |= {"token_endpoint": f"{self.url}/token", "jwks_uri": f"{self.url}/keys"}
            return 200, json.dumps({**base, **self.about}).encode()
        if path.startswith("/authorize?"):
            return 302, f"{self.back}?code=good&state={self.seen(path)}".encode()
        if path == "/keys":
            return 200, json.dumps({"keys": self.keys or [self.key.as_dict(private=False)]}).encode()
        if path == "/token":
            self.forms.append(form)
            proof = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
            if form.get("code") != "good" or proof.rstrip(b"=").decode() != self.challenge:
                return 400, b'{"error": "invalid_grant"}'
            token = (self.sign or self.token)({**self.claims, "nonce": self.nonce, **self.claims.get("override", {})})
            return self.token_status, json.dumps({"id_token": token, "token_type": "Bearer"}).encode()
        return 404, b"{}"

    def seen(self, location: str) -> str:
        """Take in where the browser was sent, as the authorization endpoint would; return the state."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert query["response_type"] == "code" and query["code_challenge_method"] == "S256"
        assert query["client_id"] == CLIENT and len(query["state"]) >= 32 and len(query["nonce"]) >= 32
        self.nonce, self.challenge = query["nonce"], query["code_challenge"]
        return query["state"]


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    found = Provider()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["content-length"])).decode()
            self._answer({name: values[0] for name, values in parse_qs(text).items()})

        def _answer(self, form: dict[str, str]) -> None:
            status, body = found.answer(self.path, form)
            self.send_response(status)
            if status == 302:
                self.send_header("location", body.decode())
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # a reader that has had enough
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()

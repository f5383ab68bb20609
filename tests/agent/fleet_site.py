"""What a device sees of a fleet over HTTP: the real trust office behind a plain server, with switches for trouble."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from skerry_contracts import codec
from skerry_contracts.assignment import target_path
from skerry_contracts.enrolment import ClaimToken, Enrolment, EnrolmentRequest
from skerry_fleet.trust.office import TrustOffice, open_office


class Site:
    """What the device sees of a fleet: enrolment, update repository, blobs, with switches for trouble."""

    def __init__(self, root: Path, now_s: float) -> None:
        self.root, self.now_s = root, now_s
        self.broker_port = 1
        self.office: TrustOffice = open_office(root, "default", now_s)
        self.blobs: dict[str, bytes] = {}
        self.cut_after: int | None = None
        self.seen: list[tuple[str, str | None]] = []
        self.ranges = True
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                site.seen.append((self.path, self.headers.get("Range")))
                status, data, headers = site.get(self.path, self.headers.get("Range"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if site.cut_after is not None and self.path.startswith("/blobs"):
                    self.wfile.write(data[: site.cut_after])
                    self.close_connection = True
                else:
                    self.wfile.write(data)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, data = site.enrol(codec.decode(EnrolmentRequest, body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.token = ClaimToken("claim0001", "s" * 40, self.office.trust_sha256)
        self.refuse = False
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def get(self, path: str, wanted: str | None) -> tuple[int, bytes, dict[str, str]]:
        if path == "/device/v1/trust":
            return 200, self.office.trust_document, {}
        if path == "/moved":
            return 302, b"", {"Location": "/device/v1/trust"}
        if path.startswith("/tuf/"):
            file = self.root / path.removeprefix("/")
            return (200, file.read_bytes(), {}) if file.is_file() else (404, b"", {})
        data = self.blobs.get(path.removeprefix("/blobs/"))
        if data is None:
            return 404, b'{"error": {"code": "missing", "message": "no such blob", "hint": ""}}', {}
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            return 206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        return 200, data, {}

    def enrol(self, request: EnrolmentRequest) -> tuple[int, bytes]:
        if self.refuse:
            return 403, b'{"error": {"code": "claim", "message": "the claim is used up", "hint": "make another"}}'
        pem = self.office.authority.issue_device(request.csr_pem, "default", request.device or "d1", self.now_s)
        return 200, codec.encode(
            Enrolment("default", request.device or "d1", pem, "127.0.0.1", self.broker_port, "token")
        )

    def publish(self, model: str, manifest: bytes, blobs: Mapping[str, bytes]) -> None:
        self.office.repository.register_model(model, self.now_s)
        path = target_path(model, codec.digest(manifest))
        self.office.repository.publish(path, manifest, {}, self.now_s)
        self.blobs.update(blobs)

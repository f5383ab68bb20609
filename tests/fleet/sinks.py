"""Where messages really arrive: an HTTP server that answers as told, and a mail server that keeps what it is given."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import socketserver
import threading
from collections.abc import Iterator


@dataclasses.dataclass
class HttpSink:
    """The requests that came, and the answers to give to the next ones (200 after these)."""

    url: str = ""
    answers: list[int] = dataclasses.field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class MailSink:
    """The mails that came, as they were sent."""

    port: int = 0
    mails: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def http_sink() -> Iterator[HttpSink]:
    sink = HttpSink()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            sink.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status = sink.answers.pop(0) if sink.answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        sink.url = f"http://127.0.0.1:{server.server_address[1]}/T0/hush-hush"
        yield sink


@contextlib.contextmanager
def mail_sink() -> Iterator[MailSink]:
    sink = MailSink()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 sink\r\n")
            while line := self.rfile.readline():
                word = line[:4].upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = []
                    while (text := self.rfile.readline()) not in (b".\r\n", b""):
                        lines.append(text.decode())
                    sink.mails.append("".join(lines))
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
                if word == b"QUIT":
                    break

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        sink.port = server.server_address[1]
        yield sink


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()

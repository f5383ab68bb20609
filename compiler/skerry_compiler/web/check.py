"""A web package in a headless browser: served from loopback under its own policy, asked for its answers to given rows,
its speed, and what its own page shows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from skerry_compiler.emulators.nodes import NO_SIMD
from skerry_compiler.errors import CompileError, LimitError, ToolError
from skerry_compiler.web import runtime
from skerry_compiler.web.package import FILES, NATIVE, Made, page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run", "--incognito")
TIME_LIMIT_S = 120
MOST_ANSWER_BYTES = 1 << 28
# With these the page's clock ticks in 5 µs instead of 100 (W3C High Resolution Time, section 7.1).
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
KINDS = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css"}
KINDS |= {".wasm": "application/wasm"}


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What a browser did with a package: the rows' answers, milliseconds to load and of one inference, and whether the
    package's own page passed its golden vectors, in its words.
    """

    browser: str
    answers: bytes
    load_ms: float
    run_ms: float
    passed: bool
    outcome: str


def browser() -> str | None:
    """Return the browser's command, None where there is none."""
    return next((each for each in BROWSERS if shutil.which(each)), None)


def version(command: str) -> str:
    """Return a browser's name and version."""
    said = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout.split()
    return f"chromium {next((each for each in said if each[:1].isdigit()), 'unknown')}"


def check(made: Made, rows: bytes, *, simd: bool = True, demo: bool = True, near: Path | None = None) -> Seen:
    """Return what a headless browser makes of a package.

    Args:
        made: the package.
        rows: whole rows, one after another.
        simd: whether the browser may have WebAssembly's SIMD.
        demo: whether the package's own page is shown, too.
        near: a folder where npm may have installed what the package needs.

    Raises:
        ToolError: no browser is here, or not the runtime that the package needs.
        CompileError: the package does not load or run there, in the page's words.
        LimitError: it takes too long.
    """
    command = browser()
    if command is None:
        raise ToolError("no browser is here to check it in", hint="install chromium")
    content = {**made.files, "check.js": (FILES / "check.js").read_bytes(), "-/rows": rows}
    content["check.html"] = page("check", made.engine, "check.js", "; frame-src 'self'")
    if made.engine != NATIVE:
        content |= runtime.served(near)
    with _serving(content) as (address, desk), tempfile.TemporaryDirectory(prefix="skerry-") as name:
        flags = [*FLAGS, f"--user-data-dir={name}/browser", *([] if simd else [f"--js-flags={NO_SIMD}"])]
        with _running([command, *flags, f"{address}/check.html{'?demo' if demo else ''}"], Path(name)) as process:
            _wait(process, desk)
    if desk.problem:
        raise CompileError(f"in the browser: {desk.problem[:300]}")
    done = desk.done or {}
    passed = done.get("state") == "passed"
    return Seen(version(command), desk.answers, done["load_ms"], done["run_ms"], passed, str(done.get("outcome", "")))


class _Desk:
    """Where the page leaves what it has to say."""

    def __init__(self) -> None:
        self.answers, self.problem = b"", ""
        self.done: dict[str, Any] | None = None
        self.said = threading.Event()

    def take(self, path: str, body: bytes) -> None:
        if path == "/-/answers":
            self.answers = body
        elif path == "/-/done":
            self.done = json.loads(body)
            self.said.set()
        elif path == "/-/problem":
            self.problem = " ".join(body.decode("utf-8", "replace").split()) or "an error without words"
            self.said.set()


@contextlib.contextmanager
def _serving(content: Mapping[str, bytes]) -> Iterator[tuple[str, _Desk]]:
    """Serve files on loopback; yield the address, and where the page's words arrive."""
    desk = _Desk()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0].lstrip("/")
            found = content.get(path)
            kind = KINDS.get(Path(path).suffix, "application/octet-stream")
            self._answer(404 if found is None else 200, found or b"", kind)

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length", "0"))
            if size > MOST_ANSWER_BYTES:
                return self._answer(413, b"", "text/plain")
            desk.take(self.path, self.rfile.read(size))
            self._answer(204, b"", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            for key, value in {**ISOLATED, "Content-Type": kind, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if status != 204:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", desk
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a browser with all its processes; yield it, and end all of them."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder)}
    quiet = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, cwd=folder, start_new_session=True
        )
    except OSError as error:
        raise ToolError(f"the browser does not start: {error.strerror}") from error
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], desk: _Desk) -> None:
    end = time.monotonic() + TIME_LIMIT_S
    while not desk.said.wait(0.1):
        if process.poll() is not None:
            raise ToolError(f"the browser ended with {process.returncode} before it said anything")
        if time.monotonic() > end:
            raise LimitError(f"the browser took more than {TIME_LIMIT_S} s")

"""A real browser for tests: Chromium without a window, spoken to over its DevTools pipe. No library needed.

Messages are JSON, each ended by a zero byte, on the browser's descriptors 3 (to it) and 4 (from it).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


class Browser:
    """One tab."""

    def __init__(self, to: int, back: int) -> None:
        self._to = to
        self._back = back
        self._rest = b""
        self._last = 0
        self._session: str | None = None
        self.console: list[str] = []
        """What pages complained of: scripts' errors and refusals of the content security policy."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """Ask the browser something and return its answer."""
        self._last += 1
        wanted = self._last
        message: dict[str, Any] = {"id": wanted, "method": method, "params": values}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for told in self._read():
                if told.get("id") == wanted:
                    assert "error" not in told, told
                    result: dict[str, Any] = told["result"]
                    return result
        raise AssertionError(f"the browser does not answer {method}")

    def _read(self) -> list[dict[str, Any]]:
        data = os.read(self._back, 1 << 20)
        assert data, "the browser has ended"
        *whole, self._rest = (self._rest + data).split(b"\0")
        found = [json.loads(each) for each in whole]
        for each in found:
            if each.get("method") == "Runtime.exceptionThrown":
                self.console.append(json.dumps(each["params"]["exceptionDetails"])[:500])
            elif each.get("method") == "Log.entryAdded":
                self.console.append(each["params"]["entry"]["text"])
        return found

    def run(self, script: str) -> Any:
        """Return what a script says in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str) -> Any:
        """Wait until a script says something true in the page; return it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):  # the page may be on its way out
                if found := self.run(script):
                    return found
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}\n{self.run('document.body.innerText')}")

    def go(self, url: str) -> None:
        """Open an address and wait until it is there."""
        self.run("window.__old = true")
        self.call("Page.navigate", url=url)
        self.arrived()

    def arrived(self) -> None:
        """Wait for a new page."""
        self.wait("document.readyState === 'complete' && !window.__old")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def look(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Choose the window's size and whether its user likes the dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def shoot(self, path: Path, *, whole: bool = False) -> None:
        """Keep a picture of the window, or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile; end it, and nothing else, afterwards."""
    program = next(found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name)))
    read, to = os.pipe()
    back, write = os.pipe()
    # Out of the way of 3 and 4, which the browser expects.
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (read, write)]
    actions: list[Any] = [(os.POSIX_SPAWN_DUP2, theirs[0], 3), (os.POSIX_SPAWN_DUP2, theirs[1], 4)]
    actions += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (1, 2)]
    command = [program, *FLAGS, f"--user-data-dir={profile}"]
    child = os.posix_spawn(program, command, dict(os.environ), file_actions=actions, setpgroup=0)
    for end in (read, write, *theirs):
        os.close(end)
    try:
        browser = Browser(to, back)
        yield browser
        with contextlib.suppress(AssertionError, OSError):
            browser._session = None
            browser.call("Browser.close")
    finally:
        os.close(to)
        os.close(back)
        _end(child)


def _end(child: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.02)
    os.killpg(child, 9)
    os.waitpid(child, 0)

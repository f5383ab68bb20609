"""The demonstration's progress: one line a step, live on a terminal, plain in a log."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

_CLEAR = "\r\x1b[2K"


class Screen:
    """Prints steps and remembers how many seconds each took."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._begun = time.monotonic()
        self._note = ""
        self.seconds: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._out, flush=True)

    def note(self, text: str) -> None:
        """Change the remark behind the running step."""
        self._note = text

    @contextlib.contextmanager
    def step(self, key: str, title: str) -> Iterator[None]:
        """Time one step and show that it runs."""
        began = time.monotonic()
        self._note = ""
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(title, began, done), daemon=True)
        if self._live:
            ticker.start()
        mark = "✗"
        try:
            yield
            mark = "✓"
        finally:
            done.set()
            if self._live:
                ticker.join()
            self.seconds[key] = round(time.monotonic() - began, 2)
            note = f"  {self._note}" if self._note else ""
            clear = _CLEAR if self._live else ""
            self.say(f"{clear}{mark} {title:<52} {self.seconds[key]:6.1f} s{note}")

    def _tick(self, title: str, began: float, done: threading.Event) -> None:
        marks = "|/-\\"
        turn = 0
        while not done.wait(0.15):
            turn += 1
            elapsed = time.monotonic() - began
            print(
                f"{_CLEAR}{marks[turn % 4]} {title:<52} {elapsed:6.1f} s  {self._note}",
                end="",
                file=self._out,
                flush=True,
            )

    @property
    def total_s(self) -> float:
        """Seconds since the screen was made."""
        return time.monotonic() - self._begun

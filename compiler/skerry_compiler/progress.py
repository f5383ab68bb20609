"""What a person sees while a compile works: one live line on a terminal, plain lines elsewhere, nothing when quiet.

Words are "stage: detail". A live line shows both with the time so far; plain lines show each stage once.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

TICK_S = 0.5

Say = Callable[[str], None]


@contextlib.contextmanager
def shown(*, quiet: bool, stream: TextIO | None = None) -> Iterator[Say]:
    """Return what to call with words; what is on the terminal's last line is gone afterwards."""
    out = sys.stderr if stream is None else stream
    if quiet:
        yield lambda words: None
    elif out.isatty():
        line = LiveLine(out)
        try:
            yield line.say
        finally:
            line.close()
    else:
        yield PlainLines(out).say


class LiveLine:
    """One line, written over whenever there are new words, and twice a second for the clock."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begun = time.monotonic()
        self._words = ""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._clock.start()

    def say(self, words: str) -> None:
        """Show words."""
        self._words = words
        self._draw()

    def close(self) -> None:
        """Take the line away."""
        self._ended.set()
        self._clock.join()
        self._out.write("\r\033[K")
        self._out.flush()

    def _tick(self) -> None:
        while not self._ended.wait(TICK_S):
            self._draw()

    def _draw(self) -> None:
        with self._lock:
            text = f"[{clock(time.monotonic() - self._begun)}] {self._words}"
            width = shutil.get_terminal_size().columns - 1
            self._out.write(f"\r\033[K{text if len(text) <= width else text[: width - 1] + '…'}")
            self._out.flush()


class PlainLines:
    """A line for each stage, with the time at which it began: for logs."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begun = time.monotonic()
        self._stage = ""
        self._lock = threading.Lock()

    def say(self, words: str) -> None:
        """Print the stage of the words if it is a new one."""
        stage = words.partition(":")[0]
        with self._lock:
            if stage and stage != self._stage:
                self._stage = stage
                self._out.write(f"[{clock(time.monotonic() - self._begun)}] {stage}\n")
                self._out.flush()


def clock(seconds: float) -> str:
    """Return a time as people read it.

    >>> clock(9.7), clock(75)
    ('9 s', '1 min 15 s')
    """
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"

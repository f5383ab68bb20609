"""What a person sees while a compile works: one live line on a terminal, plain lines elsewhere, nothing when quiet.

Words are "stage: detail". A live line shows both with the time so far; plain lines show each stage once. Whatever was
said last names the step in the error of a compile that runs out of memory or disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from skerry_compiler.errors import CompileError, LimitError

TICK_S = 0.5
DRAW_S = 0.1  # words that come faster are seen at the next one

Say = Callable[[str], None]


@contextlib.contextmanager
def shown(*, quiet: bool, stream: TextIO | None = None) -> Iterator[Say]:
    """Return what to call with words; what is on the terminal's last line is gone afterwards.

    Raises:
        LimitError: there was no memory left inside the with statement, or no room on the disk; says at which step.
    """
    out = sys.stderr if stream is None else stream
    live = not quiet and out.isatty() and os.environ.get("TERM") != "dumb"
    line = LiveLine(out) if live else Silence() if quiet else PlainLines(out)
    try:
        yield line.say
    except MemoryError as error:
        raise LimitError(
            f"out of memory{_at(line.words)}", hint="close other programs, or use a larger machine"
        ) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        hint = "free some room; TMPDIR says where work lies" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise (LimitError if hint else CompileError)(f"{_said(error)}{_at(line.words)}", hint=hint) from error
    finally:
        line.close()


def _said(error: OSError) -> str:
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"


def _at(words: str) -> str:
    return f", at the step: {words}" if words else ""


class Silence:
    """Nothing to see; it only remembers the last words."""

    def __init__(self) -> None:
        self.words = ""

    def say(self, words: str) -> None:
        """Take words."""
        self.words = words

    def close(self) -> None:
        """Do nothing more."""


class LiveLine:
    """One line, written over whenever there are new words, and twice a second for the clock."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begun = time.monotonic()
        self.words = ""
        self._drawn = 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._clock.start()

    def say(self, words: str) -> None:
        """Show words, now or soon."""
        self.words = words
        if time.monotonic() - self._drawn > DRAW_S:
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
            self._drawn = time.monotonic()
            text = f"[{clock(self._drawn - self._begun)}] {self.words}"
            width = shutil.get_terminal_size().columns - 1
            shown = "".join(each for each in text if each.isprintable())
            self._out.write(f"\r\033[K{shown if len(shown) <= width else shown[: width - 2] + '..'}")
            self._out.flush()


class PlainLines:
    """A line for each stage, with the time at which it began: for logs."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begun = time.monotonic()
        self._stage = ""
        self.words = ""
        self._lock = threading.Lock()

    def say(self, words: str) -> None:
        """Print the stage of the words if it is a new one."""
        self.words = words
        stage = words.partition(":")[0]
        with self._lock:
            if stage and stage != self._stage:
                self._stage = stage
                self._out.write(f"[{clock(time.monotonic() - self._begun)}] {stage}\n")
                self._out.flush()

    def close(self) -> None:
        """Leave the lines as they are."""


def clock(seconds: float) -> str:
    """Return a time as people read it.

    >>> clock(9.7), clock(75)
    ('9 s', '1 min 15 s')
    """
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"

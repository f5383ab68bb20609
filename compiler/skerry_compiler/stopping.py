"""A command that is asked to end (SIGTERM, as `timeout` and CI send it) ends as at Ctrl-C: its children are ended, its
folders removed.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def politely() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C during the with statement."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt

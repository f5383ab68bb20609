"""A deadline that costs little to set and nothing to lift: its timer is moved only when it would ring too late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

STOPPED_S = 0.5  # a deadline that is noticed so late: the supervisor itself did not run


class Deadline:
    """One deadline at a time, on the event loop; `missed` is told how many seconds were given. `due_s` stays until it
    is lifted.

    One that is missed by far is set once more: it was this process that did not run, and perhaps the other, too.
    """

    __slots__ = ("_given_s", "_loop", "_missed", "_timer", "due_s")

    def __init__(self, missed: Callable[[float], None]) -> None:
        self.due_s: float | None = None  # the loop's time; None: nothing is due
        self._given_s = 0.0
        self._missed = missed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Ring after so many seconds."""
        self._given_s, self.due_s = seconds, self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self.due_s:
            self._move(self.due_s)

    def lift(self) -> None:
        """Do not ring."""
        self.due_s = None

    def end(self) -> None:
        """Do not ring, and keep no timer: this deadline is not set again."""
        self.due_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _move(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when_s, self._ring)

    def _ring(self) -> None:
        self._timer, due_s, now_s = None, self.due_s, self._loop.time()
        if due_s is None:
            return
        if now_s < due_s:
            self._move(due_s)
        elif now_s - due_s > STOPPED_S:
            self.set(self._given_s)
        else:
            self._missed(self._given_s)

"""A worker's signs of life: it is asked, and where it says nothing for too long it is as good as hung."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from skerry_agent import worker_protocol
from skerry_agent.errors import WorkerError
from skerry_contracts.device import Reason


class Pulse:
    """Asks one worker at a time. `give_up(None)`: it is gone; with an error: it is to be ended for that."""

    def __init__(self, channel: socket.socket, give_up: Callable[[WorkerError | None], None]) -> None:
        self._channel, self._give_up = channel, give_up
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, deadline_s: float) -> None:
        """Ask, unless an answer is due. Patience is twice `deadline_s`: the machine itself may sleep through one."""
        if self._timer is not None:
            return
        try:
            self._channel.send(worker_protocol.PING_FRAME)
        except OSError:
            self._give_up(None)
            return
        self._timer = asyncio.get_running_loop().call_later(deadline_s, self._silent, deadline_s, True)

    def answered(self) -> bool:
        """Take an answer; returns whether it was asked for."""
        asked = self._timer is not None
        self.end()
        return asked

    def end(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _silent(self, deadline_s: float, once_more: bool) -> None:
        if once_more:
            self._timer = asyncio.get_running_loop().call_later(deadline_s, self._silent, deadline_s, False)
        else:
            self._timer = None
            words = f"no sign of life within {2 * deadline_s:g} s: killed"
            self._give_up(WorkerError(words, reason=Reason.TIMEOUT))

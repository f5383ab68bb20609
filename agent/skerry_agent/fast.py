"""The fast channel: inferences for programs on this device whose tensors lie in memory shared with the agent, asked for
by one small packet and answered by another.

Beside the HTTP socket and with the same permissions; the frames are in `fast_words`. A request takes the way of any
other (queue, deadline, watchdogs, statistics, samples, captures, load on demand); only HTTP and JSON are left out.

The agent makes the memory and hands it out as a descriptor: an anonymous file, sealed in its size, because touching a
page that is gone would kill the supervisor with SIGBUS. It takes no descriptor from a program: closing one may block
for as long as the program likes (a file system in user space, fuse(4)).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from pathlib import Path

from skerry_agent import fast_words, shm, sockets
from skerry_agent.errors import RequestError
from skerry_agent.fast_lane import Lane
from skerry_agent.hooks import Hooks
from skerry_agent.runtime import TRIAL, Runtime
from skerry_agent.slot import Slot

_RETRY_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class FastLimits:
    """What all programs together may take: connections, and the bytes of memory behind them.

    `open_s`: how long a connection may take to say what it wants. One that has asked nothing for `idle_s` makes room
    when there is none left; its program notices nothing but that it has to connect again.
    """

    connections: int = 32
    memory_bytes: int = 128 * 1024 * 1024
    open_s: float = 5.0
    idle_s: float = 60.0


class FastChannel:
    """Listens, and keeps the connections within the limits."""

    def __init__(self, runtime: Runtime, hooks: Hooks, limits: FastLimits | None = None) -> None:
        self.runtime, self.hooks, self.limits = runtime, hooks, limits or FastLimits()
        self._lanes: set[Lane] = set()
        self._path: Path | None = None
        self._listening: socket.socket | None = None
        self._retry: asyncio.TimerHandle | None = None

    def listen(self, path: Path) -> None:
        """Listen at a Unix socket (mode 0660).

        Raises:
            OSError: the path is taken or may not be used.
        """
        self._listening, self._path = sockets.listen(path, socket.SOCK_SEQPACKET), path
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Stop listening, end the connections and take the socket away."""
        for lane in list(self._lanes):
            lane.close()
        if self._retry is not None:
            self._retry.cancel()
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._path = None

    # What a lane asks.

    def slot(self, model: str) -> Slot:
        """Return the slot that serves a model now.

        Raises:
            RequestError: 404, there is none.
        """
        slot = self.runtime.slot(model) if TRIAL not in model else None
        if slot is None:
            known = ", ".join(self.runtime.models()) or "none"
            raise RequestError(f"no model {model!r:.80} here", status=404, hint=f"models: {known}")
        return slot

    def memory(self, inputs: list[int], outputs: list[int]) -> shm.Region:
        """Return new memory for tensors of these sizes in bytes.

        Raises:
            RequestError: 503, there is none, or too much is handed out and in use.
        """
        need, most = shm.offsets([*inputs, *outputs])[1], self.limits.memory_bytes
        while (used := sum(lane.size_bytes for lane in self._lanes)) + need > most:
            if not self._end_idle():
                words = f"no room: programs have {used} bytes of the agent's memory, at most {most} are given"
                raise RequestError(words, status=503, hint="ask over HTTP, or close what is not used")
        try:
            return shm.Region.create(inputs, outputs)
        except OSError as error:
            raise RequestError(f"no shared memory: {error.strerror}", status=503) from error

    def forget(self, lane: Lane) -> None:
        """Forget a connection that has ended."""
        self._lanes.discard(lane)

    def _end_idle(self) -> bool:
        """End the connection that has been idle longest; returns whether there was one."""
        before_s = asyncio.get_running_loop().time() - self.limits.idle_s
        idle = [lane for lane in self._lanes if lane.idle and lane.used_s < before_s]
        if idle:
            min(idle, key=lambda lane: lane.used_s).close()
        return bool(idle)

    def _accept(self) -> None:
        assert self._listening is not None
        loop = asyncio.get_running_loop()
        for _ in range(self.limits.connections):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors: what waits would wake the loop again at once
                loop.remove_reader(self._listening)
                self._retry = loop.call_later(_RETRY_S, loop.add_reader, self._listening, self._accept)
                return
            connection.setblocking(False)
            if len(self._lanes) < self.limits.connections or self._end_idle():
                self._lanes.add(Lane(self, connection, self.limits.open_s))
                continue
            with connection, contextlib.suppress(OSError):
                connection.send(fast_words.failed(0, 503, "too many connections"))

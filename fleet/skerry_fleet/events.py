"""Event streams: what was committed, told to browsers and programs (server-sent events).

A slow reader loses its oldest events and is told so; nobody waits for it. Frequent kinds are told at most twice a
second for each subject: a stream says that something changed, the API says what.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from skerry_fleet.database import Event

QUEUE = 256
QUIET_S = 0.5
HIDDEN = frozenset({"assignment", "key"})


class Hub:
    """Hands events to everyone who listens. Lives in one event loop; `publish` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._readers: set[_Reader] = set()
        self._waiting: dict[tuple[str, str, str], Event] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False

    def publish(self, events: Iterable[Event]) -> None:
        """Tell these events soon."""
        shown = [event for event in events if event.kind not in HIDDEN]
        if shown and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, shown)

    def close(self) -> None:
        """End every stream; needed before the server can stop."""
        self.closed = True
        for reader in self._readers:
            reader.ready.set()

    async def stream(self, tenant: str, idle_s: float) -> AsyncIterator[bytes]:
        """Yield a tenant's events in the format of server-sent events, a comment where nothing happens for `idle_s`."""
        reader = _Reader(tenant)
        self._readers.add(reader)
        try:
            yield b": skerry\n\n"
            while not self.closed:
                try:
                    async with asyncio.timeout(idle_s):
                        await reader.ready.wait()
                except TimeoutError:
                    yield b": idle\n\n"
                    continue
                reader.ready.clear()
                lost, reader.lost = reader.lost, 0
                if lost:
                    yield _format("lost", {"events": lost})
                while reader.queue:
                    event = reader.queue.popleft()
                    yield _format(event.kind, event.data)
        finally:
            self._readers.discard(reader)

    def _take(self, events: list[Event]) -> None:
        for event in events:
            # The newest word on a subject replaces those that were not told yet.
            subject = str(next(iter(event.data.values()), ""))
            self._waiting.pop((event.tenant, event.kind, subject), None)
            self._waiting[event.tenant, event.kind, subject] = event
        if self._timer is None:
            self._flush()
            self._timer = self._loop.call_later(QUIET_S, self._later)

    def _later(self) -> None:
        self._timer = None
        if self._waiting:
            self._flush()
            self._timer = self._loop.call_later(QUIET_S, self._later)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for event in waiting.values():
            for reader in self._readers:
                if reader.tenant == event.tenant:
                    reader.put(event)


class _Reader:
    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.queue: deque[Event] = deque()
        self.ready = asyncio.Event()
        self.lost = 0

    def put(self, event: Event) -> None:
        if len(self.queue) >= QUEUE:
            self.queue.popleft()
            self.lost += 1
        self.queue.append(event)
        self.ready.set()


def _format(kind: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(data))

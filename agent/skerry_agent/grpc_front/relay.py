"""Who asks: connections are taken here, where the kernel says whose they are, and handed on to the gRPC library.

The library takes no connection that somebody else accepted, sets no mode on its socket and does not tell its handlers
who is at the other end. So it listens at a socket in a folder that only the agent's user may enter; each connection it
gets there is bound to a name of its own, and by that name a call finds its caller. A call from anywhere else finds
none, and is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import socket

from skerry_agent.peers import Peer

_CONNECT_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """One connection's other end; `guarded`: it came by the port, and has to bear the token where one is asked for."""

    peer: Peer
    guarded: bool


class Relay:
    """Takes connections and passes their bytes on to the server at `inner`; more than `connections` are closed."""

    def __init__(self, inner: str, *, connections: int = 32) -> None:
        self.callers: dict[str, Caller] = {}
        self._inner = inner
        self._connections = connections
        self._secret, self._count = secrets.token_hex(8), 0
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[object]] = set()

    async def serve(self, listening: socket.socket) -> None:
        """Take connections from a listening socket, which is closed in the end."""
        loop = asyncio.get_running_loop()
        local = listening.family == socket.AF_UNIX
        make = loop.create_unix_server if local else loop.create_server
        self._servers.append(await make(lambda: _Outer(self, guarded=not local), sock=listening))

    def close(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()

    def caller(self, peer: str) -> Caller | None:
        """Return who is behind a call, by what the library says of its connection; None: not one of ours."""
        return self.callers.get(peer.removeprefix("unix-abstract:"))

    def connect(self, outer: _Outer, caller: Caller) -> str:
        """Open the inner half of a connection and return its name.

        Raises:
            OSError: there are too many connections, or the server is gone.
        """
        if len(self.callers) >= self._connections:
            raise ConnectionRefusedError("too many connections")
        self._count += 1
        name = f"skerry-{self._secret}-{self._count}"
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.bind(f"\0{name}")
            made.settimeout(_CONNECT_S)  # on this machine, and so at once, unless the server's queue is full
            made.connect(self._inner)
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
        self.callers[name] = caller
        opening = asyncio.get_running_loop().create_unix_connection(lambda: _Half(outer), sock=made)
        task: asyncio.Task[object] = asyncio.ensure_future(opening)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return name


class _Half(asyncio.Protocol):
    """One side of a relayed connection: what it hears, the other says, as fast as that can."""

    def __init__(self, other: _Half | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.other is None or self.other.transport is None:
            transport.abort()  # the other side has gone meanwhile
            return
        self.other.other = self
        self.other.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Outer(_Half):
    """The client's side."""

    def __init__(self, relay: Relay, *, guarded: bool) -> None:
        super().__init__()
        self._relay, self._guarded, self._name = relay, guarded, ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()  # until the other half stands
        caller = Caller(Peer(transport.get_extra_info("socket")), self._guarded)
        try:
            self._name = self._relay.connect(self, caller)
        except OSError:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        with contextlib.suppress(KeyError):
            del self._relay.callers[self._name]
        super().connection_lost(exc)

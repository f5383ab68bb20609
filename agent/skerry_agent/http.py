"""A small HTTP/1.1 server on asyncio: keep-alive, one request at a time a connection, a limit on everything.

Knows nothing of inference: a handler gets a whole request and returns a whole response. Nothing a client does, or fails
to do, takes more than its one connection (http_connection.py), the stated bytes and the stated seconds.
"""

from __future__ import annotations

import asyncio
import socket

from skerry_agent.http_connection import Connection
from skerry_agent.http_words import Handler, HttpLimits

SCRATCH_BYTES = 64 * 1024


class HttpServer:
    """Listens on any number of sockets.

    TCP connections are local ones, guarded against web pages (see `_refuse_browser`); with `token` each of their
    requests must bear it.
    """

    def __init__(self, handler: Handler, limits: HttpLimits | None = None) -> None:
        self.handler = handler
        self.token: str | None = None
        self.limits = limits or HttpLimits()
        self.connections: set[Connection] = set()
        self.closed = False
        self.scratch = bytearray(SCRATCH_BYTES)  # what comes first of a request: read by one connection at a time
        self._servers: list[asyncio.Server] = []
        self._listening: list[socket.socket] = []

    async def serve(self, listening: socket.socket) -> None:
        """Serve on a listening socket, which the server closes in the end."""
        loop = asyncio.get_running_loop()
        local = listening.family == socket.AF_UNIX
        make = loop.create_unix_server if local else loop.create_server
        self._listening.append(listening)
        self._servers.append(await make(lambda: Connection(self, guarded=not local), sock=listening))

    async def close(self) -> None:
        """Stop listening and end every connection; an answer under way is given up."""
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening)
        # asyncio trips over a connection that is being accepted when its server closes, and leaks it: let those come in
        # first.
        await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        self.closed = True
        for connection in list(self.connections):
            connection.end()
        while self.connections:  # until the loop has closed their sockets
            await asyncio.sleep(0)
        await asyncio.gather(*(server.wait_closed() for server in self._servers))
        self._servers.clear()
        self._listening.clear()

"""A small HTTP/1.1 server on asyncio and h11: keep-alive, one request at a time a connection, a limit on everything.

Knows nothing of inference: a handler gets a whole request and returns a whole response. Nothing a client does, or fails
to do, takes more than its one connection, the stated bytes and the stated seconds.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Hashable

import h11

from skerry_agent import api_token
from skerry_agent.crowd import gives_way
from skerry_agent.errors import AgentError, RequestError
from skerry_agent.http_words import Handler, HttpLimits, Request, Response, error_response, refusal, refuse_browser
from skerry_agent.peers import Peer


class HttpServer:
    """Listens on any number of sockets.

    TCP connections are local ones, guarded against web pages (see `refuse_browser`); with `token` each of their
    requests must bear it.
    """

    def __init__(self, handler: Handler, limits: HttpLimits | None = None) -> None:
        self.handler = handler
        self.token: str | None = None
        self.limits = limits or HttpLimits()
        self.connections: set[Connection] = set()
        self.closed = False
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


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: HttpServer, *, guarded: bool) -> None:
        self._server = server
        self._limits = server.limits
        self._guarded = guarded
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=server.limits.header_bytes)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head: h11.Request | None = None
        self._body: list[bytes | bytearray] = []
        self._body_bytes = 0
        self._body_limit = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s: float | None = None
        self._reading = False
        self._ending = False
        self._early = b""
        self._half_closed = False
        self._peer = Peer()
        self.client: Hashable = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._server.closed:  # accepted in the last instant
            transport.abort()
            return
        self._peer = Peer(transport.get_extra_info("socket"))
        self.client = self._peer.client()
        if len(self._server.connections) >= self._limits.connections:
            other = gives_way(self._server.connections, self.client, self._loop.time())
            if other is None:
                self._fail("too many connections", 503)
                return
            other.end()
            self._server.connections.discard(other)
        self._server.connections.add(self)
        self._expect(self._limits.idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._server.connections.discard(self)
        self._transport = None
        self._expect(None)

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the client does not read."""
        self._expect(self._limits.write_s)

    def resume_writing(self) -> None:
        """See asyncio.Protocol: it reads again."""
        self._expect(self._limits.idle_s)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._ending or self._transport is None or self._transport.is_closing():
            return
        if self._task is not None:  # a request is being answered: what comes early waits here, the rest in the kernel
            self._early += data
            self._transport.pause_reading()
            return
        if not self._reading:
            self._reading = True
            self._expect(self._limits.read_s)
        self._step(data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol: the client has said all it will; it still gets the answer under way."""
        self._half_closed = True
        if self._task is not None and self._peer.hung_up():
            self.end()
        return self._task is not None

    @property
    def idle_since_s(self) -> float | None:
        """Since when it has had no request (the loop's time); None: it has one."""
        busy = self._task is not None or self._reading or self._due_s is None
        return None if busy or self._due_s is None else self._due_s - self._limits.idle_s

    def end(self) -> None:
        """Close at once; what is being answered is given up."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _step(self, data: bytes | None) -> None:
        try:
            if data is not None:
                self._http.receive_data(data)
            self._advance()
        except h11.RemoteProtocolError as error:
            self._fail(f"not HTTP: {error}", error.error_status_hint)
        except RequestError as error:
            self._fail(str(error), error.status)

    def _advance(self) -> None:
        """Take from h11 what has come so far."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._body_bytes += len(event.data)
                if self._body_bytes > self._body_limit:
                    raise RequestError(f"a body of more than {self._body_limit} bytes", status=413)
                self._body.append(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._expect(None)
                assert self._head is not None
                self._task = self._loop.create_task(self._respond(self._head, b"".join(self._body)))
                self._task.add_done_callback(self._responded)
            else:
                if isinstance(event, h11.ConnectionClosed) and self._transport is not None:
                    self._transport.close()
                return

    def _begin(self, head: h11.Request) -> None:
        headers = dict(head.headers)
        if sum(len(name) + len(value) for name, value in head.headers) + len(head.target) > self._limits.header_bytes:
            raise RequestError(f"more than {self._limits.header_bytes} bytes of headers", status=431)
        path = head.target.partition(b"?")[0]
        if self._guarded:
            refuse_browser(headers)
            token = self._server.token
            if token is not None and not api_token.matches(token, headers.get(b"authorization", b"")):
                raise RequestError("this port asks for a token: Authorization: Bearer <see run/api.token>", status=401)
        self._head, self._body, self._body_bytes = head, [], 0
        self._body_limit = self._server.handler.body_limit(head.method.decode("ascii"), path.decode("ascii"))
        length = headers.get(b"content-length", b"0")
        if int(length) > self._body_limit:
            raise RequestError(f"a body of {int(length)} bytes, at most {self._body_limit} are taken", status=413)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise RequestError("compressed bodies are not taken", status=415)
        if self._http.they_are_waiting_for_100_continue and self._transport is not None:
            self._transport.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")

    async def _respond(self, head: h11.Request, body: bytes) -> None:
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        path = head.target.partition(b"?")[0].decode("ascii")
        try:
            request = Request(head.method.decode("ascii"), path, headers, body, self._peer)
            response = await self._server.handler.handle(request)
        except AgentError as error:
            response = refusal(error)
        self._task, self._head, self._body = None, None, []
        if response.after is not None:
            self._loop.call_soon(response.after)
        if self._transport is None or self._transport.is_closing():
            return
        self._send(response)
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if not done or (self._half_closed and not self._early and not self._http.trailing_data[0]):
            self._transport.close()  # HTTP/1.0, or the client asked for it
            return
        self._http.start_next_cycle()
        self._reading = False
        if self._due_s is None:  # set where the client does not read
            self._expect(self._limits.idle_s)
        if self._early:
            early, self._early = self._early, b""
            self._transport.resume_reading()
            self.data_received(early)
        else:
            self._step(None)

    def _responded(self, task: asyncio.Task[None]) -> None:
        """Answer for a handler that failed in a way it does not foresee: the client must not wait for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._task = None
            self._fail("the agent failed: see its log", 500)
            self._loop.call_exception_handler({"message": "a request failed", "exception": error, "task": task})

    def _send(self, response: Response) -> None:
        headers = [(b"content-type", response.content_type.encode()), (b"content-length", b"%d" % len(response.body))]
        headers += [(name.encode(), value.encode()) for name, value in response.headers]
        parts = [
            self._http.send(h11.Response(status_code=response.status, headers=headers)),
            self._http.send(h11.Data(data=response.body)),
            self._http.send(h11.EndOfMessage()),
        ]
        if self._transport is not None:
            self._transport.write(b"".join(part for part in parts if part))

    def _fail(self, message: str, status: int) -> None:
        """Answer, if an answer can still be said, and close: what follows in the stream cannot be trusted to be a
        request.
        """
        if self._transport is None:
            return
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = error_response(message, status)
            more = (("www-authenticate", "Bearer"),) if status == 401 else ()
            self._send(Response(status, response.body, headers=(("connection", "close"), *more)))
        # Closing with unread bytes resets the connection, and the client would never see the answer: read on for a
        # little.
        self._ending = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._expect(self._limits.linger_s)

    def _expect(self, seconds: float | None) -> None:
        """Give the client that long for its next step; None: the next step is ours.

        The timer is only moved when it would ring too late: asking for one with every request costs more than reading
        it.
        """
        self._due_s = None if seconds is None or self._transport is None else self._loop.time() + seconds
        if self._due_s is not None and (self._timer is None or self._timer.when() > self._due_s):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._due_s, self._ring)
        elif self._transport is None and self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        if self._due_s is not None and self._loop.time() < self._due_s:
            self._timer = self._loop.call_at(self._due_s, self._ring)
        elif self._due_s is not None:
            self._due_s = None
            self._late()

    def _late(self) -> None:
        if self._transport is None:
            return
        if self._reading and self._task is None and not self._ending and not self._transport.is_closing():
            self._fail("the request came too slowly", 408)
        else:
            self._transport.abort()

"""One client of the HTTP server: plain requests are read at once (http_plain.py), all others by h11."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

import h11

from skerry_agent.crowd import gives_way
from skerry_agent.deadline import Deadline
from skerry_agent.errors import AgentError, RequestError
from skerry_agent.http_plain import Head, PlainReader, check_stranger, render
from skerry_agent.http_words import Request, Response, Server, error_response, refusal
from skerry_agent.peers import Peer


class Connection(asyncio.BufferedProtocol):
    """One client."""

    def __init__(self, server: Server, *, guarded: bool) -> None:
        self._server = server
        self._limits = server.limits
        self._guarded = guarded
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=server.limits.header_bytes)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head = Head("", "", {}, 0)
        self._body: list[bytes | bytearray] = []
        self._body_bytes = self._body_limit = 0
        self._task: asyncio.Task[None] | None = None
        self._patience = Deadline(self._late)
        self._reading = False
        self._ending = False
        self._early = b""
        self._half_closed = False
        self._peer = Peer()
        self.client: Hashable = None
        self._plain = PlainReader()
        self._plainly = False  # whether the request that is being answered was plain
        self._give_up: Callable[[], None] | None = None

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
        self._patience.end()

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the client does not read."""
        self._expect(self._limits.write_s)

    def resume_writing(self) -> None:
        """See asyncio.Protocol: it reads again."""
        self._expect(self._limits.idle_s)

    @property
    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None or self._give_up is not None

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        return self._plain.rest if self._plain.rest is not None else memoryview(self._server.scratch)

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        if self._plain.rest is not None:
            if self._plain.came(nbytes):
                self._begin()
        elif self._reading or self._busy or self._ending or not self._take_plain(nbytes):
            self._received(bytes(self._server.scratch[:nbytes]))

    def _take_plain(self, nbytes: int) -> bool:
        """Take what came as the beginning of a plain request; returns whether it is one that can be taken."""
        if not self._plain.take(self._server.scratch, nbytes, self._limits.header_bytes, self._allowed):
            return False
        self._reading = True
        if self._plain.rest is None:
            self._begin()
        else:
            self._expect(self._limits.read_s)
        return True

    def _allowed(self, head: Head) -> bool:
        """Return whether a plain request can be taken as it is; if not, h11's way says why."""
        if self._guarded:
            try:
                check_stranger(head.headers, self._server.token)
            except RequestError:
                return False
        return head.length <= self._server.handler.body_limit(head.method, head.path)

    def _begin(self) -> None:
        """Answer a plain request that is whole."""
        self._expect(None)
        head, body = self._plain.whole()
        request = Request(head.method, head.path, head.headers, body, self._peer)
        self._plainly, self._give_up = True, _nothing
        try:
            give_up = self._server.handler.begin(request, self._tell)
        except AgentError as error:
            self._tell(refusal(error))
            return
        if give_up is None:
            self._give_up = None
            self._start(request)
        elif self._give_up is not None:  # not told yet
            self._give_up = give_up

    def _received(self, data: bytes) -> None:
        if self._ending or self._transport is None or self._transport.is_closing():
            return
        if self._busy:  # a request is being answered: what comes early waits here, the rest in the kernel
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
        if self._busy and self._peer.hung_up():
            self.end()
        return self._busy

    @property
    def idle_since_s(self) -> float | None:
        """Since when it has had no request (the loop's time); None: it has one."""
        due_s = self._patience.due_s
        return None if self._busy or self._reading or due_s is None else due_s - self._limits.idle_s

    def end(self) -> None:
        """Close at once; what is being answered is given up."""
        if self._task is not None:
            self._task.cancel()
        if self._give_up is not None:
            self._give_up()
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
                self._begin_other(event)
            elif isinstance(event, h11.Data):
                self._body_bytes += len(event.data)
                if self._body_bytes > self._body_limit:
                    raise RequestError(f"a body of more than {self._body_limit} bytes", status=413)
                self._body.append(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._expect(None)
                head, body = self._head, b"".join(self._body)
                self._start(Request(head.method, head.path, head.headers, body, self._peer))
            else:
                if isinstance(event, h11.ConnectionClosed) and self._transport is not None:
                    self._transport.close()
                return

    def _begin_other(self, head: h11.Request) -> None:
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        if sum(len(name) + len(value) for name, value in head.headers) + len(head.target) > self._limits.header_bytes:
            raise RequestError(f"more than {self._limits.header_bytes} bytes of headers", status=431)
        if self._guarded:
            check_stranger(headers, self._server.token)
        method, path = head.method.decode("ascii"), head.target.partition(b"?")[0].decode("ascii")
        length = int(headers.get("content-length", "0"))
        self._head, self._body, self._body_bytes = Head(method, path, headers, length), [], 0
        self._body_limit = self._server.handler.body_limit(method, path)
        if length > self._body_limit:
            raise RequestError(f"a body of {length} bytes, at most {self._body_limit} are taken", status=413)
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise RequestError("compressed bodies are not taken", status=415)
        if self._http.they_are_waiting_for_100_continue and self._transport is not None:
            self._transport.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")

    def _start(self, request: Request) -> None:
        self._task = self._loop.create_task(self._respond(request))
        self._task.add_done_callback(self._responded)

    async def _respond(self, request: Request) -> None:
        try:
            response = await self._server.handler.handle(request)
        except AgentError as error:
            response = refusal(error)
        self._tell(response)

    def _tell(self, response: Response) -> None:
        """Answer, and be ready for the next request."""
        self._task, self._give_up, self._body = None, None, []
        if response.after is not None:
            self._loop.call_soon(response.after)
        if self._transport is None or self._transport.is_closing():
            return
        plainly, self._plainly = self._plainly, False
        if plainly:
            self._transport.write(render(response))
        else:
            self._send(response)
        done = plainly or (self._http.our_state is h11.DONE and self._http.their_state is h11.DONE)
        if not done or (self._half_closed and not self._early and not self._http.trailing_data[0]):
            self._transport.close()  # HTTP/1.0, or the client asked for it
            return
        if not plainly:
            self._http.start_next_cycle()
        self._reading = not plainly and bool(self._http.trailing_data[0])  # h11 may have the next one's beginning
        if self._patience.due_s is None:  # set where the client does not read
            self._expect(self._limits.read_s if self._reading else self._limits.idle_s)
        if self._early:
            early, self._early = self._early, b""
            self._transport.resume_reading()
            self._received(early)
        elif not plainly:
            self._step(None)

    def _responded(self, task: asyncio.Task[None]) -> None:
        """Answer for a handler that failed in a way it does not foresee: the client must not wait for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._task, self._plainly = None, False
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
        """Answer, if that can still be said, and close: what follows in the stream may be no request."""
        if self._transport is None:
            return
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = error_response(message, status)
            more = (("www-authenticate", "Bearer"),) if status == 401 else ()
            self._send(Response(status, response.body, headers=(("connection", "close"), *more)))
        # Closing with unread bytes resets the connection, and the client would never see the answer: read on a little.
        self._ending, self._plain.rest = True, None
        self._transport.write_eof()
        self._transport.resume_reading()
        self._expect(self._limits.linger_s)

    def _expect(self, seconds: float | None) -> None:
        """Give the client that long for its next step; None: the next step is ours."""
        if seconds is None or self._transport is None:
            self._patience.lift()
        else:
            self._patience.set(seconds)

    def _late(self, _: float) -> None:
        self._patience.lift()
        if self._transport is None:
            return
        if self._reading and not self._busy and not self._ending and not self._transport.is_closing():
            self._fail("the request came too slowly", 408)
        else:
            self._transport.abort()


def _nothing() -> None:
    """Give up what is done already."""

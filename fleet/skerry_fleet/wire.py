"""How HTTP comes in: who is believed about the client's address, how long a request may take to arrive, and what bytes
that are no request are told.

uvicorn waits for ever for the rest of a request that has begun (slowloris, CWE-400) and reads on for ever what nobody
takes any more after a refusal; its own refusals have no shape. So the connection gets one timer, and words of ours.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import msgspec
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from skerry_fleet.config import FleetConfig

LINGER_S = 5.0
"""For how long a refused body is still read, so that the refusal is not lost (RFC 9112 section 9.6)."""
STOP_S = 5


class Connection(H11Protocol):
    """One connection of a client. A request's head has to be whole after `head_s`, counted from its first byte."""

    head_s = 30.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait(self.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._wait(None)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take in what has come; wait for the rest of a head, and no longer for one that is whole."""
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            if self._timer is not None and not self._unread:
                self._wait(None)
        elif self._timer is None:
            self._wait(self.head_s)

    def on_response_complete(self) -> None:
        """After an answer that came before the body's end, read on for a little while only."""
        if self._unread:
            self._wait(min(LINGER_S, self.head_s))
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no request of HTTP, in the one shape of refusals."""
        if self.cycle is not None and not self.cycle.response_complete:  # in the midst of a body
            self.cycle.disconnected = True  # nothing more is heard of its reader, and it hears that the client is gone
            self.cycle.message_event.set()
        self._refuse(400, "bad-request", "that is no request of HTTP/1.1")

    @property
    def _unread(self) -> bool:
        """Whether the last request was answered while its body still arrives."""
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._over)

    def _over(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408, "too-slow", f"the request's head did not arrive within {self.head_s:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        content = msgspec.json.encode({"error": {"code": code, "message": message, "hint": ""}})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
        ]
        try:
            answer = h11.Response(status_code=status, headers=headers)
            said = [self.conn.send(each) for each in (answer, h11.Data(data=content), h11.EndOfMessage())]
            self.transport.write(b"".join(each for each in said if each))
        except h11.LocalProtocolError:
            pass  # an answer has begun already
        self.transport.close()


def settings(app: FastAPI, config: FleetConfig, **more: Any) -> uvicorn.Config:
    """Return how an application is served.

    Without `trusted_proxies` a client is whoever the connection comes from, whatever it says in `X-Forwarded-For`.
    """
    connection = type("Connection", (Connection,), {"head_s": config.slow_request_s})
    return uvicorn.Config(
        app,
        http=connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_S,
        proxy_headers=bool(config.trusted_proxies),
        forwarded_allow_ips=config.trusted_proxies,
        **more,
    )

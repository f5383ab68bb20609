"""The asyncio side of a client: bytes in, bytes out, and what waits for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.errors import ProtocolError
from skerry_fleet.mqtt.packets import Packet

MAX_PACKET_BYTES = 1024 * 1024
WRITE_BUFFER_BYTES = 4 * 1024 * 1024


class Waiting(Protocol):
    """What waits for the broker's answer to a packet."""

    def done(self) -> bool:
        """Say whether it waits no more."""
        ...

    def set_result(self, packet: Packet, /) -> None:
        """Take an answer."""
        ...

    def set_exception(self, error: Exception, /) -> None:
        """Take that there will be none."""
        ...


class Many:
    """Several messages that are waited for together."""

    def __init__(self, count: int, future: asyncio.Future[None]) -> None:
        self._left = count
        self.all = future

    def done(self) -> bool:
        """Say whether all are answered, or one never will be."""
        return self.all.done()

    def set_result(self, packet: Packet, /) -> None:
        """Take one answer."""
        self._left -= 1
        if not self._left:
            self.all.set_result(None)

    def set_exception(self, error: Exception, /) -> None:
        """Take that the connection has ended."""
        self.all.set_exception(error)


class Nobody:
    """Waits for the answer only so that its packet id is not used again before it."""

    def done(self) -> bool:
        """Say that there is nothing to wait for."""
        return True

    def set_result(self, packet: Packet, /) -> None:
        """Take an answer."""

    def set_exception(self, error: Exception, /) -> None:
        """Take that there will be none."""


class Transport(asyncio.Protocol):
    """Bytes in, bytes out, and one word on how it ended."""

    def __init__(self, handle: Callable[[list[Packet]], None], lost: Callable[[str], None]) -> None:
        self._handle = handle
        self._lost = lost
        self._decoder = codec.Decoder(packets.TO_CLIENT, MAX_PACKET_BYTES)
        self._transport: asyncio.Transport | None = None
        self._reason = ""
        self._writable = asyncio.Event()
        self._writable.set()
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        try:
            self._handle(self._decoder.feed(data))
            if self._decoder.fault is not None:
                raise self._decoder.fault
        except ProtocolError as error:
            self.fail(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._transport = None
        self._writable.set()
        self._lost(self._reason or (f"the connection broke: {exc}" if exc else "the broker ended the connection"))

    def pause_writing(self) -> None:
        """Too much waits to be sent."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """There is room again."""
        self._writable.set()

    def write(self, data: bytes) -> None:
        """Send bytes, or nothing where there is no connection."""
        if self._transport is not None:
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until there is room."""
        await self._writable.wait()

    def pause_reading(self) -> None:
        """Take no more bytes for now."""
        if self._transport is not None and not self.paused:
            self.paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again."""
        if self._transport is not None and self.paused:
            self.paused = False
            self._transport.resume_reading()

    def fail(self, reason: str) -> None:
        """End at once, for a reason."""
        self._reason = reason
        self.abort()

    def close(self) -> None:
        """End once everything is sent."""
        self._reason = self._reason or "this side ended the connection"
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

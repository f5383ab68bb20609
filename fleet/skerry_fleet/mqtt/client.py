"""A small asyncio client: TLS, QoS 0 and 1, will, keep-alive. It connects once; to reconnect, make a new one.

PUBACK means that the broker has a message, never that anyone has stored it: what must not be lost is acknowledged by
the application (contracts `device.Ack`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import cast

from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.errors import ConnectionLostError, ProtocolError, RefusedError
from skerry_fleet.mqtt.packets import Connect, Packet, Publish, Will
from skerry_fleet.mqtt.transport import Many, Nobody, Transport, Waiting

MAX_IN_FLIGHT = 1000  # QoS 1 messages sent and not acknowledged
REFUSALS = {
    packets.BAD_VERSION: "it does not speak MQTT 3.1.1",
    packets.BAD_CLIENT_ID: "it does not take this client id",
    packets.UNAVAILABLE: "it is not available",
    packets.BAD_CREDENTIALS: "user name or password are wrong",
    packets.NOT_AUTHORISED: "this certificate may not connect",
}

OnMessage = Callable[[Publish], None]


def tls_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """Return a context that trusts only one authority and shows a certificate. All three are paths of PEM files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    return context


class Client:
    """One connection to a broker. Make it with `connect`; use it from the event loop it was made in."""

    def __init__(self, on_message: OnMessage, keepalive_s: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._keepalive_s = keepalive_s
        self._protocol = Transport(self._handle, self._lost)
        self._connack: asyncio.Future[packets.Connack] = self._loop.create_future()
        self._waiting: dict[int, Waiting] = {}
        self._free = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._next_id = 0
        self._closed: asyncio.Future[str] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._pinged = False

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        client_id: str,
        on_message: OnMessage,
        tls: ssl.SSLContext | None = None,
        will: Will | None = None,
        keepalive_s: int = 30,
        timeout_s: float = 10.0,
    ) -> Client:
        """Return a client that the broker has accepted. `on_message` is called in the event loop and must not block.

        Raises:
            ConnectionLostError: no connection within `timeout_s`, or TLS failed.
            RefusedError: the broker said no.
        """
        client = cls(on_message, keepalive_s)
        try:
            async with asyncio.timeout(timeout_s):
                await client._open(host, port, tls, Connect(client_id, keepalive_s, will=will))
        except BaseException as error:
            client._protocol.abort()
            if isinstance(error, TimeoutError):
                raise ConnectionLostError(f"no answer from {host}:{port} within {timeout_s:g} s") from error
            raise
        return client

    async def subscribe(self, *filters: str, qos: int = 1) -> tuple[int, ...]:
        """Subscribe to filters; return the QoS granted to each.

        Raises:
            RefusedError: the broker refused one of them.
            ConnectionLostError: the connection ended meanwhile.
        """
        packet_id = self._new_id()
        answer = cast(
            packets.Suback,
            await self._ask(packet_id, packets.Subscribe(packet_id, tuple((each, qos) for each in filters))),
        )
        if packets.SUBSCRIPTION_FAILED in answer.codes:
            raise RefusedError(f"the broker refused a subscription among {', '.join(filters)}")
        return answer.codes

    async def unsubscribe(self, *filters: str) -> None:
        """Give up filters.

        Raises:
            ConnectionLostError: the connection ended meanwhile.
        """
        packet_id = self._new_id()
        await self._ask(packet_id, packets.Unsubscribe(packet_id, filters))

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Send a message; with QoS 1, return when the broker has it. Waits while too many are under way.

        Raises:
            ConnectionLostError: there is no connection, or it ended before the broker answered.
            ValueError: no topic, or another QoS.
        """
        if self._closed.done():
            raise ConnectionLostError(self._closed.result())
        if qos == 0:
            self._protocol.write(codec.encode_publish(Publish(topic, payload, 0, retain)))
            await self._protocol.drained()
            return
        async with self._free:
            packet_id = self._new_id()
            await self._protocol.drained()
            await self._ask(packet_id, Publish(topic, payload, qos, retain, False, packet_id))

    async def publish_all(self, messages: Sequence[tuple[str, bytes, bool]]) -> None:
        """Send many messages (topic, payload, retain) with QoS 1; return when the broker has all of them.

        One at a time costs ten times as much: here one answer is waited for, not one a message.

        Raises:
            ConnectionLostError: there is no connection, or it ended before the broker answered.
            ValueError: not a topic.
        """
        for at in range(0, len(messages), MAX_IN_FLIGHT):
            chunk = messages[at : at + MAX_IN_FLIGHT]
            many = Many(len(chunk), self._loop.create_future())
            ids: list[int] = []
            try:
                await self._write_all(chunk, many, ids)
                await many.all
            finally:
                for packet_id in ids:
                    self._waiting.pop(packet_id, None)

    async def send_all(self, messages: Sequence[tuple[str, bytes, bool]]) -> None:
        """Send many messages as `publish_all` does, and wait for no answer: for what is sent again where it is lost.

        The answers need not be read for this to go on, so it works while the client is paused.

        Raises:
            ConnectionLostError: there is no connection, or 65 535 messages have no answer yet.
            ValueError: not a topic.
        """
        await self._write_all(messages, Nobody(), [])

    async def _write_all(self, messages: Sequence[tuple[str, bytes, bool]], waiting: Waiting, ids: list[int]) -> None:
        if self._closed.done():
            raise ConnectionLostError(self._closed.result())
        data = bytearray()
        for topic, payload, retain in messages:
            data += codec.publish_head(topic, len(payload), 1, retain=retain)
            packet_id = self._new_id()
            self._waiting[packet_id] = waiting
            ids.append(packet_id)
            data += packet_id.to_bytes(2, "big")
            data += payload
        await self._protocol.drained()
        self._protocol.write(bytes(data))

    async def disconnect(self) -> None:
        """End in an orderly way: the broker drops the will."""
        if not self._closed.done():
            self._protocol.write(codec.DISCONNECT_BYTES)
            self._protocol.close()
        await self.wait_closed()

    def abort(self) -> None:
        """Drop the connection as a power cut would: the broker publishes the will."""
        self._protocol.abort()

    async def wait_closed(self) -> str:
        """Wait until the connection has ended; return why, in words."""
        return await asyncio.shield(self._closed)

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as this side knows."""
        return self._connack.done() and not self._closed.done()

    def pause(self) -> None:
        """Take no more messages for now: the broker holds them, and in time its publishers too."""
        self._protocol.pause_reading()

    def resume(self) -> None:
        """Take messages again."""
        self._protocol.resume_reading()

    async def _open(self, host: str, port: int, tls: ssl.SSLContext | None, hello: Connect) -> None:
        try:
            await self._loop.create_connection(lambda: self._protocol, host, port, ssl=tls)
        except ssl.SSLError as error:
            raise ConnectionLostError(f"TLS with {host}:{port} failed: {error.reason or error}") from error
        except OSError as error:
            raise ConnectionLostError(f"no connection to {host}:{port}: {error.strerror or error}") from error
        self._protocol.write(codec.encode(hello))
        answer = await self._connack
        if answer.code != packets.ACCEPTED:
            raise RefusedError(f"the broker refused {hello.client_id!r}: {REFUSALS.get(answer.code, answer.code)}")
        if self._keepalive_s:
            self._arm(self._keepalive_s / 2)

    async def _ask(self, packet_id: int, packet: Packet) -> Packet:
        if self._closed.done():
            raise ConnectionLostError(self._closed.result())
        data = codec.encode(packet)
        answer: asyncio.Future[Packet] = self._loop.create_future()
        self._waiting[packet_id] = answer
        try:
            self._protocol.write(data)
            return await answer
        finally:
            self._waiting.pop(packet_id, None)

    def _new_id(self) -> int:
        for _ in range(65535):
            self._next_id = self._next_id % 65535 + 1
            if self._next_id not in self._waiting:
                return self._next_id
        raise ConnectionLostError("65 535 messages wait for the broker's answer")

    def _handle(self, received: list[Packet]) -> None:
        acks = bytearray()
        for packet in received:
            if isinstance(packet, Publish):
                self._on_message(packet)
                if packet.qos:
                    acks += b"\x40\x02" + packet.packet_id.to_bytes(2, "big")
            elif isinstance(packet, (packets.Puback, packets.Suback, packets.Unsuback)):
                waiting = self._waiting.pop(packet.packet_id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(packet)
            elif isinstance(packet, packets.Connack):
                if self._connack.done():
                    raise ProtocolError("a second CONNACK")
                self._connack.set_result(packet)
            else:
                self._pinged = False
        if acks:
            self._protocol.write(bytes(acks))

    def _lost(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed.done():
            self._closed.set_result(reason)
        error = ConnectionLostError(reason)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)
        if not self._connack.done():
            self._connack.set_exception(error)
            self._connack.exception()  # seen: nobody may wait for it any more

    def _arm(self, delay_s: float) -> None:
        self._timer = self._loop.call_later(delay_s, self._ping)

    def _ping(self) -> None:
        if self._pinged and not self._protocol.paused:
            self._protocol.fail(f"the broker has been silent for {self._keepalive_s} s")
            return
        self._pinged = True
        self._protocol.write(codec.PINGREQ_BYTES)
        self._arm(self._keepalive_s / 2)

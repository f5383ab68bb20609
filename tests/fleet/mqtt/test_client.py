"""The asyncio client against a real broker, and against ones that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings
from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.client import Client, tls_context
from skerry_fleet.mqtt.errors import ConnectionLostError, RefusedError
from skerry_fleet.mqtt.packets import Publish, Will
from skerry_fleet.trust import credentials
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.keys import KeyStore


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    folder = tmp_path_factory.mktemp("client")
    office = Authority.create(folder, KeyStore(folder / "keys"), time.time())
    process = BrokerProcess(BrokerSettings(folder / "broker", port=0, kind="embedded"), office)
    process.start()
    yield process
    process.stop()


def run(story: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await story

    asyncio.run(bounded())


async def fleet(process: BrokerProcess, heard: list[Publish] | None = None, **options: Any) -> Client:
    own = process.fleet()
    tls = tls_context(str(own.ca), str(own.certificate), str(own.key))
    hear: Callable[[Publish], None] = (lambda _: None) if heard is None else heard.append
    return await Client.connect(process.host, process.port, client_id="fleet", on_message=hear, tls=tls, **options)


def test_it_says_and_hears(process: BrokerProcess) -> None:
    async def story() -> None:
        heard: list[Publish] = []
        client = await fleet(process, heard)
        assert client.connected
        assert await client.subscribe("skerry/1/a/#", "skerry/1/b") == (1, 1)
        await asyncio.gather(*(client.publish("skerry/1/a/x", b"%d" % number, qos=1) for number in range(2000)))
        await client.publish("skerry/1/b", b"last")
        while not heard or heard[-1].topic != "skerry/1/b":
            await asyncio.sleep(0.001)
        assert [each.payload for each in heard[:-1]] == [b"%d" % number for number in range(2000)]
        await client.unsubscribe("skerry/1/a/#")
        await client.publish("skerry/1/a/x", b"unheard", qos=1)
        await client.publish("skerry/1/b", b"end", qos=1)
        assert heard[-1].payload == b"end"
        await client.disconnect()
        assert not client.connected and "this side" in await client.wait_closed()
        for qos in (0, 1):
            with pytest.raises(ConnectionLostError):
                await client.publish("skerry/1/a/x", b"", qos=qos)

    run(story())


def test_it_is_dropped_when_another_takes_over(process: BrokerProcess) -> None:
    async def story() -> None:
        first = await fleet(process)
        will = Will("skerry/1/will", b"gone", 1)
        second = await fleet(process, will=will)
        assert "broker ended" in await first.wait_closed()
        heard: list[Publish] = []
        third = await fleet(process, heard)
        await third.subscribe("skerry/1/will")
        await second.wait_closed()
        await third.disconnect()

    run(story())


def test_pausing_holds_messages_back(process: BrokerProcess) -> None:
    async def story() -> None:
        heard: list[Publish] = []
        client = await fleet(process, heard, keepalive_s=1)
        await client.subscribe("skerry/1/p")
        client.pause()
        sending = [asyncio.create_task(client.publish("skerry/1/p", b"%d" % number, qos=1)) for number in range(50)]
        await asyncio.sleep(0.05)
        assert heard == []
        client.resume()
        await asyncio.gather(*sending)
        while len(heard) < 50:
            await asyncio.sleep(0.001)
        await client.disconnect()

    run(story())


def test_many_messages_at_once(process: BrokerProcess) -> None:
    async def story() -> None:
        heard: list[Publish] = []
        client = await fleet(process, heard)
        await client.subscribe("skerry/1/m/#")
        await client.publish_all([(f"skerry/1/m/{number % 7}", b"%d" % number, False) for number in range(2500)])
        while len(heard) < 2500:
            await asyncio.sleep(0.001)
        assert [each.payload for each in heard] == [b"%d" % number for number in range(2500)]
        with pytest.raises(ValueError, match="no topic"):
            await client.publish_all([("skerry/#", b"", False)])
        await client.disconnect()
        for send in (client.publish_all, client.send_all):
            with pytest.raises(ConnectionLostError):
                await send([("skerry/1/m/0", b"", False)])

    run(story())


def test_a_paused_client_goes_on_sending(process: BrokerProcess) -> None:
    """The fleet pauses while too much waits for its database, and acknowledges from there: it may not wait for a
    broker's answer, which it would not read.
    """

    async def story() -> None:
        client = await fleet(process)
        client.pause()
        for number in range(3):
            await client.send_all([("skerry/1/n", b"%d" % number, False)] * 1500)
        client.resume()
        await client.publish_all([("skerry/1/n", b"end", False)])
        await client.disconnect()

    run(story())


def test_it_stays_while_nothing_is_said(process: BrokerProcess) -> None:
    """A keep-alive of one second, three seconds of silence: pings keep the connection."""

    async def story() -> None:
        client = await fleet(process, keepalive_s=1)
        await asyncio.sleep(3)
        assert client.connected
        await client.disconnect()

    run(story())


def test_the_wrong_authority(process: BrokerProcess, tmp_path: Path) -> None:
    async def story() -> None:
        other = Authority.create(tmp_path, KeyStore(tmp_path / "keys"), time.time())
        own = credentials.fleet_client(other, tmp_path, "fleet", time.time())
        tls = tls_context(str(own.ca), str(own.certificate), str(own.key))
        with pytest.raises(ConnectionLostError, match="TLS"):
            await Client.connect("localhost", process.port, client_id="x", on_message=lambda _: None, tls=tls)

    run(story())


def test_nobody_there() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with pytest.raises(ConnectionLostError, match="no connection"):
            await Client.connect("127.0.0.1", port, client_id="x", on_message=lambda _: None)

    run(story())


class Strange:
    """A server that answers a CONNECT with given bytes, and everything after it with nothing."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    async def __aenter__(self) -> int:
        self.visits: set[asyncio.Task[None] | None] = set()
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await reader.read(1000)
            writer.write(self.answer)
            while await reader.read(1000):
                pass
            writer.close()
            await writer.wait_closed()

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await asyncio.gather(*(each for each in self.visits if each is not None))
        await self.server.wait_closed()


YES = codec.encode(packets.Connack())


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (codec.encode(packets.Connack(packets.NOT_AUTHORISED)), RefusedError, "may not connect"),
        (codec.encode(packets.Connack(packets.BAD_VERSION)), RefusedError, "3.1.1"),
        (b"HTTP/1.1 400\r\n\r\n", ConnectionLostError, "type 4"),
        (b"\xff" * 6, ConnectionLostError, "four bytes"),
        (b"\x30\xff\xff\xff\x7f", ConnectionLostError, "at most"),
        (b"", ConnectionLostError, "no answer"),
    ],
)
def test_strange_answers_to_connect(answer: bytes, error: type[Exception], says: str) -> None:
    async def story() -> None:
        async with Strange(answer) as port:
            with pytest.raises(error, match=says):
                await Client.connect("127.0.0.1", port, client_id="x", on_message=lambda _: None, timeout_s=1)

    run(story())


def test_a_connection_that_ends_fails_what_waits_for_it() -> None:
    async def story() -> None:
        async with Strange(YES) as port:
            client = await Client.connect("127.0.0.1", port, client_id="x", on_message=lambda _: None)
            waiting = asyncio.create_task(client.publish("a", b"", qos=1))
            await asyncio.sleep(0)
            client.abort()
            with pytest.raises(ConnectionLostError):
                await waiting
        async with Strange(YES + YES) as port:
            with pytest.raises(ConnectionLostError, match="second CONNACK"):
                client = await Client.connect("127.0.0.1", port, client_id="x", on_message=lambda _: None)
                await client.subscribe("a")

    run(story())


def test_a_silent_broker_is_given_up() -> None:
    async def story() -> None:
        async with Strange(YES) as port:
            client = await Client.connect("127.0.0.1", port, client_id="x", on_message=lambda _: None, keepalive_s=1)
            assert "silent" in await client.wait_closed()

    run(story())

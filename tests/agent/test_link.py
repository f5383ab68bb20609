"""The link against real brokers: sessions, wills, messages both ways, and a message no broker takes."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client as Client_

from skerry_agent.errors import NetworkError
from skerry_agent.ledger import Key
from skerry_agent.link import Link, tls_context
from skerry_contracts import codec, topics
from skerry_contracts.device import Presence
from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings
from skerry_fleet.mqtt.client import Client
from skerry_fleet.mqtt.client import tls_context as fleet_tls
from skerry_fleet.trust import credentials
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.keys import KeyStore

DEADLINE_S = 60.0
HAS_MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is not None
BOOT = "00000001-00000000"


class Heard:
    """Notes what the link tells."""

    def __init__(self) -> None:
        self.sessions = 0
        self.ups = 0
        self.messages: list[tuple[str, bytes]] = []
        self.downs: list[tuple[Key, ...]] = []

    def will(self) -> bytes:
        self.sessions += 1
        return codec.encode(Presence(BOOT, self.sessions, False))

    def connected(self) -> None:
        self.ups += 1

    def message(self, channel: str, payload: bytes) -> None:
        self.messages.append((channel, payload))

    def disconnected(self, unconfirmed: tuple[Key, ...]) -> None:
        self.downs.append(unconfirmed)


async def eventually(condition: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "office", KeyStore(tmp_path / "keys"), time.time())


@pytest.fixture(
    params=[
        "embedded",
        pytest.param(
            "mosquitto",
            marks=[pytest.mark.mosquitto, pytest.mark.skipif(not HAS_MOSQUITTO, reason="mosquitto is not installed")],
        ),
    ]
)
def broker(request: pytest.FixtureRequest, authority: Authority, tmp_path: Path) -> Iterator[BrokerProcess]:
    found = BrokerProcess(BrokerSettings(tmp_path / "broker", port=0, kind=request.param), authority)
    found.start()
    yield found
    found.stop()


Scene = Callable[[Link, Heard, Client, list[tuple[str, bytes]]], Awaitable[None]]


def together(mine: credentials.Credentials) -> Path:
    """Return one file that holds key and certificate, as a device keeps them."""
    found = mine.certificate.with_suffix(".pem")
    found.write_bytes(mine.key.read_bytes() + mine.certificate.read_bytes())
    return found


def play(broker: BrokerProcess, authority: Authority, folder: Path, scene: Scene, keepalive_s: int = 5) -> None:
    """Run a link as device d1 and a fleet's client that hears it."""

    async def main() -> None:
        mine = credentials.visitor(authority, folder / "d1", "default/d1", time.time())
        tls = tls_context(mine.ca, together(mine))
        seen: list[tuple[str, bytes]] = []
        theirs = broker.fleet()
        fleet = await Client.connect(
            broker.host,
            broker.port,
            client_id="fleet",
            on_message=lambda message: seen.append((topics.parse(message.topic).channel.name, message.payload)),
            tls=fleet_tls(str(theirs.ca), str(theirs.certificate), str(theirs.key)),
        )
        await fleet.subscribe("skerry/1/+/+/up/#")
        heard = Heard()
        link = Link(
            host=broker.host,
            port=broker.port,
            tenant="default",
            device="d1",
            keepalive_s=keepalive_s,
            retry_max_s=0.5,
            rng=random.Random(1),
        )
        running = asyncio.create_task(link.run(lambda: tls, heard))
        try:
            await eventually(lambda: heard.ups, "connected")
            await scene(link, heard, fleet, seen)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            fleet.abort()

    asyncio.run(main())


def test_one_thread_alone_writes_to_the_connection(
    broker: BrokerProcess, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that write one stream may put half a packet into the middle of another."""
    writers: set[int] = set()
    real = Client_._packet_write

    def write(self: Client_) -> Any:
        writers.add(threading.get_ident())
        return real(self)

    monkeypatch.setattr(Client_, "_packet_write", write)

    async def scene(link: Link, heard: Heard, fleet: Client, seen: list[tuple[str, bytes]]) -> None:
        for number in range(300):
            assert link.publish("sample", b"%05d" % number * 2000, (BOOT, number))
        await eventually(lambda: len(seen) == 300, "all came")
        assert [payload for _, payload in seen] == [b"%05d" % number * 2000 for number in range(300)]
        assert heard.ups == 1 and threading.get_ident() not in writers and len(writers) == 1

    play(broker, authority, tmp_path, scene)


def test_messages_walk_both_ways(broker: BrokerProcess, authority: Authority, tmp_path: Path) -> None:
    async def scene(link: Link, heard: Heard, fleet: Client, seen: list[tuple[str, bytes]]) -> None:
        assert link.publish("sample", b"one", (BOOT, 1)) and link.publish("heartbeat", b"two")
        await eventually(lambda: len(seen) == 2, "both came")
        assert sorted(seen) == [("heartbeat", b"two"), ("sample", b"one")]
        await fleet.publish(topics.topic("default", "d1", "ack"), b"thanks", qos=1)
        await fleet.publish(topics.topic("default", "d2", "ack"), b"not yours", qos=1)
        await eventually(lambda: heard.messages, "an answer came")
        assert heard.messages == [("ack", b"thanks")]

    play(broker, authority, tmp_path, scene)


def test_a_broken_session_leaves_its_will_and_the_link_comes_back(
    broker: BrokerProcess, authority: Authority, tmp_path: Path
) -> None:
    async def scene(link: Link, heard: Heard, fleet: Client, seen: list[tuple[str, bytes]]) -> None:
        assert link._client is not None
        wire: Any = link._client.socket()
        wire.shutdown(socket.SHUT_RDWR)  # the cable is pulled
        await eventually(lambda: heard.ups == 2 and heard.downs, "connected again")
        await eventually(lambda: seen, "the will")
        said = codec.decode(Presence, seen[0][1])
        assert (said.online, said.session) == (False, 1), "the will of the session that broke"

    play(broker, authority, tmp_path, scene)


def test_what_no_broker_takes_is_not_offered(broker: BrokerProcess, authority: Authority, tmp_path: Path) -> None:
    async def scene(link: Link, heard: Heard, fleet: Client, seen: list[tuple[str, bytes]]) -> None:
        assert not link.publish("sample", b"x" * (topics.MAX_PAYLOAD_BYTES + 1), (BOOT, 1))
        assert link.publish("sample", b"x" * topics.MAX_PAYLOAD_BYTES, (BOOT, 2))
        await eventually(lambda: seen, "the largest that is allowed comes")
        assert heard.downs == [] and len(seen[0][1]) == topics.MAX_PAYLOAD_BYTES

    play(broker, authority, tmp_path, scene)


def test_a_broker_that_goes_away_is_waited_for(broker: BrokerProcess, authority: Authority, tmp_path: Path) -> None:
    async def scene(link: Link, heard: Heard, fleet: Client, seen: list[tuple[str, bytes]]) -> None:
        await asyncio.to_thread(broker.stop)
        await eventually(lambda: heard.downs and link.trouble, "the link noticed")
        assert link.publish("heartbeat", b"into the void")
        await asyncio.to_thread(broker.start)
        await eventually(lambda: heard.ups == 2, "connected again")

    play(broker, authority, tmp_path, scene)


def test_what_is_published_goes_at_once_however_long_the_keepalive(
    broker: BrokerProcess, authority: Authority, tmp_path: Path
) -> None:
    async def scene(link: Link, heard: Heard, fleet: Client, seen: list[tuple[str, bytes]]) -> None:
        await eventually(lambda: heard.ups == 1, "connected")
        for number in range(3):
            assert link.publish("heartbeat", b"%d" % number)
            await eventually(lambda number=number: ("heartbeat", b"%d" % number) in seen, "heard")  # type: ignore[misc]

    play(broker, authority, tmp_path, scene, keepalive_s=20 * int(DEADLINE_S))


def test_a_stranger_is_not_let_in_and_keeps_trying(authority: Authority, tmp_path: Path) -> None:
    broker = BrokerProcess(BrokerSettings(tmp_path / "broker", port=0, kind="embedded"), authority)
    broker.start()
    other = Authority.create(tmp_path / "other", KeyStore(tmp_path / "other-keys"), time.time())
    mine = credentials.visitor(other, tmp_path / "d1", "default/d1", time.time())
    tls = tls_context(broker.fleet().ca, together(mine))

    async def main() -> None:
        heard = Heard()
        link = Link(
            host=broker.host,
            port=broker.port,
            tenant="default",
            device="d1",
            keepalive_s=5,
            retry_max_s=0.1,
            rng=random.Random(1),
        )
        running = asyncio.create_task(link.run(lambda: tls, heard))
        await eventually(lambda: heard.sessions >= 3, "three attempts")
        assert heard.ups == 0 and link.trouble
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    try:
        asyncio.run(main())
    finally:
        broker.stop()


def test_a_missing_certificate_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        tls_context(tmp_path / "ca", tmp_path / "pem")
    assert "enrol" in caught.value.hint

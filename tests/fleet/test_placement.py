"""Shards: where devices live, what they are told, and what they are let do on the swarm's port."""

from __future__ import annotations

import dataclasses
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session
from tests.fleet.conftest import Bench

from skerry_fleet import placement, swarm
from skerry_fleet.broker import mosquitto
from skerry_fleet.broker.errors import ConfigurationError
from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import ConflictError, InputError
from skerry_fleet.fleet import open_fleet
from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.packets import Publish
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.office import open_office
from skerry_simulators.catalogue import HARDWARE


def test_devices_spread_and_stay(bench: Bench) -> None:
    database = bench.fleet.database
    assert swarm.admit(database, "default", 3000, HARDWARE, bench.clock(), 3) == 3000
    with database.read() as session:
        before = {name: _shard(session, name) for name in map(swarm.device_name, range(3000))}
    counts = [list(before.values()).count(shard) for shard in range(3)]
    assert min(counts) > 900
    # A fourth shard takes its share of new devices, and moves none of the others.
    assert swarm.admit(database, "default", 4000, HARDWARE, bench.clock(), 4) == 1000
    with database.read() as session:
        after = {name: _shard(session, name) for name in map(swarm.device_name, range(4000))}
        assert {name: after[name] for name in before} == before
        assert set(after.values()) == {0, 1, 2, 3}
        placement.check(session, 4)
        with pytest.raises(ConflictError, match="shard 3"):
            placement.check(session, 3)


def test_a_fleet_with_too_few_shards_refuses_and_lets_go(bench: Bench) -> None:
    fleet = bench.fleet
    swarm.admit(fleet.database, "default", 50, HARDWARE, bench.clock(), 2)
    fleet.close()
    for shards in (1, 1):
        config = FleetConfig(root=fleet.config.root, shards=shards, database_url=fleet.config.database_url)
        with pytest.raises(ConflictError, match="devices live on broker shard 1"):
            open_fleet(config, bench.clock, fleet.random)
    bench.fleet = open_fleet(dataclasses.replace(config, shards=2), bench.clock, fleet.random)


def test_a_device_from_before_shards_is_on_the_first(bench: Bench) -> None:
    bench.enrol("kitchen")
    with bench.fleet.database.read() as session:
        assert session.get(placement.DeviceShard, ("default", "kitchen")) is None
        placement.check(session, 1)


@pytest.mark.parametrize(
    "bad", [{"shards": 0}, {"shards": 65}, {"broker_port": 65535, "shards": 2}, {"swarm_port": -1}]
)
def test_impossible_shards_are_refused(bad: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        FleetConfig(root=tmp_path, **bad)  # type: ignore[arg-type]  # the settings here are numbers


def _shard(session: Session, name: str) -> int:
    row = session.get(placement.DeviceShard, ("default", name))
    assert row is not None
    return row.shard


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return open_office(tmp_path / "trust", "default", time.time()).authority


def test_the_embedded_broker_has_no_such_port(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no port for a swarm"):
        BrokerProcess(BrokerSettings(tmp_path / "b", port=0, kind="embedded", swarm_port=4000), authority)


@pytest.fixture
def swarm_port(authority: Authority, tmp_path: Path) -> Iterator[int]:
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None:
        pytest.skip("mosquitto is not installed")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    broker = BrokerProcess(BrokerSettings(tmp_path / "b", port=0, kind="mosquitto", swarm_port=port), authority)
    broker.start()
    yield port
    broker.stop()


def test_the_swarms_port_knows_simulated_devices_only(swarm_port: int) -> None:
    with _Raw(swarm_port, "000001") as simulated, _Raw(swarm_port, "default/kitchen") as forger:
        assert simulated.hello() == packets.ACCEPTED
        assert simulated.say("skerry/1/default/swarm-000001/up/heartbeat")
        # Whatever it calls itself, no user name leads to another device's topics, nor to the fleet's.
        forger.hello()
        assert not forger.say("skerry/1/default/kitchen/up/heartbeat")
    for name in ("fleet", "", None):
        with _Raw(swarm_port, name) as other:
            if other.hello() == packets.ACCEPTED:
                assert not other.say("skerry/1/default/kitchen/down/assignment")


def test_the_ordinary_rules_are_untouched_by_the_swarms(tmp_path: Path) -> None:
    text = mosquitto.with_swarm(
        "per_listener_settings false\nallow_anonymous false\nacl_file /a\n", Path("/a"), Path("/s"), 1
    )
    before, after = text.split("listener 1 127.0.0.1\n")
    assert "allow_anonymous false\nacl_file /a\n" in before
    assert after.startswith("allow_anonymous true\nacl_file /s\n")


class _Raw:
    """A plain connection that says what it likes."""

    def __init__(self, port: int, name: str | None) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), 5)
        self._name = name
        self._decoder = codec.Decoder(packets.TO_CLIENT, 4096)

    def __enter__(self) -> _Raw:
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close()

    def hello(self) -> int:
        self._sock.sendall(codec.encode(packets.Connect("any", 30, username=self._name)))
        answer = self._next()
        return answer.code if isinstance(answer, packets.Connack) else packets.NOT_AUTHORISED

    def say(self, topic: str) -> bool:
        """Publish, and ask for an answer: mosquitto ends the connection of who may not."""
        self._sock.sendall(codec.encode_publish(Publish(topic, b"{}", 1, packet_id=1)) + codec.PINGREQ_BYTES)
        return any(isinstance(self._next(), packets.Pingresp) for _ in range(2))

    def _next(self) -> packets.Packet | None:
        try:
            while data := self._sock.recv(1):
                for packet in self._decoder.feed(data):
                    return packet
        except OSError:
            pass
        return None

"""What any broker of ours must do, asked of each with the same words: large, many, slow."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time

import psutil
import pytest
from tests.fleet.broker.conftest import (
    Room,
    closed,
    down,
    fleet_that_hears,
    up,
)

from skerry_fleet.mqtt import packets
from skerry_fleet.mqtt.packets import Publish, Will

# ---- limits


def test_the_largest_payload_passes_and_more_ends_the_connection(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/+/+/up/#")
    device = broker.device("default/l1")
    device.publish(up("default/l1"), b"x" * 128 * 1024)
    assert [len(payload) for _, payload, _ in closed(fleet)] == [128 * 1024]
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        device.send(Publish(up("default/l1"), b"x" * 300_000, 1, False, False, 3))
    assert device.ended()
    assert closed(fleet) == []


def test_many_subscriptions_are_bounded_or_borne(broker: Room) -> None:
    device = broker.device("default/l2")
    for start in range(0, 2000, 50):
        device.subscribe(*[f"skerry/1/default/l2/down/{number}" for number in range(start, start + 50)])
    other = broker.device("default/l3")
    other.send(packets.Pingreq())
    assert other.read() == packets.Pingresp()


def test_a_slow_reader_hurts_nobody(broker: Room) -> None:
    """A device that never reads is sent 64 MB; the broker's memory stays bounded and another device hears at once."""
    fleet = broker.fleet()
    slow = broker.device("default/s1")
    slow.subscribe("skerry/1/default/s1/down/#")
    quick = broker.device("default/s2")
    quick.subscribe("skerry/1/default/s2/down/#")
    assert broker.process.pid is not None
    process = psutil.Process(broker.process.pid)
    before_bytes = process.memory_info().rss
    payload = b"x" * 65536
    for number in range(1000):
        fleet.publish(down("default/s1"), payload)
        if number % 100 == 0:
            fleet.publish(down("default/s2"), b"%d" % number)
            heard = quick.read()
            assert isinstance(heard, Publish) and heard.payload == b"%d" % number
            quick.send(packets.Puback(heard.packet_id))
    assert process.memory_info().rss - before_bytes < 160 * 1024 * 1024


def test_a_fleet_that_is_slow_loses_nothing(broker: Room) -> None:
    """The fleet stops reading while devices publish 48 MB; then it reads, and every acknowledged message is there."""
    fleet = broker.fleet()
    fleet.subscribe("skerry/1/+/+/up/#")
    devices = [broker.device(f"default/c{number}") for number in range(4)]
    payload = b"x" * 16000
    acknowledged = [0] * len(devices)

    def publish(index: int) -> None:
        for _ in range(750):
            devices[index].publish(up(f"default/c{index}"), payload)
            acknowledged[index] += 1

    threads = [threading.Thread(target=publish, args=(index,)) for index in range(len(devices))]
    for thread in threads:
        thread.start()
    # Whether the broker holds publishers back or everything itself is its own affair: wait until nothing moves.
    before = -1
    while sum(acknowledged) != before:
        before = sum(acknowledged)
        time.sleep(0.5)
    heard = 0
    while heard < 750 * len(devices):
        packet = fleet.read()
        assert isinstance(packet, Publish)
        fleet.send(packets.Puback(packet.packet_id))
        heard += 1
    for thread in threads:
        thread.join()
    assert acknowledged == [750] * len(devices)


@pytest.mark.slow
def test_a_thousand_connections(broker: Room) -> None:
    """1 000 devices over TLS: each says something, each is told something, all wills are heard."""
    count = 1000
    fleet = fleet_that_hears(broker, "skerry/1/many/+/up/#")
    devices = []
    for number in range(count):
        name = f"many/d{number}"
        devices.append(broker.device(name, will=Will(up(name, "presence"), b"gone", 1)))
        devices[-1].send(packets.Subscribe(9, ((f"skerry/1/{name}/down/#", 1),)))
    for number, device in enumerate(devices):
        assert isinstance(device.read(), packets.Suback)
        device.send(Publish(up(f"many/d{number}"), b"%d" % number, 1, False, False, 1))
    assert all(device.read() == packets.Puback(1) for device in devices)
    assert sorted(int(payload) for _, payload, _ in closed(fleet)) == list(range(count))
    for number in range(count):
        fleet.send(Publish(down(f"many/d{number}"), b"%d" % number, 0))
    for number, device in enumerate(devices):
        told = device.read()
        assert isinstance(told, Publish) and told.payload == b"%d" % number
    for device in devices:
        device.drop()
    gone: set[str] = set()
    while len(gone) < count:
        heard = fleet.read()
        assert isinstance(heard, Publish)
        fleet.send(packets.Puback(heard.packet_id))
        gone.add(heard.topic)

"""What any broker of ours must do, asked of each with the same words: a device that means harm with allowed words."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from tests.fleet.broker.conftest import END, Room, Wire, closed, down, fleet_that_hears, publish_or_end, up

from skerry_contracts import topics
from skerry_fleet.mqtt import packets
from skerry_fleet.mqtt.packets import Publish

PINGRESP = b"\xd0\x00"


def well(room: Room) -> None:
    """Another device is let in, hears its own, and its word arrives."""
    fleet = fleet_that_hears(room, "skerry/1/default/well/up/#")
    other = room.device("default/well")
    other.subscribe("skerry/1/default/well/down/#")
    other.publish(up("default/well"), b"good")
    assert closed(fleet) == [(up("default/well"), b"good", False)]
    fleet.publish(down("default/well", "ack"), b"end")
    assert other.messages(down("default/well", "ack")) == []


def flood(wire: Wire, *sent: bytes) -> None:
    """Send until all is said or the broker ends the connection, and hear what it has to say until it pings back."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        for each in sent:
            wire.send(each)
        wire.send(packets.Pingreq())
        heard = b""
        while not heard.endswith(PINGRESP):  # whatever else it says, words of QoS 2 included
            data = wire.sock.recv(65536)
            if not data:
                return
            heard = heard[-8:] + data


def raw(head: int, *parts: bytes) -> bytes:
    """Return a packet of any bytes."""
    body, size, length = b"".join(parts), b"", sum(map(len, parts))
    while True:
        length, low = divmod(length, 128)
        size += bytes([low | (0x80 if length else 0)])
        if not length:
            return bytes([head]) + size + body


def text(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize(
    "topic_filter",
    [
        "$share/thieves/skerry/1/default/victim/down/#",
        "$share/thieves/#",
        "$share/thieves/skerry/1/+/+/up/#",
        "$queue/skerry/1/default/victim/down/#",
    ],
)
def test_a_shared_subscription_takes_nothing_away(broker: Room, topic_filter: str) -> None:
    """A share would be worse than listening: what one of its members hears, its owner would not."""
    fleet = fleet_that_hears(broker, "skerry/1/default/victim/up/#")
    victim = broker.device("default/victim")
    victim.subscribe("skerry/1/default/victim/down/#")
    thief = broker.device("default/thief")
    with contextlib.suppress(ConnectionError):  # a broker may end such a connection instead
        thief.subscribe(topic_filter)
        thief.subscribe(down("default/thief", "ack"))
    for number in range(20):
        fleet.publish(down("default/victim"), b"%d" % number)
        victim.publish(up("default/victim"), b"%d" % number)
    fleet.publish(down("default/victim", "ack"))
    fleet.publish(down("default/thief", "ack"))
    assert len(victim.messages(down("default/victim", "ack"))) == 20
    assert len(closed(fleet)) == 20
    with contextlib.suppress(ConnectionError):
        assert thief.messages(down("default/thief", "ack")) == []


NO_TOPICS = {
    "empty": b"",
    "not UTF-8": b"skerry/1/default/odd/up/\xff\xfe",
    "a surrogate": b"skerry/1/default/odd/up/\xed\xa0\x80",
    "overlong": b"skerry/1/default/odd/up/\xc0\xafsample",
    "a NUL": b"skerry/1/default/odd/up/sample\x00",
    "a wildcard": b"skerry/1/default/odd/up/#",
    "another wildcard": b"skerry/1/+/odd/up/sample",
}


@pytest.mark.parametrize("what", NO_TOPICS)
def test_a_topic_that_is_none_ends_the_connection(broker: Room, what: str) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/#")
    for head, number in ((0x30, b""), (0x31, b""), (0x32, b"\x00\x01"), (0x33, b"\x00\x01")):  # QoS and retain
        wire = broker.device("default/odd")
        wire.send(raw(head, text(NO_TOPICS[what]), number, b"evil"))
        assert wire.ended()
    for packet in (raw(0x82, b"\x00\x01", text(NO_TOPICS["not UTF-8"]), b"\x01"), raw(0x10, text(b"\xff\xfe"))):
        wire = broker.device("default/odd")
        wire.send(packet)
        assert wire.ended()
    assert all(payload != b"evil" for _, payload, _ in closed(fleet))
    well(broker)


@pytest.mark.parametrize("letter", [b"a", b"/", "\U0001f30a".encode()])
def test_a_topic_of_65_000_bytes_reaches_nobody(broker: Room, letter: bytes) -> None:
    own = up("default/long", "").encode()
    longest = own + letter * ((65535 - len(own)) // len(letter))
    fleet = fleet_that_hears(broker, "#")
    for head, number in ((0x31, b""), (0x33, b"\x00\x01")):
        flood(broker.device("default/long"), raw(head, text(longest), number, b"evil"))
    flood(broker.device("default/long"), raw(0x82, b"\x00\x09", text(longest), b"\x01"))
    assert all(payload != b"evil" for _, payload, _ in closed(fleet))
    well(broker)


def test_a_flood_of_retained_messages_is_not_kept(broker: Room) -> None:
    """Under how many names one device may leave something behind is a small number, and the channels' own."""
    fleet = broker.fleet()
    device = broker.device("default/flood")
    names = [up("default/flood", f"x{number}") for number in range(3000)]
    names += [up("default/flood", f"sample/{number}") for number in range(100)]
    flood(device, *[raw(0x31, text(name.encode()), b"x" * 500) for name in names])
    for channel in topics.CHANNELS:
        publish_or_end(broker.device("default/flood"), up("default/flood", channel))
        flood(broker.device("default/flood"), raw(0x31, text(up("default/flood", channel).encode()), b"left"))
    fleet.subscribe("skerry/1/default/flood/#", END)
    kept = {topic for topic, _, retained in closed(fleet) if retained}
    assert kept <= {up("default/flood", each.name) for each in topics.CHANNELS.values() if each.direction == "up"}
    for topic in kept:
        fleet.publish(topic, b"", retain=True)
    well(broker)


def test_half_a_handshake_of_qos_2_holds_nothing_up(broker: Room) -> None:
    """60 000 messages begun and never released, then releases of what was never begun."""
    fleet = fleet_that_hears(broker, "skerry/1/default/half/up/#")
    topic = text(up("default/half").encode())
    begun = b"".join(raw(0x34, topic, number.to_bytes(2, "big"), b"x" * 30) for number in range(1, 60_001))
    flood(broker.device("default/half"), *[begun[start : start + 65536] for start in range(0, len(begun), 65536)])
    released = b"".join(raw(0x62, number.to_bytes(2, "big")) for number in range(1, 60_001))
    flood(broker.device("default/half"), released)
    assert closed(fleet) == []
    well(broker)


def test_ten_thousand_subscriptions_slow_nobody_down(broker: Room) -> None:
    """More than are borne end the connection that asked for them."""
    device = broker.device("default/many")
    asked = 0
    with contextlib.suppress(ConnectionError):
        for start in range(0, 10_000, 100):
            wanted = [f"skerry/1/default/many/down/{number}" for number in range(start, start + 100)]
            asked += sum(code != 0x80 for code in device.subscribe(*wanted))
    fleet = broker.fleet()
    fleet.publish("skerry/1/default/many/down/0")
    if asked == 10_000:
        heard = device.read()
        assert isinstance(heard, Publish) and heard.topic == "skerry/1/default/many/down/0"
    well(broker)

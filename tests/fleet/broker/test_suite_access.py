"""What any broker of ours must do, asked of each with the same words: who is let in, and who may say and hear what."""

from __future__ import annotations

import contextlib
import socket
import ssl

import pytest
from tests.fleet.broker.conftest import (
    END,
    Room,
    closed,
    down,
    fleet_that_hears,
    publish_or_end,
    refused,
    up,
)

from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.packets import Connect, Publish, Will
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.keys import KeyStore

# ---- who may say and hear what


def test_a_device_writes_only_its_own(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/#")
    victim = broker.device("default/victim")
    victim.subscribe("skerry/1/default/victim/down/#")
    certificate = broker.certificate("default/a1")
    for topic in (
        up("default/victim"),
        down("default/victim"),
        down("default/a1"),
        "skerry/1/default/a1",
        "skerry/1/default/a11/up/sample",
        "skerry/1/default/up/sample",
        "skerry/2/default/a1/up/sample",
        "skerry/1/default/a1/../victim/up/sample",
        "$SYS/broker/uptime",
        END,
    ):
        publish_or_end(broker.wire(certificate).hello(), topic)
    device = broker.wire(certificate).hello()
    device.publish(up("default/a1"), b"good")
    assert closed(fleet) == [(up("default/a1"), b"good", False)]
    fleet.publish(down("default/victim", "ack"), b"end")
    assert victim.messages(down("default/victim", "ack")) == []


@pytest.mark.parametrize(
    "topic_filter",
    ["#", "+/#", "skerry/1/default/#", "skerry/1/+/+/down/#", "skerry/1/default/victim/down/#", "$SYS/#"],
)
def test_a_device_hears_only_its_own(broker: Room, topic_filter: str) -> None:
    fleet = broker.fleet()
    fleet.publish(down("default/victim"), b"secret", retain=True)
    device = broker.device("default/a2")
    device.subscribe(topic_filter, down("default/a2", "end"))
    fleet.publish(down("default/victim"), b"secret", retain=True)
    fleet.publish(up("default/a2"), b"not for devices")
    fleet.publish(down("default/a2", "ack"), b"mine")
    fleet.publish(down("default/a2", "end"))
    heard = device.messages(down("default/a2", "end"))
    assert all(each.payload == b"mine" for each in heard)
    fleet.publish(down("default/victim"), b"", retain=True)


def test_another_tenant_is_another_world(broker: Room) -> None:
    device = broker.device("acme/a3")
    device.subscribe("skerry/1/default/a3/down/#", down("acme/a3", "end"))
    fleet = fleet_that_hears(broker, "skerry/1/#")
    fleet.publish(down("default/a3"), b"secret")
    fleet.publish(down("acme/a3", "end"))
    assert device.messages(down("acme/a3", "end")) == []
    publish_or_end(device, up("default/a3"))
    assert all(payload != b"evil" for _, payload, _ in closed(fleet))


@pytest.mark.parametrize("identity", ["+/a", "#", "default/+", "fleet-probe", "a/b/c", "fleet/x"])
def test_odd_names_can_do_nothing_to_others(broker: Room, identity: str) -> None:
    """Our authority never issues them; a broker must not be moved by them either."""
    fleet = fleet_that_hears(broker, "skerry/1/default/#", "skerry/1/a/#", "skerry/1/fleet/#")
    fleet.publish(down("default/victim"), b"secret", retain=True)
    wire = broker.wire(broker.certificate(identity))
    try:
        wire.hello(identity)
        wire.subscribe("skerry/1/default/#", "#")
        wire.send(packets.Pingreq())
        while not isinstance(packet := wire.read(), packets.Pingresp):
            assert not isinstance(packet, Publish)
        publish_or_end(wire, up("default/victim"))
    except (ConnectionError, ssl.SSLError):
        pass  # not even let in
    assert all(payload != b"evil" for _, payload, _ in closed(fleet))
    fleet.publish(down("default/victim"), b"", retain=True)


def test_a_foreign_client_id_ends_nobodys_connection(broker: Room) -> None:
    victim = broker.device("default/k1")
    broker.wire(broker.certificate("default/k2")).hello("default/k1")
    broker.wire(broker.certificate("default/k3")).hello("fleet")
    victim.send(packets.Pingreq())
    assert victim.read() == packets.Pingresp()


def test_the_same_client_takes_over(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/+/+/up/presence")
    certificate = broker.certificate("default/k4")
    will = Will(up("default/k4", "presence"), b"gone", 1)
    older = broker.wire(certificate).hello("anything", will=will)
    newer = broker.wire(certificate).hello("something else")
    assert older.ended()
    heard = fleet.read()
    assert isinstance(heard, Publish) and heard.payload == b"gone"
    newer.publish(up("default/k4", "presence"), b"here")
    assert [payload for _, payload, _ in closed(fleet)] == [b"here"]


# ---- who is let in


def test_no_certificate_is_refused(broker: Room) -> None:
    assert refused(broker, None)


def test_another_authority_is_refused(broker: Room) -> None:
    rogue = Authority.create(broker.folder / "rogue", KeyStore(broker.folder / "rogue/keys"), broker.wall_s)
    certificate = broker.certificate("default/e1", office=rogue)
    assert refused(broker, certificate)


def test_an_expired_certificate_is_refused(broker: Room) -> None:
    certificate = broker.certificate("default/e2", days=-1 / 1440)
    assert refused(broker, certificate)


def test_a_servers_certificate_is_no_clients(broker: Room) -> None:
    key, certificate = broker.authority.issue_server(["x"], broker.wall_s)
    made = broker.certificate("default/e3")
    made.certificate.write_text(certificate)
    made.key.write_text(key)
    assert refused(broker, made)


def test_the_first_packet_is_connect(broker: Room) -> None:
    for first in (packets.Pingreq(), Publish(up("default/e4"), b"x"), packets.Subscribe(1, (("#", 0),))):
        assert refused(broker, broker.certificate("default/e4"), first)


def test_a_second_connect_ends_the_connection(broker: Room) -> None:
    wire = broker.device("default/e5")
    wire.send(Connect("default/e5"))
    assert wire.ended()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 64,
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\xff\xff\xff\xff\x7f",
        b"\x30\x05\x00\xff",
        b"\x32\x02\x00\x00",
    ],
)
def test_garbage_ends_only_its_own_connection(broker: Room, garbage: bytes) -> None:
    other = broker.device("default/e6")
    for wire in (broker.wire(broker.certificate("default/e7")), broker.device("default/e8")):
        wire.send(garbage * 20)
        assert wire.ended()
    other.send(packets.Pingreq())
    assert other.read() == packets.Pingresp()


def test_plain_bytes_instead_of_tls(broker: Room) -> None:
    with socket.create_connection(("127.0.0.1", broker.port), 30) as plain:
        plain.sendall(codec.encode(Connect("x")))
        with contextlib.suppress(ConnectionError):
            while plain.recv(100):
                pass
    broker.device("default/e9").drop()


def test_another_version_is_told_so(broker: Room) -> None:
    wire = broker.wire(broker.certificate("default/e10"))
    wire.send(b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x3c\x00\x01a")
    assert wire.read() == packets.Connack(packets.BAD_VERSION)

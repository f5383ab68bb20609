"""What any broker of ours must do, asked of each with the same words."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import psutil
import pytest
from tests.fleet.broker.conftest import Room, Wire, eventually

from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.packets import Connect, Packet, Publish, Will
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.credentials import Credentials
from skerry_fleet.trust.keys import KeyStore

END = "skerry/1/fleet/end"  # a topic that no device may read; the fleet closes its own lists with it


def closed(fleet: Wire) -> list[tuple[str, bytes, bool]]:
    """Return what has been delivered to the fleet's client so far."""
    fleet.publish(END, b"end")
    return [(each.topic, each.payload, each.retain) for each in fleet.messages(END)]


def fleet_that_hears(room: Room, *filters: str) -> Wire:
    fleet = room.fleet()
    fleet.subscribe(END, *filters)
    return fleet


def publish_or_end(wire: Wire, topic: str) -> None:
    """Say what is not allowed. 3.1.1 has no word for no: a broker acknowledges and drops it, or ends the connection."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        wire.publish(topic, b"evil")
        wire.publish(topic, b"evil")


def up(identity: str, channel: str = "sample") -> str:
    return f"skerry/1/{identity}/up/{channel}"


def down(identity: str, channel: str = "assignment") -> str:
    return f"skerry/1/{identity}/down/{channel}"


# ---- filters


@pytest.mark.parametrize(
    ("topic_filter", "heard"),
    [
        ("skerry/1/f/a/up/x", {"skerry/1/f/a/up/x"}),
        ("skerry/1/f/+/up/x", {"skerry/1/f/a/up/x", "skerry/1/f/b/up/x"}),
        ("skerry/1/f/a/+/+", {"skerry/1/f/a/up/x", "skerry/1/f/a/up/y", "skerry/1/f/a/up/"}),
        (
            "skerry/1/f/a/#",
            {"skerry/1/f/a", "skerry/1/f/a/up/x", "skerry/1/f/a/up/y", "skerry/1/f/a/up/", "skerry/1/f/a/up/x/z"},
        ),
        ("skerry/1/f/a/up/x/#", {"skerry/1/f/a/up/x", "skerry/1/f/a/up/x/z"}),
        ("skerry/1/f/a/up/+", {"skerry/1/f/a/up/x", "skerry/1/f/a/up/y", "skerry/1/f/a/up/"}),
        ("+/1/f/b/up/x", {"skerry/1/f/b/up/x"}),
        ("+/+/f/b/#", {"skerry/1/f/b/up/x"}),
        ("skerry/1/f/A/#", set()),
        ("skerry/1/f/a/up", set()),
        ("/skerry/1/f/a/up/x", set()),
        ("$share/g/skerry/1/f/a/up/x/", set()),
    ],
)
def test_filters(broker: Room, topic_filter: str, heard: set[str]) -> None:
    fleet = fleet_that_hears(broker, topic_filter)
    sent = ["a/up/x", "a/up/y", "a/up/", "a", "b/up/x", "a/up/x/z"]
    for each in sent:
        fleet.publish(f"skerry/1/f/{each}")
    assert {topic for topic, _, _ in closed(fleet)} == heard


def test_everything_does_not_mean_the_brokers_own(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "#", "+/#")
    fleet.publish("skerry/1/f/a")
    assert {topic for topic, _, _ in closed(fleet)} == {"skerry/1/f/a"}


@pytest.mark.parametrize("topic_filter", ["a+", "a/#/b", "#b", "", "a/b+/c"])
def test_filters_that_are_none_end_the_connection(broker: Room, topic_filter: str) -> None:
    wire = broker.device("default/filters")
    name = topic_filter.encode()
    body = b"\x00\x01" + len(name).to_bytes(2, "big") + name + b"\x01"
    wire.send(bytes((0x82, len(body))) + body)
    assert wire.ended()


def test_no_longer_subscribed(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/u/#", "skerry/1/v/#")
    fleet.send(packets.Unsubscribe(5, ("skerry/1/u/#", "never/subscribed")))
    assert fleet.read() == packets.Unsuback(5)
    fleet.publish("skerry/1/u/a")
    fleet.publish("skerry/1/v/a")
    assert [topic for topic, _, _ in closed(fleet)] == ["skerry/1/v/a"]


# ---- retained


def test_retained_reaches_only_matching_filters_and_once(broker: Room) -> None:
    fleet = broker.fleet()
    names = [f"default/r{number}" for number in range(4)]
    for name in names:
        fleet.publish(down(name), name.encode(), retain=True)
        fleet.publish(down(name, "ack"), b"not retained")
    for name in names:
        device = broker.device(name)
        device.subscribe(f"skerry/1/{name}/down/#")
        first = device.read()
        assert isinstance(first, Publish)
        assert (first.topic, first.payload, first.retain, first.qos) == (down(name), name.encode(), True, 1)
        fleet.publish(down(name, "ack"), b"end")
        assert device.messages(down(name, "ack")) == []
    for name in names:
        fleet.publish(down(name), b"", retain=True)


def test_retained_is_replaced_and_cleared(broker: Room) -> None:
    fleet, topic = fleet_that_hears(broker, "skerry/1/t/live"), "skerry/1/t/live"
    fleet.publish(topic, b"1", retain=True)
    fleet.publish(topic, b"2", retain=True)
    # A standing subscription hears it as a new message, without the flag.
    assert closed(fleet) == [(topic, b"1", False), (topic, b"2", False)]
    fleet.subscribe("skerry/1/t/+")
    assert closed(fleet) == [(topic, b"2", True)]
    fleet.publish(topic, b"3")  # not retained: changes nothing that is kept
    fleet.send(packets.Unsubscribe(5, ("skerry/1/t/live", "skerry/1/t/+")))
    closed(fleet) if not isinstance(fleet.read(), packets.Unsuback) else None
    fleet.subscribe("skerry/1/t/live")
    assert (topic, b"2", True) in closed(fleet)
    fleet.publish(topic, b"", retain=True)
    assert closed(fleet) == [(topic, b"", False)]
    fleet.subscribe("skerry/1/t/#", "skerry/1/+/live")
    assert closed(fleet) == []


def test_retained_keeps_its_qos_or_the_subscribers(broker: Room) -> None:
    fleet = broker.fleet()
    fleet.send(Publish("skerry/1/q/0", b"0", 0, True))
    fleet.publish("skerry/1/q/1", b"1", retain=True)
    fleet.subscribe("skerry/1/q/#", END)
    fleet.publish(END)
    assert {each.topic[-1]: each.qos for each in fleet.messages(END)} == {"0": 0, "1": 1}
    fleet.subscribe("skerry/1/q/1", qos=0)
    fleet.publish(END)
    assert [each.qos for each in fleet.messages(END)] == [0]
    for each in "01":
        fleet.publish(f"skerry/1/q/{each}", b"", retain=True)


# ---- wills


def test_a_will_is_said_when_a_connection_drops(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/+/+/up/presence")
    device = broker.device("default/w1", will=Will(up("default/w1", "presence"), b"gone", 1))
    device.drop()
    heard = fleet.read()
    assert isinstance(heard, Publish) and (heard.topic, heard.payload) == (up("default/w1", "presence"), b"gone")


def test_no_will_after_goodbye(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/+/+/up/presence")
    device = broker.device("default/w2", will=Will(up("default/w2", "presence"), b"gone", 1))
    device.send(packets.Disconnect())
    assert device.ended()
    other = broker.device("default/w3", will=Will(up("default/w3", "presence"), b"gone", 1))
    other.drop()
    heard = fleet.read()
    assert isinstance(heard, Publish) and heard.topic == up("default/w3", "presence")


def test_a_will_in_anothers_name_is_not_said(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/#")
    for topic in (up("default/victim", "presence"), down("default/victim"), down("default/w4")):
        broker.device("default/w4", will=Will(topic, b"evil", 1)).drop()
    broker.device("default/w5", will=Will(up("default/w5"), b"good", 1)).drop()
    while not isinstance(heard := fleet.read(), Publish) or heard.payload != b"good":
        assert isinstance(heard, Publish) and heard.payload != b"evil"


def test_silence_beyond_the_keepalive_is_a_drop(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/+/+/up/presence")
    device = broker.device("default/w6", keepalive_s=1, will=Will(up("default/w6", "presence"), b"gone", 1))
    heard = fleet.read()
    assert isinstance(heard, Publish) and heard.payload == b"gone"
    assert device.ended()


def test_pings_are_answered(broker: Room) -> None:
    device = broker.device("default/p1")
    device.send(packets.Pingreq())
    assert device.read() == packets.Pingresp()


# ---- QoS 1


def test_qos_1_both_ways(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/+/+/up/#")
    device = broker.device("default/q1")
    device.subscribe("skerry/1/default/q1/down/#")
    payloads = [b"%d" % number for number in range(500)]
    for number, payload in enumerate(payloads):
        device.send(Publish(up("default/q1"), payload, 1, False, False, number + 1))
    acknowledged = [device.read() for _ in payloads]
    assert acknowledged == [packets.Puback(number + 1) for number in range(500)]
    assert [payload for _, payload, _ in closed(fleet)] == payloads
    for payload in payloads:
        fleet.publish(down("default/q1", "ack"), payload)
    fleet.publish(down("default/q1", "end"))
    assert [each.payload for each in device.messages(down("default/q1", "end"))] == payloads


def test_a_repeated_message_is_taken_and_passed_on_as_new(broker: Room) -> None:
    """The publisher never saw the acknowledgement: it comes back and says the same again, marked as repeated."""
    fleet = fleet_that_hears(broker, "skerry/1/+/+/up/#")
    device = broker.device("default/q2")
    device.send(Publish(up("default/q2"), b"once", 1, False, False, 7))
    device.drop()
    again = broker.device("default/q2")
    again.send(Publish(up("default/q2"), b"once", 1, False, True, 7))
    assert again.read() == packets.Puback(7)
    fleet.publish(END)
    heard = fleet.messages(END)
    assert 1 <= len(heard) <= 2 and all(each.payload == b"once" and not each.dup for each in heard)


def test_the_lower_qos_is_granted(broker: Room) -> None:
    fleet = broker.fleet()
    assert fleet.subscribe("skerry/1/g/0", qos=0) == (0,)
    assert fleet.subscribe("skerry/1/g/1", qos=1) == (1,)
    fleet.publish("skerry/1/g/0")
    fleet.send(Publish("skerry/1/g/1", b"x", 0))
    assert {each.topic: each.qos for each in (fleet.read(), fleet.read()) if isinstance(each, Publish)} == {
        "skerry/1/g/0": 0,
        "skerry/1/g/1": 0,
    }


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


def refused(room: Room, certificate: Credentials | None, *first: Packet) -> bool:
    """Say whether the broker ends a connection that begins with these packets (a CONNECT, if none are given)."""
    try:
        wire = room.wire(certificate)
        wire.send(*(first or (Connect("x"),)))
        wire.read()
    except (ConnectionError, ssl.SSLError):
        return True
    return False


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


# ---- a foreign client


def test_paho_lives_with_it(broker: Room) -> None:
    heard: list[tuple[str, bytes, bool]] = []
    client = broker.foreigner(broker.certificate("default/paho"), "default/paho")
    client.will_set(up("default/paho", "presence"), b"gone", 1)
    client.on_message = lambda _client, _data, message: heard.append(
        (message.topic, bytes(message.payload), message.retain)
    )
    client.on_connect = lambda each, *_: each.subscribe("skerry/1/default/paho/down/#", 1)
    fleet = fleet_that_hears(broker, "skerry/1/+/+/up/#")
    fleet.publish(down("default/paho"), b"kept", retain=True)
    client.connect("localhost", broker.port, 60)
    client.loop_start()
    eventually(lambda: heard == [(down("default/paho"), b"kept", True)], "the retained message, once")
    infos = [client.publish(up("default/paho"), b"%d" % number, 1) for number in range(300)]
    for info in infos:
        info.wait_for_publish(30)
    assert [payload for _, payload, _ in closed(fleet)] == [b"%d" % number for number in range(300)]
    fleet.publish(down("default/paho", "ack"), b"live")
    eventually(lambda: heard[-1] == (down("default/paho", "ack"), b"live", False), "the live message")
    client.disconnect()
    client.loop_stop()
    assert closed(fleet) == []
    fleet.publish(down("default/paho"), b"", retain=True)

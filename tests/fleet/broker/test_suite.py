"""What any broker of ours must do, asked of each with the same words: what is delivered to whom, and how often."""

from __future__ import annotations

import pytest
from tests.fleet.broker.conftest import (
    END,
    Room,
    closed,
    down,
    eventually,
    fleet_that_hears,
    up,
)

from skerry_fleet.mqtt import packets
from skerry_fleet.mqtt.packets import Publish, Will

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

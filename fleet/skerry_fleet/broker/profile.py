"""What a broker must do for a fleet and its devices, asked of a live one, line by line: `skerry fleet broker check`.

The profile is MQTT 3.1.1 with TLS and client certificates, QoS 0 and 1, clean sessions, retained messages, plain wills,
and rights that follow from the certificate's name alone (docs/broker.md). Whether something is *not* delivered is never
decided by waiting: a message that is allowed is sent after it, and brokers keep the order of one publisher.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from skerry_contracts import topics
from skerry_fleet.broker.config import FLEET
from skerry_fleet.broker.profile_wire import Examined, Unlike, Visitor, examined
from skerry_fleet.mqtt.packets import Will
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.keys import KeyStore

ONE, OTHER = "skerry-check-1", "skerry-check-2"
UP = f"{topics.ROOT}/+/+/up/#"
FLOOD, FLOOD_BYTES = 5000, 512
KEEPALIVE_S = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line of the profile: what is demanded, whether it holds, and what was seen where it does not."""

    demand: str
    holds: bool
    seen: str = ""


def check(
    host: str, port: int, authority: Authority, tenant: str, now_s: float, wait_s: float = 5.0
) -> Iterator[Finding]:
    """Yield what a broker does of the profile. It is visited as the client `fleet` and as two devices that nobody has
    enrolled; a fleet that is connected loses its connection for as long.
    """
    for demand in DEMANDS:
        with examined(host, port, authority, tenant, now_s, wait_s) as broker:
            found = looked(demand, broker)
        yield found
        if demand == FIRST and not found.holds:
            return  # nobody is there, or nobody is let in


def looked(demand: str, broker: Examined) -> Finding:
    """Return whether a broker does one thing that is demanded."""
    try:
        DEMANDS[demand](broker)
    except (Unlike, OSError) as error:
        return Finding(demand, False, str(error) or type(error).__name__)
    return Finding(demand, True)


def _up(broker: Examined, device: str, channel: str = "progress") -> str:
    return f"{topics.ROOT}/{broker.identity(device)}/up/{channel}"


def _down(broker: Examined, device: str, channel: str = "ack") -> str:
    return f"{topics.ROOT}/{broker.identity(device)}/down/{channel}"


def _fleet(broker: Examined) -> Visitor:
    fleet = broker.visit(FLEET)
    fleet.subscribe(UP)
    return fleet


def _device(broker: Examined, name: str) -> Visitor:
    device = broker.visit(broker.identity(name))
    device.subscribe(f"{topics.ROOT}/{broker.identity(name)}/down/#")
    return device


def _must(holds: bool, seen: str) -> None:
    if not holds:
        raise Unlike(seen)


def _lets_in(broker: Examined) -> None:
    _device(broker, ONE)
    _fleet(broker)


def _refused(connect: Callable[[], Visitor]) -> None:
    try:
        connect()
    except Unlike:
        return
    raise Unlike("it is let in")


def _needs_certificate(broker: Examined) -> None:
    _refused(lambda: broker.visit("anybody", bare=True))


def _foreign_certificate(broker: Examined) -> None:
    folder = broker.folder / "other"
    other = Authority.create(folder, KeyStore(folder / "keys"), broker.now_s)
    _refused(lambda: broker.visit(broker.identity(ONE), authority=other))


def _order(broker: Examined) -> None:
    fleet, device = _fleet(broker), _device(broker, ONE)
    wanted = [str(each).encode() for each in range(200)]
    _must(device.flood(_up(broker, ONE), wanted) == len(wanted), "not all are acknowledged")
    got = [each.payload for each in fleet.until(_up(broker, ONE), wanted[-1])]
    _must(got == wanted[:-1], f"{len(got) + 1} of {len(wanted)} arrive, or in another order")


def _both_ways(broker: Examined) -> None:
    fleet, device = _fleet(broker), _device(broker, ONE)
    fleet.publish(_down(broker, ONE), b"hello")
    device.until(_down(broker, ONE), b"hello")


def _retained(broker: Examined) -> None:
    fleet = _fleet(broker)
    topic = _down(broker, ONE, "assignment")
    fleet.publish(topic, b"kept", retain=True)
    try:
        device = _device(broker, ONE)
        fleet.publish(_down(broker, ONE), b"end")
        found = device.until(_down(broker, ONE), b"end")
        _must([(each.topic, each.payload) for each in found] == [(topic, b"kept")], "a new subscriber does not get it")
        _must(found[0].retain, "it is not marked as retained")
    finally:
        fleet.publish(topic, b"", retain=True)
    again = _device(broker, ONE)
    fleet.publish(_down(broker, ONE), b"end")
    _must(again.until(_down(broker, ONE), b"end") == [], "it cannot be cleared by an empty one")


def _will(broker: Examined) -> None:
    fleet = _fleet(broker)
    device = broker.visit(broker.identity(ONE), will=Will(_up(broker, ONE, "presence"), b"gone", 1))
    device.drop()
    fleet.until(_up(broker, ONE, "presence"), b"gone")


def _no_will(broker: Examined) -> None:
    fleet = _fleet(broker)
    device = broker.visit(broker.identity(ONE), will=Will(_up(broker, ONE, "presence"), b"gone", 1))
    device.leave()
    _device(broker, ONE).publish(_up(broker, ONE), b"end")
    _must(fleet.until(_up(broker, ONE), b"end") == [], "the will is said")


def _silence(broker: Examined) -> None:
    fleet = _fleet(broker)
    will = Will(_up(broker, ONE, "presence"), b"silent", 1)
    broker.visit(broker.identity(ONE), will=will, keepalive_s=KEEPALIVE_S)
    # MQTT 3.1.1, 3.1.2.10: one and a half times the keep-alive; brokers look for it every few seconds.
    fleet.until(_up(broker, ONE, "presence"), b"silent", wait_s=1.5 * KEEPALIVE_S + 2 * broker.wait_s)


def _take_over(broker: Examined) -> None:
    first = _device(broker, ONE)
    second = _device(broker, ONE)
    _must(first.ended(), "both stay connected")
    second.publish(_up(broker, ONE), b"here")


def _large(broker: Examined) -> None:
    fleet, device = _fleet(broker), _device(broker, ONE)
    payload = bytes(range(256)) * (topics.MAX_PAYLOAD_BYTES // 256)
    device.publish(_up(broker, ONE, "sample"), payload)
    fleet.until(_up(broker, ONE, "sample"), payload)


def _writes(broker: Examined) -> None:
    fleet, other = _fleet(broker), _device(broker, OTHER)
    wanted = [_up(broker, OTHER, "sample"), _down(broker, OTHER), _up(broker, ONE, "no-such-channel")]
    for topic in wanted:
        _forbidden(_device(broker, ONE), topic)
    _device(broker, ONE).publish(_up(broker, ONE), b"end")
    fleet.publish(_down(broker, OTHER, "assignment"), b"end")
    heard = [each.topic for each in fleet.until(_up(broker, ONE), b"end")]
    heard += [each.topic for each in other.until(_down(broker, OTHER, "assignment"), b"end")]
    _must(heard == [], f"passed on: {', '.join(heard)}")


def _forbidden(device: Visitor, topic: str) -> None:
    """Publish what is not allowed: 3.1.1 has no word for no, so brokers drop it, or end the connection."""
    try:
        device.publish(topic, b"evil")
    except (Unlike, OSError):
        return
    finally:
        device.leave()  # some brokers keep out whoever comes again and again under one name


def _reads(broker: Examined) -> None:
    fleet = _fleet(broker)
    curious = broker.visit(broker.identity(ONE))
    try:
        for filter_ in ("#", f"{topics.ROOT}/#", UP, f"{topics.ROOT}/+/+/down/#"):
            curious.subscribe(filter_)
    except Unlike:  # ended for the attempt: nothing can be heard
        return
    _device(broker, OTHER).publish(_up(broker, OTHER), b"secret")
    fleet.until(_up(broker, OTHER), b"secret")
    fleet.publish(_down(broker, OTHER), b"secret")
    fleet.publish(_down(broker, ONE), b"end")
    try:
        curious.subscribe(f"{topics.ROOT}/{broker.identity(ONE)}/down/#")
        fleet.publish(_down(broker, ONE), b"end")
        heard = [each.topic for each in curious.until(_down(broker, ONE), b"end") if "secret" in str(each.payload)]
    except Unlike:
        return
    _must(heard == [], f"heard: {', '.join(heard)}")


def _will_elsewhere(broker: Examined) -> None:
    fleet = _fleet(broker)
    try:
        device = broker.visit(broker.identity(ONE), will=Will(_up(broker, OTHER, "presence"), b"lie", 1))
        device.drop()
    except Unlike:  # refused with the CONNECT, which is right, too
        pass
    # The will of a dropped connection may be late: one that is allowed comes after it.
    broker.visit(broker.identity(OTHER), will=Will(_up(broker, OTHER, "presence"), b"end", 1)).drop()
    heard = fleet.until(_up(broker, OTHER, "presence"), b"end")
    _must(heard == [], "another device's presence can be spoken of")


def _stolen_name(broker: Examined) -> None:
    fleet, device = _fleet(broker), _device(broker, ONE)
    for stolen in (broker.identity(ONE), FLEET):
        try:
            broker.visit(broker.identity(OTHER), client_id=stolen)
        except Unlike:  # refused: right, too
            continue
    fleet.publish(_down(broker, ONE), b"still there")
    device.until(_down(broker, ONE), b"still there")


def _clean(broker: Examined) -> None:
    fleet, device = _fleet(broker), _device(broker, ONE)
    device.leave()
    fleet.publish(_down(broker, ONE), b"meanwhile")
    again = _device(broker, ONE)
    fleet.publish(_down(broker, ONE), b"end")
    _must(again.until(_down(broker, ONE), b"end") == [], "what came meanwhile is delivered")


def _no_loss(broker: Examined) -> None:
    """The fleet does not read while a device publishes: what is acknowledged to the device must reach the fleet."""
    fleet, device = _fleet(broker), _device(broker, ONE)
    payloads = [str(each).encode().ljust(FLOOD_BYTES) for each in range(FLOOD)]
    acknowledged, arrived = 0, 0
    for at in range(0, FLOOD, 100):
        part = device.flood(_up(broker, ONE, "sample"), payloads[at : at + 100])
        acknowledged += part
        if part < 100:
            break  # made to wait: the other right answer
    try:
        arrived = 1 + len(fleet.until(_up(broker, ONE, "sample"), payloads[acknowledged - 1])) if acknowledged else 0
        lost = acknowledged - arrived
    except Unlike:
        lost = -1
    _must(
        lost <= 0 and arrived >= acknowledged, f"of {acknowledged} messages that were acknowledged, some never arrive"
    )


FIRST = "a device and the fleet are let in by their certificates"
DEMANDS: dict[str, Callable[[Examined], None]] = {
    FIRST: _lets_in,
    "who has no certificate is refused": _needs_certificate,
    "certificates of another authority are refused": _foreign_certificate,
    "QoS 1 from devices arrives whole and in order": _order,
    "QoS 1 to devices arrives": _both_ways,
    "assignments are retained, and can be cleared": _retained,
    "the will is said when a connection drops": _will,
    "no will is said after DISCONNECT": _no_will,
    "silence of 1.5 times the keep-alive counts as dropped": _silence,
    "a new connection of a device ends its older one": _take_over,
    f"payloads of {topics.MAX_PAYLOAD_BYTES // 1024} KiB are passed on": _large,
    "a device writes to its own channels only": _writes,
    "a device hears what is meant for it only": _reads,
    "a device's will is held to the same rules": _will_elsewhere,
    "a client id is worth nothing: nobody ends another's connection with it": _stolen_name,
    "a clean session keeps nothing for a device that is away": _clean,
    "what is acknowledged to a device reaches a slow fleet": _no_loss,
}

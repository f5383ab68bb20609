"""The brain without sockets: what happens when somebody does not read, and odd orders of events."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry_contracts import codec as words
from skerry_fleet.broker import access, config
from skerry_fleet.broker.config import BrokerConfig
from skerry_fleet.broker.errors import ConfigurationError
from skerry_fleet.broker.hub import Hub
from skerry_fleet.broker.journal import Journal
from skerry_fleet.broker.session import Session
from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.packets import Connect, Packet, Publish, Will

SETTINGS = BrokerConfig(
    "127.0.0.1", 0, "ca", "crt", "key", "revoked", "journal", device_buffer_bytes=300_000, fleet_buffer_bytes=400_000
)


class Bench:
    """A hub whose clients read when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        self.hub = Hub(SETTINGS, Journal(folder / "journal"), self.lines.append)

    def client(self, identity: str, *filters: str, will: Will | None = None) -> Session:
        session = self.hub.open(identity, 0.0)
        assert session is not None
        self.say(session, Connect(identity, will=will))
        if filters:
            self.say(session, packets.Subscribe(1, tuple((each, 1) for each in filters)))
        self.hear(session)
        return session

    def say(self, session: Session, *sent: Packet) -> None:
        self.hub.receive(session, b"".join(map(codec.encode, sent)))

    def hear(self, session: Session) -> list[Packet]:
        """Let a client read everything that waits for it."""
        data = b"".join(session.out)
        session.out.clear()
        session.out_bytes = 0
        self.hub.drained(session)
        return codec.Decoder(packets.TO_CLIENT, 2**20).feed(data)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_publishers_wait_for_a_fleet_that_does_not_read(bench: Bench) -> None:
    fleet = bench.client("fleet", "skerry/1/#")
    device = bench.client("default/a")
    sent = 0
    while not device.waits_for:
        sent += 1
        bench.say(device, Publish("skerry/1/default/a/up/sample", b"x" * 10_000, 1, False, False, sent))
    assert 40 <= sent <= 41 and not fleet.ending and device in bench.hub.changed_readers
    heard = bench.hear(fleet)
    assert len(heard) == sent and device.waits_for == 0


def test_a_publisher_is_freed_when_the_reader_ends(bench: Bench) -> None:
    fleet = bench.client("fleet", "skerry/1/#")
    device = bench.client("default/a")
    while not device.waits_for:
        bench.say(device, Publish("skerry/1/default/a/up/sample", b"x" * 50_000))
    bench.hub.lost(fleet)
    assert device.waits_for == 0


def test_a_device_that_does_not_read_is_let_go(bench: Bench) -> None:
    fleet = bench.client("fleet")
    device = bench.client("default/a", "skerry/1/default/a/down/#")
    for _ in range(4):
        bench.say(fleet, Publish("skerry/1/default/a/down/x", b"x" * 100_000))
    assert "does not read" in device.ending and not fleet.waits_for and not fleet.ending


def test_a_fleet_that_floods_itself_is_let_go_at_last(bench: Bench) -> None:
    """It cannot be made to wait for itself: that would be for ever."""
    fleet = bench.client("fleet", "skerry/1/#")
    for _ in range(10):
        bench.say(fleet, Publish("skerry/1/x", b"x" * 100_000))
    assert fleet.ending and fleet.waits_for == 0


def test_a_reader_that_never_acknowledges_is_let_go(bench: Bench) -> None:
    fleet = bench.client("fleet")
    device = bench.client("default/a", "skerry/1/default/a/down/#")
    for number in range(65536):
        bench.say(fleet, Publish("skerry/1/default/a/down/x", b"", 1, False, False, number % 65535 + 1))
        bench.hear(device)
    assert "not acknowledged" in device.ending


def test_packet_ids_under_way_are_not_used_again(bench: Bench) -> None:
    fleet = bench.client("fleet")
    device = bench.client("default/a", "skerry/1/default/a/down/#")
    seen: set[int] = set()
    for number in range(70_000):
        bench.say(fleet, Publish("skerry/1/default/a/down/x", b"", 1, False, False, number % 65535 + 1))
        (heard,) = bench.hear(device)
        assert isinstance(heard, Publish)
        if heard.packet_id % 1000 == 0:
            assert heard.packet_id not in seen
            seen.add(heard.packet_id)  # these are never acknowledged
        else:
            bench.say(device, packets.Puback(heard.packet_id))
    assert not device.ending and len(device.in_flight) == len(seen) == 65


def test_overlapping_filters_deliver_once_with_the_highest_qos(bench: Bench) -> None:
    fleet = bench.client("fleet")
    bench.say(fleet, packets.Subscribe(1, (("skerry/1/#", 0), ("skerry/1/+/x", 1), ("skerry/1/a/x", 0))))
    bench.hear(fleet)
    bench.say(fleet, Publish("skerry/1/a/x", b"", 1, False, False, 5))
    heard = [each for each in bench.hear(fleet) if isinstance(each, Publish)]
    assert [each.qos for each in heard] == [1]


def test_a_devices_retain_flag_is_passed_over(bench: Bench) -> None:
    device = bench.client("default/a", will=Will("skerry/1/default/a/up/presence", b"gone", 1, True))
    bench.say(device, Publish("skerry/1/default/a/up/sample", b"kept?", 0, True))
    bench.hub.lost(device)
    fleet = bench.client("fleet")
    bench.say(fleet, packets.Subscribe(1, (("#", 1),)))
    assert bench.hear(fleet) == [packets.Suback(1, (1,))]


def test_too_many_filters_or_levels_are_refused(bench: Bench) -> None:
    device = bench.client("default/a")
    wanted = tuple((f"a/{number}", 1) for number in range(SETTINGS.max_filters + 2))
    bench.say(device, packets.Subscribe(1, wanted), packets.Subscribe(2, (("a/0", 0), ("/" * 16, 0))))
    first, second = bench.hear(device)
    assert isinstance(first, packets.Suback) and first.codes.count(packets.SUBSCRIPTION_FAILED) == 2
    assert second == packets.Suback(2, (0, packets.SUBSCRIPTION_FAILED))
    bench.hub.lost(device)
    assert bench.hub._subscriptions._root.below == {}


def test_a_lasting_session_without_a_name_is_refused(bench: Bench) -> None:
    session = bench.hub.open("default/a", 0.0)
    assert session is not None
    bench.say(session, Connect("", clean_session=False))
    assert bench.hear(session) == [packets.Connack(packets.BAD_CLIENT_ID)] and session.ending


def test_nothing_after_goodbye(bench: Bench) -> None:
    fleet = bench.client("fleet", "skerry/1/#")
    device = bench.client("default/a")
    bench.say(device, packets.Disconnect(), Publish("skerry/1/default/a/up/sample", b""))
    assert bench.hear(fleet) == []


def test_what_is_retained_is_there_after_a_restart(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    first.say(first.client("fleet"), Publish("skerry/1/x", b"kept", 0, True))
    first.hub.settle()
    second = Bench(tmp_path)
    fleet = second.hub.open("fleet", 0.0)
    assert fleet is not None
    second.say(fleet, Connect("fleet"), packets.Subscribe(1, (("#", 0),)))
    assert second.hear(fleet)[-1] == Publish("skerry/1/x", b"kept", 0, True)


@pytest.mark.parametrize("identity", ["", "+", "a/#", "a\0b", "x" * 129])
def test_names_that_may_not_even_connect(bench: Bench, identity: str) -> None:
    assert bench.hub.open(identity, 0.0) is None


@pytest.mark.parametrize("identity", ["x", "a/b/c", "/a", "a/"])
def test_names_that_may_do_nothing(identity: str) -> None:
    rights = access.rights_of(identity, ["fleet"])
    assert rights is not None and not rights.may_read("skerry/1/x") and not rights.may_write("")


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        BrokerConfig("h", 70_000, "", "", "", "", "")
    with pytest.raises(ConfigurationError):
        BrokerConfig("h", 1, "", "", "", "", "", device_buffer_bytes=1)
    path = tmp_path / "settings.json"
    for text in (b"", b"{}", b"[]"):
        path.write_bytes(text)
        with pytest.raises(ConfigurationError) as refusal:
            config.load(path)
        assert refusal.value.hint
    with pytest.raises(ConfigurationError):
        config.load(tmp_path / "none.json")
    path.write_bytes(words.encode(SETTINGS))
    assert config.load(path) == SETTINGS

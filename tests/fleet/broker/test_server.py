"""The embedded broker's sockets with a clock and a time of day that the test turns."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.fleet.broker.conftest import Wire, eventually

from skerry_fleet.broker import doors
from skerry_fleet.broker.config import BrokerConfig
from skerry_fleet.broker.errors import ConfigurationError, PortTakenError
from skerry_fleet.broker.hub import Hub
from skerry_fleet.broker.journal import Journal
from skerry_fleet.broker.server import Server
from skerry_fleet.mqtt import packets
from skerry_fleet.mqtt.packets import Publish
from skerry_fleet.trust import credentials
from skerry_fleet.trust.authority import Authority, serial_of
from skerry_fleet.trust.credentials import Credentials
from skerry_fleet.trust.keys import KeyStore


class Running:
    """A server in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ahead_s = 0.0  # how far the test has turned the clock,
        self.later_s = 0.0  # and the time of day
        self.lines: list[str] = []
        now_s = time.time()
        self.office = Authority.create(folder, KeyStore(folder / "keys"), now_s)
        own = credentials.server(self.office, folder, [], now_s)
        self.config = BrokerConfig(
            host="127.0.0.1",
            port=0,
            ca=str(own.ca),
            certificate=str(own.certificate),
            key=str(own.key),
            revoked=str(folder / "revoked.json"),
            journal=str(folder / "journal"),
            device_buffer_bytes=200_000,
            fleet_buffer_bytes=200_000,
        )
        hub = Hub(self.config, Journal(folder / "journal"), self.lines.append)
        self.server = Server(self.config, hub, lambda: time.monotonic() + self.ahead_s, self.wall, self.lines.append)
        self.reader, self.writer = os.pipe()
        self.server.watch(self.reader, self.told)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        self.wires: list[Wire] = []

    def wall(self) -> float:
        return time.time() + self.later_s

    def told(self) -> None:
        self.server.reload() if os.read(self.reader, 1) == b"r" else self.server.stop()

    def wire(self, made: Credentials) -> Wire:
        self.wires.append(Wire(self.server.port, made, made.ca))
        return self.wires[-1]

    def device(self, name: str) -> Credentials:
        return credentials.visitor(self.office, self.folder / name, f"default/{name}", time.time())

    def fleet(self) -> Wire:
        return self.wire(credentials.fleet_client(self.office, self.folder, "fleet", time.time())).hello()

    def close(self) -> None:
        os.write(self.writer, b"s")
        self.thread.join()
        for wire in self.wires:
            wire.drop()
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.close()


def test_who_says_nothing_is_shown_out(running: Running) -> None:
    silent = running.wire(running.device("a"))
    greeted = running.wire(running.device("b")).hello(keepalive_s=0)
    running.ahead_s = running.config.hello_s + 1
    assert silent.ended()
    greeted.send(packets.Pingreq())
    assert greeted.read() == packets.Pingresp()
    eventually(lambda: any("no CONNECT within 10 s" in line for line in running.lines))


def test_an_hour_and_a_half_of_silence_is_too_much_even_without_keepalive(running: Running) -> None:
    device = running.wire(running.device("a")).hello(keepalive_s=0)
    running.ahead_s = 1.6 * running.config.max_keepalive_s
    assert device.ended()
    eventually(lambda: any("silent" in line for line in running.lines))


def test_a_certificate_that_expires_ends_its_open_connection(running: Running) -> None:
    device, fleet = running.wire(running.device("a")).hello(), running.fleet()
    running.later_s = 11 * 60  # a visitor's certificate is good for ten minutes
    assert device.ended()
    fleet.send(packets.Pingreq())
    assert fleet.read() == packets.Pingresp()
    eventually(lambda: any("expired" in line for line in running.lines))


def test_a_damaged_list_of_revoked_ones_changes_nothing(running: Running) -> None:
    made = running.device("a")
    device = running.wire(made).hello()
    (running.folder / "revoked.json").write_text("[")
    os.write(running.writer, b"r")
    eventually(lambda: any("not taken" in line for line in running.lines))
    device.send(packets.Pingreq())
    assert device.read() == packets.Pingresp()
    (running.folder / "revoked.json").write_text(f'["{serial_of(made.certificate.read_text()):X}"]')
    os.write(running.writer, b"r")
    assert device.ended()


def test_publishers_are_held_back_and_go_on(running: Running) -> None:
    """The fleet's window is 200 kB here: 8 MB can only pass if publishers wait and are woken again and again."""
    fleet = running.fleet()
    fleet.subscribe("skerry/1/#")
    device = running.wire(running.device("a")).hello()
    count, payload = 400, b"x" * 20_000

    def publish() -> None:
        for number in range(count):
            device.send(Publish("skerry/1/default/a/up/sample", payload, 1, False, False, number + 1))

    thread = threading.Thread(target=publish)
    thread.start()
    time.sleep(0.5)  # gives the queue time to fill; the test holds without it too
    heard = [fleet.read() for _ in range(count)]
    thread.join()
    assert all(isinstance(each, Publish) and each.payload == payload for each in heard)
    assert [device.read() for _ in range(count)] == [packets.Puback(number + 1) for number in range(count)]


@pytest.mark.parametrize("serial", [0x0A, 0xABC, 0x123456789ABCDEF, 1 << 158])
def test_any_serial_number_is_recognised(running: Running, monkeypatch: pytest.MonkeyPatch, serial: int) -> None:
    """OpenSSL writes an even number of digits, others do not: one in sixteen certificates has an odd number."""
    monkeypatch.setattr(x509, "random_serial_number", lambda: serial)
    device = running.wire(running.device("a")).hello()
    (running.folder / "revoked.json").write_text(f'["{serial:X}"]')
    os.write(running.writer, b"r")
    assert device.ended()


def test_a_taken_port(running: Running) -> None:
    taken = BrokerConfig("127.0.0.1", running.server.port, "", "", "", "", "")
    with pytest.raises(PortTakenError) as refusal:
        doors.listen(taken)
    assert "--broker-port" in refusal.value.hint


def test_certificates_that_are_none(tmp_path: Path) -> None:
    config = BrokerConfig("127.0.0.1", 0, str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "c"), "", "")
    with pytest.raises(ConfigurationError):
        doors.tls_context(config)
    for name in "abc":
        (tmp_path / name).write_text("nothing")
    with pytest.raises(ConfigurationError):
        doors.tls_context(config)


@pytest.mark.parametrize(
    "certificate", [None, {}, {"subject": ()}, {"subject": ((("commonName", "a"), ("commonName", "b")),)}]
)
def test_not_exactly_one_name(certificate: object) -> None:
    assert doors.common_name(certificate) == ""

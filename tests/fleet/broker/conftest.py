"""Real brokers with real certificates: each test runs over the embedded one and, where installed, over mosquitto."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from paho.mqtt.enums import CallbackAPIVersion

from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings
from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.client import tls_context
from skerry_fleet.mqtt.packets import Connect, Packet, Publish, Will
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.credentials import Credentials
from skerry_fleet.trust.keys import KeyStore, private_pem

DEADLINE_S = 30.0
END = "skerry/1/fleet/end"  # a topic that no device may read; the fleet closes its own lists with it
HAS_MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is not None
KINDS = [
    "embedded",
    pytest.param(
        "mosquitto",
        marks=[pytest.mark.mosquitto, pytest.mark.skipif(not HAS_MOSQUITTO, reason="mosquitto is not installed")],
    ),
]


def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Wait until a condition holds, as long as any machine may need."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never came true: {what}"
        time.sleep(0.005)


class Wire:
    """A blocking client that says exactly what a test wants it to say."""

    def __init__(self, port: int, credentials: Credentials | None, ca: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ca)
        if credentials is not None:
            context.load_cert_chain(credentials.certificate, credentials.key)
        plain = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(plain, server_hostname="localhost")
        self.decoder = codec.Decoder(packets.TO_CLIENT, 2**20)
        self.received: list[Packet] = []
        self.next_id = 0

    def send(self, *sent: Packet | bytes) -> None:
        self.sock.sendall(b"".join(each if isinstance(each, bytes) else codec.encode(each) for each in sent))

    def read(self) -> Packet:
        """Return the next packet."""
        while not self.received:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("the broker ended the connection")
            self.received += self.decoder.feed(data)
            assert self.decoder.fault is None
        return self.received.pop(0)

    def hello(self, client_id: str = "x", keepalive_s: int = 60, will: Will | None = None) -> Wire:
        self.send(Connect(client_id, keepalive_s, True, will))
        assert self.read() == packets.Connack()
        return self

    def subscribe(self, *filters: str, qos: int = 1) -> tuple[int, ...]:
        self.send(packets.Subscribe(9, tuple((each, qos) for each in filters)))
        answer = self.read()
        assert isinstance(answer, packets.Suback) and answer.packet_id == 9
        return answer.codes

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False, dup: bool = False) -> None:
        """Publish with QoS 1 and wait for the acknowledgement; messages that come meanwhile are kept."""
        self.next_id += 1
        self.send(Publish(topic, payload, 1, retain, dup, self.next_id))
        kept: list[Packet] = []
        while not isinstance(packet := self.read(), packets.Puback):
            kept.append(packet)
        self.received = kept + self.received
        assert packet.packet_id == self.next_id

    def messages(self, marker: str) -> list[Publish]:
        """Return what is delivered before a message on `marker`, which the caller has sent: the broker keeps order."""
        found: list[Publish] = []
        while True:
            packet = self.read()
            if isinstance(packet, Publish):
                if packet.qos:
                    self.send(packets.Puback(packet.packet_id))
                if packet.topic == marker:
                    return found
                found.append(packet)

    def ended(self) -> bool:
        """Read until the broker ends the connection."""
        try:
            while self.sock.recv(65536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        return True

    def drop(self) -> None:
        """End as a power cut seen by the network would: no DISCONNECT."""
        self.sock.close()


@dataclasses.dataclass
class Room:
    """A running broker, and how to come to it."""

    process: BrokerProcess
    authority: Authority
    folder: Path
    wires: list[Wire]
    foreigners: list[paho.Client]
    wall_s: float
    ca: Path
    numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    @property
    def port(self) -> int:
        return self.process.port

    def certificate(self, identity: str, *, days: float = 30, office: Authority | None = None) -> Credentials:
        """Make a device's certificate, with any name."""
        folder = self.folder / "devices"
        folder.mkdir(exist_ok=True)
        name = re.sub("[^a-z0-9]", "-", identity) + f"-{next(self.numbers)}"
        key = ec.generate_private_key(ec.SECP256R1())
        made = Credentials(self.ca, folder / f"{name}.crt", folder / f"{name}.key")
        issuer = office or self.authority
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        made.certificate.write_text(issuer._issue(key.public_key(), identity, self.wall_s, days, usage))
        made.key.write_bytes(private_pem(key))
        return made

    def wire(self, credentials: Credentials | None) -> Wire:
        wire = Wire(self.port, credentials, self.ca)
        self.wires.append(wire)
        return wire

    def device(self, identity: str, *, keepalive_s: int = 60, will: Will | None = None) -> Wire:
        return self.wire(self.certificate(identity)).hello(identity, keepalive_s, will)

    def fleet(self) -> Wire:
        return self.wire(self.process.fleet()).hello("fleet")

    def foreigner(self, credentials: Credentials, client_id: str) -> paho.Client:
        """Return paho's client, not yet connected."""
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv311)
        client.tls_set_context(tls_context(str(credentials.ca), str(credentials.certificate), str(credentials.key)))
        self.foreigners.append(client)
        return client


def open_room(kind: str, folder: Path, port: int = 0) -> Room:
    wall_s = time.time()
    office = Authority.create(folder, KeyStore(folder / "keys"), wall_s)
    process = BrokerProcess(BrokerSettings(folder / "broker", port=port, kind=kind), office)
    process.start()
    return Room(process, office, folder, [], [], wall_s, process.fleet().ca)


def tidy(room: Room) -> None:
    for foreigner in room.foreigners:
        foreigner.disconnect()
        foreigner.loop_stop()
    room.foreigners.clear()
    for wire in room.wires:
        wire.drop()
    room.wires.clear()


@pytest.fixture(params=KINDS, scope="module")
def shared_room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    room = open_room(request.param, tmp_path_factory.mktemp("room"))
    yield room
    tidy(room)
    room.process.stop()


@pytest.fixture
def broker(shared_room: Room) -> Iterator[Room]:
    """One broker for all tests of a module; what a test retains it clears."""
    assert shared_room.process.alive()
    yield shared_room
    tidy(shared_room)


@pytest.fixture(params=KINDS)
def own_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    """A broker that a test may kill."""
    room = open_room(request.param, tmp_path)
    yield room
    tidy(room)
    room.process.stop()


def refused(room: Room, certificate: Credentials | None, *first: Packet) -> bool:
    """Say whether the broker ends a connection that begins with these packets (a CONNECT, if none are given)."""
    try:
        wire = room.wire(certificate)
        wire.send(*(first or (Connect("x"),)))
        wire.read()
    except (ConnectionError, ssl.SSLError):
        return True
    return False


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

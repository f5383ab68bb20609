"""A visitor at a broker that is examined: blocking, exact, with a limit of time for everything it waits for."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import socket
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.client import tls_context
from skerry_fleet.mqtt.packets import Connect, Packet, Publish, Will
from skerry_fleet.trust.authority import Authority

RECEIVE_BYTES = 64 * 1024  # so that a reader who does not read is soon felt


class Unlike(Exception):
    """The broker does something else than the profile says."""


class Visitor:
    """One connection, with any identity's certificate and any client id."""

    def __init__(self, sock: ssl.SSLSocket, wait_s: float) -> None:
        self._sock, self._wait_s = sock, wait_s
        self._decoder = codec.Decoder(packets.TO_CLIENT, 1 << 20)
        self._received: list[Packet] = []
        self._ids = itertools.cycle(range(1, 65536))

    def send(self, *sent: Packet) -> None:
        """Send packets."""
        self._sock.sendall(b"".join(codec.encode(each) for each in sent))

    def read(self, wait_s: float | None = None) -> Packet:
        """Return the next packet.

        Raises:
            Unlike: the connection ended, or nothing came in time.
        """
        while not self._received:
            self._sock.settimeout(self._wait_s if wait_s is None else wait_s)
            try:
                data = self._sock.recv(65536)
            except TimeoutError as error:
                raise Unlike(f"nothing came within {wait_s or self._wait_s:g} s") from error
            except OSError as error:
                raise Unlike(f"the connection ended: {error.strerror or error}") from error
            if not data:
                raise Unlike("the connection ended")
            self._received += self._decoder.feed(data)
            if self._decoder.fault is not None:
                raise Unlike(f"it speaks no MQTT 3.1.1: {self._decoder.fault}")
        return self._received.pop(0)

    def subscribe(self, *filters: str) -> None:
        """Subscribe with QoS 1. A broker may say no; what is delivered decides."""
        number = next(self._ids)
        self.send(packets.Subscribe(number, tuple((each, 1) for each in filters)))
        kept: list[Packet] = []
        while not isinstance(packet := self.read(), packets.Suback):
            kept.append(packet)
        self._received = kept + self._received

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> None:
        """Publish with QoS 1, and wait for the acknowledgement."""
        number = next(self._ids)
        self.send(Publish(topic, payload, 1, retain, False, number))
        kept: list[Packet] = []
        while not isinstance(packet := self.read(), packets.Puback):
            kept.append(packet)
        self._received = kept + self._received

    def flood(self, topic: str, payloads: Sequence[bytes]) -> int:
        """Publish all of these at once with QoS 1; return how many were acknowledged before it made us wait."""
        self.send(*(Publish(topic, each, 1, False, False, next(self._ids)) for each in payloads))
        acknowledged = 0
        with contextlib.suppress(Unlike):
            while acknowledged < len(payloads):
                acknowledged += isinstance(self.read(), packets.Puback)
        return acknowledged

    def until(self, topic: str, payload: bytes, wait_s: float | None = None) -> list[Publish]:
        """Return the messages that come before one; brokers keep the order of one publisher."""
        found: list[Publish] = []
        while True:
            packet = self.read(wait_s)
            if isinstance(packet, Publish):
                if packet.qos:
                    self.send(packets.Puback(packet.packet_id))
                if (packet.topic, packet.payload) == (topic, payload):
                    return found
                found.append(packet)

    def ended(self) -> bool:
        """Read until the broker ends the connection; False: it does not."""
        try:
            while True:
                self.read()
        except Unlike as error:
            return "ended" in str(error)

    def leave(self) -> None:
        """End in order: no will is said."""
        with contextlib.suppress(OSError):
            self.send(packets.Disconnect())
        self.drop()

    def drop(self) -> None:
        """End as a power cut seen by the network would."""
        with contextlib.suppress(OSError):
            self._sock.close()


@dataclasses.dataclass(slots=True)
class Examined:
    """A broker that is examined, and who may come to it."""

    host: str
    port: int
    authority: Authority
    tenant: str
    now_s: float
    wait_s: float
    folder: Path
    visitors: list[Visitor] = dataclasses.field(default_factory=list)

    def identity(self, device: str) -> str:
        """Return a device's name as certificates and topics have it."""
        return f"{self.tenant}/{device}"

    def visit(
        self,
        identity: str,
        *,
        client_id: str | None = None,
        will: Will | None = None,
        keepalive_s: int = 60,
        authority: Authority | None = None,
        bare: bool = False,
    ) -> Visitor:
        """Connect with the certificate of an identity (`bare`: with none).

        Raises:
            Unlike: the broker does not let it in.
        """
        ca = self.folder / "ca.crt"
        ca.write_text(self.authority.certificate_pem)
        if bare:
            context = ssl.create_default_context(cafile=str(ca))
        else:
            office = authority or self.authority
            made = office.issue_visitor if "/" in identity else office.issue_fleet
            key, certificate = made(identity, self.now_s)
            names = (self.folder / "visitor.crt", self.folder / "visitor.key")
            for path, text in zip(names, (certificate, key), strict=True):
                path.write_text(text)
                path.chmod(0o600)
            context = tls_context(str(ca), *map(str, names))
        visitor = self._connect(context)
        self.visitors.append(visitor)
        try:
            visitor.send(Connect(identity if client_id is None else client_id, keepalive_s, True, will))
        except OSError as error:
            raise Unlike(f"not let in: {error.strerror or error}") from error
        answer = visitor.read()
        if not isinstance(answer, packets.Connack) or answer.code:
            raise Unlike(f"not let in: it answers {answer}")
        return visitor

    def _connect(self, context: ssl.SSLContext) -> Visitor:
        plain = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            plain.settimeout(self.wait_s)
            plain.connect((self.host, self.port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Visitor(context.wrap_socket(plain, server_hostname=self.host), self.wait_s)
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or error.reason or error
            plain.close()
            raise Unlike(f"TLS fails: {why}") from error
        except OSError as error:
            plain.close()
            raise Unlike(f"no connection to {self.host}:{self.port}: {error.strerror or error}") from error

    def tidy(self) -> None:
        """End every connection."""
        for each in self.visitors:
            each.leave()
        self.visitors.clear()


@contextlib.contextmanager
def examined(
    host: str, port: int, authority: Authority, tenant: str, now_s: float, wait_s: float
) -> Iterator[Examined]:
    """Yield a broker to examine; certificates made for it are gone when the context ends."""
    with tempfile.TemporaryDirectory(prefix="skerry-check-") as folder:
        found = Examined(host, port, authority, tenant, now_s, wait_s, Path(folder))
        try:
            yield found
        finally:
            found.tidy()

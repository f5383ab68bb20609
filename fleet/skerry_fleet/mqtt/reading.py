"""The bodies of packets, one reader a packet type: each takes the four flag bits and the whole body."""

from __future__ import annotations

from collections.abc import Callable

from skerry_fleet.mqtt import filters, packets
from skerry_fleet.mqtt.errors import ProtocolError, VersionError
from skerry_fleet.mqtt.packets import Packet, Publish, Will


def publish(flags: int, body: bytes) -> Publish:
    """Read a message. The one hot reader: a broker's speed is mostly this function's."""
    qos = flags >> 1 & 3
    if qos > 1 or (flags & 8 and not qos):
        raise ProtocolError("QoS 2 is not in our profile" if qos == 2 else "a PUBLISH with impossible flags")
    if len(body) < 2:
        raise ProtocolError("a PUBLISH without topic")
    stop = 2 + (body[0] << 8 | body[1])
    if stop > len(body):
        raise ProtocolError("a text longer than its packet")
    try:
        topic = body[2:stop].decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("a text that is not UTF-8") from error
    if not topic or "+" in topic or "#" in topic or "\0" in topic:
        raise ProtocolError("a PUBLISH to what is no topic")
    if not qos:
        return Publish(topic, body[stop:], 0, bool(flags & 1), False, 0)
    if len(body) < stop + 2:
        raise ProtocolError("a PUBLISH without packet id")
    packet_id = body[stop] << 8 | body[stop + 1]
    if not packet_id:
        raise ProtocolError("packet id 0")
    return Publish(topic, body[stop + 2 :], 1, bool(flags & 1), bool(flags & 8), packet_id)


def _connect(flags: int, body: bytes) -> Packet:
    _flags(flags, 0)
    reader = _Body(body)
    protocol, level = reader.blob(), reader.byte()
    if protocol != b"MQTT" or level != 4:
        raise VersionError(f"protocol {protocol!r:.20} level {level}; this is MQTT 3.1.1 (level 4)")
    bits = reader.byte()
    keepalive_s = reader.number()
    if bits & 1 or (not bits & 4 and bits & 0x38) or bits >> 3 & 3 == 3 or (bits & 0xC0 == 0x40):
        raise ProtocolError("a CONNECT with impossible flags")
    client_id = reader.text()
    will = None
    if bits & 4:
        topic, payload = reader.text(), reader.blob()
        if not filters.valid_topic(topic):
            raise ProtocolError("a will on what is no topic")
        if bits >> 3 & 3 == 2:
            raise ProtocolError("QoS 2 is not in our profile")
        will = Will(topic, payload, bits >> 3 & 3, bool(bits & 0x20))
    username = reader.text() if bits & 0x80 else None
    password = reader.blob() if bits & 0x40 else None
    reader.end()
    return packets.Connect(client_id, keepalive_s, bool(bits & 2), will, username, password)


def _connack(flags: int, body: bytes) -> Packet:
    _flags(flags, 0)
    if len(body) != 2 or body[0] > 1 or body[1] > packets.NOT_AUTHORISED or (body[0] and body[1]):
        raise ProtocolError("an impossible CONNACK")
    return packets.Connack(body[1], bool(body[0]))


def _puback(flags: int, body: bytes) -> Packet:
    return packets.Puback(_only_id(flags, body))


def _unsuback(flags: int, body: bytes) -> Packet:
    return packets.Unsuback(_only_id(flags, body))


def _subscribe(flags: int, body: bytes) -> Packet:
    _flags(flags, 2)
    reader = _Body(body)
    packet_id = reader.packet_id()
    wanted = []
    while not reader.done:
        name, qos = reader.filter(), reader.byte()
        if qos > 2:
            raise ProtocolError(f"a subscription with QoS {qos}")
        wanted.append((name, qos))
    if not wanted:
        raise ProtocolError("a SUBSCRIBE without filters")
    return packets.Subscribe(packet_id, tuple(wanted))


def _unsubscribe(flags: int, body: bytes) -> Packet:
    _flags(flags, 2)
    reader = _Body(body)
    packet_id = reader.packet_id()
    names = []
    while not reader.done:
        names.append(reader.filter())
    if not names:
        raise ProtocolError("an UNSUBSCRIBE without filters")
    return packets.Unsubscribe(packet_id, tuple(names))


def _suback(flags: int, body: bytes) -> Packet:
    _flags(flags, 0)
    reader = _Body(body)
    packet_id = reader.packet_id()
    codes = tuple(body[2:])
    if not codes or any(code not in (0, 1, 2, packets.SUBSCRIPTION_FAILED) for code in codes):
        raise ProtocolError("an impossible SUBACK")
    return packets.Suback(packet_id, codes)


def _empty(packet: Packet) -> Callable[[int, bytes], Packet]:
    def read(flags: int, body: bytes) -> Packet:
        if flags or body:
            raise ProtocolError(f"a {type(packet).__name__} with flags or content")
        return packet

    return read


def _flags(found: int, wanted: int) -> None:
    if found != wanted:
        raise ProtocolError(f"reserved flags {found:04b}")


def _only_id(flags: int, body: bytes) -> int:
    if flags or len(body) != 2:
        raise ProtocolError("an acknowledgement with flags, or not of two bytes")
    packet_id = body[0] << 8 | body[1]
    if not packet_id:
        raise ProtocolError("packet id 0")
    return packet_id


class _Body:
    """A packet's body, read from front to back."""

    __slots__ = ("_body", "_position")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    @property
    def done(self) -> bool:
        return self._position == len(self._body)

    def end(self) -> None:
        if not self.done:
            raise ProtocolError("bytes after the end of a packet's fields")

    def _take(self, count: int) -> bytes:
        stop = self._position + count
        if stop > len(self._body):
            raise ProtocolError("a packet that ends too early")
        taken = self._body[self._position : stop]
        self._position = stop
        return taken

    def byte(self) -> int:
        return self._take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self._take(2), "big")

    def packet_id(self) -> int:
        packet_id = self.number()
        if not packet_id:
            raise ProtocolError("packet id 0")
        return packet_id

    def blob(self) -> bytes:
        return self._take(self.number())

    def text(self) -> str:
        try:
            text = self.blob().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError("a text that is not UTF-8") from error
        if "\0" in text:
            raise ProtocolError("a text that holds a NUL")
        return text

    def filter(self) -> str:
        name = self.text()
        if not filters.valid_filter(name):
            raise ProtocolError("a subscription to what is no filter")
        return name


READERS: dict[int, Callable[[int, bytes], Packet]] = {
    packets.CONNECT: _connect,
    packets.CONNACK: _connack,
    packets.PUBLISH: publish,
    packets.PUBACK: _puback,
    packets.SUBSCRIBE: _subscribe,
    packets.SUBACK: _suback,
    packets.UNSUBSCRIBE: _unsubscribe,
    packets.UNSUBACK: _unsuback,
    packets.PINGREQ: _empty(packets.Pingreq()),
    packets.PINGRESP: _empty(packets.Pingresp()),
    packets.DISCONNECT: _empty(packets.Disconnect()),
}

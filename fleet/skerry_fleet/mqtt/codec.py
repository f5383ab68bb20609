"""Packets to bytes and back, without I/O. The decoder takes any split of the stream and holds at most one packet.

Strict: whatever MQTT 3.1.1 calls a protocol violation raises, and so do QoS 2 packets, which our profile leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable

from skerry_fleet.mqtt import filters, packets
from skerry_fleet.mqtt.errors import ProtocolError, TooLargeError
from skerry_fleet.mqtt.packets import Packet, Publish
from skerry_fleet.mqtt.reading import READERS

PINGREQ_BYTES = b"\xc0\x00"
PINGRESP_BYTES = b"\xd0\x00"
DISCONNECT_BYTES = b"\xe0\x00"

# Known without waiting for the body, so that a stranger's bytes are soon told from ours.
_TWO_BYTES = (packets.CONNACK, packets.PUBACK, packets.UNSUBACK)
_NO_BYTES = (packets.PINGREQ, packets.PINGRESP, packets.DISCONNECT)
_MAX_SIZES = dict.fromkeys(_TWO_BYTES, 2) | dict.fromkeys(_NO_BYTES, 0)


def encode(packet: Packet) -> bytes:
    """Return the bytes of a packet.

    Raises:
        ValueError: a field cannot be written (too long, not a topic, a number out of range).
    """
    match packet:
        case Publish():
            return encode_publish(packet)
        case packets.Puback(packet_id):
            return b"\x40\x02" + _id(packet_id)
        case packets.Connect():
            return _connect(packet)
        case packets.Connack(code, present):
            return bytes((0x20, 2, present, code))
        case packets.Subscribe(packet_id, wanted):
            body = b"".join(_text(_filter(name)) + bytes((qos,)) for name, qos in wanted)
            return _packet(0x82, _id(packet_id) + body)
        case packets.Suback(packet_id, codes):
            return _packet(0x90, _id(packet_id) + bytes(codes))
        case packets.Unsubscribe(packet_id, names):
            return _packet(0xA2, _id(packet_id) + b"".join(_text(_filter(name)) for name in names))
        case packets.Unsuback(packet_id):
            return b"\xb0\x02" + _id(packet_id)
        case packets.Pingreq():
            return PINGREQ_BYTES
        case packets.Pingresp():
            return PINGRESP_BYTES
        case packets.Disconnect():
            return DISCONNECT_BYTES


def encode_publish(packet: Publish) -> bytes:
    """Return the bytes of a message.

    Raises:
        ValueError: no topic, or a packet id that does not belong to the QoS.
    """
    head = publish_head(packet.topic, len(packet.payload), packet.qos, retain=packet.retain, dup=packet.dup)
    return head + (_id(packet.packet_id) if packet.qos else b"") + packet.payload


def publish_head(topic: str, payload_bytes: int, qos: int, *, retain: bool = False, dup: bool = False) -> bytes:
    """Return everything of a message that comes before the packet id (QoS 1) or the payload (QoS 0).

    A broker writes it once for all subscribers of one QoS.
    """
    if not filters.valid_topic(topic):
        raise ValueError(f"{topic!r:.120} is no topic")
    if qos not in (0, 1) or dup > qos:
        raise ValueError(f"QoS {qos}{' repeated' if dup else ''} is not in our profile")
    name = topic.encode("utf-8")
    size = 2 + len(name) + (2 if qos else 0) + payload_bytes
    return bytes((0x30 | dup << 3 | qos << 1 | retain,)) + _length(size) + len(name).to_bytes(2, "big") + name


class Decoder:
    """Turns a byte stream into packets. `accept` names the packet types this side may be sent.

    When `fault` is set the stream is beyond repair and the connection must end; packets before the fault were returned.
    """

    __slots__ = ("_accept", "_buffer", "_needed", "fault", "max_packet_bytes")

    def __init__(self, accept: Iterable[int], max_packet_bytes: int) -> None:
        self._accept = frozenset(accept)
        self._buffer = bytearray()
        self._needed = 0
        self.max_packet_bytes = max_packet_bytes
        self.fault: ProtocolError | None = None

    @property
    def waiting_bytes(self) -> int:
        """How much of an unfinished packet is held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that these bytes complete; nothing more once `fault` is set."""
        if self._buffer:
            # Grows in place and is read again only when the packet is whole: drops cost no more than one gulp.
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        found: list[Packet] = []
        if self.fault is None:
            try:
                self._read(data, found)
            except ProtocolError as error:
                self.fault = error
        return found

    def _read(self, data: bytes, found: list[Packet]) -> None:
        start, end = 0, len(data)
        self._needed = 2
        while end - start >= 2:
            size = data[start + 1]
            body = start + 2
            if size > 127:
                size, body = self._long_size(data, start, end)
                if body == 0:
                    break
            stop = body + size
            if stop - start > self.max_packet_bytes:
                raise TooLargeError(f"a packet of {stop - start} bytes, at most {self.max_packet_bytes} are taken")
            if (kind := data[start] >> 4) not in self._accept:
                raise ProtocolError(f"packet type {kind} is not expected here")
            if stop > end:
                if size > _MAX_SIZES.get(kind, size):
                    raise ProtocolError(f"a packet of type {kind} with {size} bytes")
                self._needed = stop - start
                break
            found.append(READERS[kind](data[start] & 15, data[body:stop]))
            start = stop
        if start < end:
            self._buffer += data[start:]

    @staticmethod
    def _long_size(data: bytes, start: int, end: int) -> tuple[int, int]:
        """Return the remaining length and where the body begins; (0, 0) while bytes of the length are missing."""
        size = 0
        for count in range(4):
            if start + 1 + count >= end:
                return 0, 0
            byte = data[start + 1 + count]
            size |= (byte & 127) << (7 * count)
            if byte < 128:
                return size, start + 2 + count
        raise ProtocolError("a remaining length of more than four bytes")


def _connect(packet: packets.Connect) -> bytes:
    if not 0 <= packet.keepalive_s <= 65535:
        raise ValueError(f"a keep-alive of {packet.keepalive_s} s")
    flags = packet.clean_session << 1
    body = _text(packet.client_id)
    if packet.will is not None:
        will = packet.will
        if not filters.valid_topic(will.topic) or will.qos not in (0, 1):
            raise ValueError(f"{will.topic!r:.120} cannot be a will's topic")
        flags |= 4 | will.qos << 3 | will.retain << 5
        body += _text(will.topic) + _blob(will.payload)
    if packet.username is not None:
        flags |= 0x80
        body += _text(packet.username)
        if packet.password is not None:
            flags |= 0x40
            body += _blob(packet.password)
    elif packet.password is not None:
        raise ValueError("a password needs a user name")
    return _packet(0x10, b"\x00\x04MQTT\x04" + bytes((flags,)) + packet.keepalive_s.to_bytes(2, "big") + body)


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + _length(len(body)) + body


def _length(size: int) -> bytes:
    if size < 128:
        return bytes((size,))
    if size > packets.MAX_REMAINING_BYTES:
        raise ValueError(f"{size} bytes do not fit a packet")
    written = bytearray()
    while size > 127:
        written.append(size & 127 | 128)
        size >>= 7
    written.append(size)
    return bytes(written)


def _id(packet_id: int) -> bytes:
    if not 0 < packet_id <= 65535:
        raise ValueError(f"{packet_id} is no packet id")
    return packet_id.to_bytes(2, "big")


def _filter(name: str) -> str:
    if not filters.valid_filter(name):
        raise ValueError(f"{name!r:.120} is no topic filter")
    return name


def _text(text: str) -> bytes:
    if "\0" in text:
        raise ValueError("a text holds a NUL")
    return _blob(text.encode("utf-8"))


def _blob(data: bytes) -> bytes:
    if len(data) > packets.MAX_TEXT_BYTES:
        raise ValueError(f"{len(data)} bytes do not fit a field")
    return len(data).to_bytes(2, "big") + data

"""MQTT 3.1.1 for one of very many clients, without I/O: what such a client says, ready made, and what it hears, cut.

`skerry_fleet.mqtt` is the whole protocol with every check; a swarm has microseconds, says few things and hears few.
"""

from __future__ import annotations

import struct

from skerry_fleet.mqtt import codec
from skerry_fleet.mqtt.packets import Connect, Subscribe, Will

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 2, 3, 4, 9, 13
PING = codec.PINGREQ_BYTES
GOODBYE = codec.DISCONNECT_BYTES


def hello(client_id: str, user: str | None, keepalive_s: int, topic: str, will: bytes) -> bytes:
    """Return a CONNECT with a will of QoS 1."""
    return codec.encode(Connect(client_id, keepalive_s, will=Will(topic, will, 1), username=user))


def listen(topic_filter: str) -> bytes:
    """Return the SUBSCRIBE of a device: its own `down/#`, QoS 1."""
    return codec.encode(Subscribe(1, ((topic_filter, 1),)))


def publish(topic: bytes, payload: bytes, packet_id: int) -> bytes:
    """Return a PUBLISH; QoS 1 where there is a packet id, QoS 0 where it is 0."""
    size = 2 + len(topic) + (2 if packet_id else 0) + len(payload)
    first = 0x32 if packet_id else 0x30
    number = packet_id.to_bytes(2, "big") if packet_id else b""
    return b"%c%b%b%b%b%b" % (first, _length(size), len(topic).to_bytes(2, "big"), topic, number, payload)


def puback(packet_id: bytes) -> bytes:
    """Return the answer to a message with this packet id (two bytes, as it came)."""
    return b"\x40\x02" + packet_id


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return the whole packets at the beginning of a stream as (first byte, body), and the rest.

    Raises:
        ValueError: a length that MQTT does not know.
    """
    found: list[tuple[int, bytes]] = []
    at, end = 0, len(data)
    while end - at >= 2:
        size, body, shift = 0, at + 1, 0
        while True:
            if body >= end:
                return found, data[at:]
            byte = data[body]
            body += 1
            size |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 21:
                raise ValueError("a length of more than four bytes")
        if body + size > end:
            break
        found.append((data[at], data[body : body + size]))
        at = body + size
    return found, data[at:]


def message(first: int, body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return topic, packet id (two bytes; none with QoS 0) and payload of a PUBLISH."""
    (size,) = struct.unpack_from(">H", body)
    topic, rest = body[2 : 2 + size], body[2 + size :]
    return (topic, rest[:2], rest[2:]) if first & 6 else (topic, b"", rest)


def _length(size: int) -> bytes:
    if size < 128:
        return bytes((size,))
    written = bytearray()
    while size > 127:
        written.append(size & 127 | 128)
        size >>= 7
    written.append(size)
    return bytes(written)

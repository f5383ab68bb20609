"""The packets of MQTT 3.1.1 that our profile uses: QoS 0 and 1 (docs.oasis-open.org/mqtt/mqtt/v3.1.1, chapter 3)."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14

ACCEPTED, BAD_VERSION, BAD_CLIENT_ID, UNAVAILABLE, BAD_CREDENTIALS, NOT_AUTHORISED = range(6)
SUBSCRIPTION_FAILED = 0x80
MAX_TEXT_BYTES = 65535
MAX_REMAINING_BYTES = 268_435_455


class Will(NamedTuple):
    """What the broker says when a connection ends without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Connect(NamedTuple):
    """The first packet of a client."""

    client_id: str
    keepalive_s: int = 60
    clean_session: bool = True
    will: Will | None = None
    username: str | None = None
    password: bytes | None = None


class Connack(NamedTuple):
    """The broker's answer to CONNECT; `code` 0 is yes."""

    code: int = ACCEPTED
    session_present: bool = False


class Publish(NamedTuple):
    """One message. `packet_id` is 0 where `qos` is 0."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0


class Puback(NamedTuple):
    """A QoS 1 message has arrived."""

    packet_id: int


class Subscribe(NamedTuple):
    """Wanted filters, each with the highest QoS wanted."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


class Suback(NamedTuple):
    """The QoS granted to each filter, or `SUBSCRIPTION_FAILED`."""

    packet_id: int
    codes: tuple[int, ...]


class Unsubscribe(NamedTuple):
    """Filters no longer wanted."""

    packet_id: int
    filters: tuple[str, ...]


class Unsuback(NamedTuple):
    """The filters are gone."""

    packet_id: int


class Pingreq(NamedTuple):
    """Are you there?"""


class Pingresp(NamedTuple):
    """Yes."""


class Disconnect(NamedTuple):
    """An orderly end: the will is dropped."""


Packet: TypeAlias = (
    Connect | Connack | Publish | Puback | Subscribe | Suback | Unsubscribe | Unsuback | Pingreq | Pingresp | Disconnect
)

TO_BROKER = frozenset({CONNECT, PUBLISH, PUBACK, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT})
TO_CLIENT = frozenset({CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP})

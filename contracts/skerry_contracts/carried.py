"""What a person carries between a device and its fleet where no network joins them: a text file, one envelope a line.

Nothing is believed because it came by hand. A line is DSSE-signed for its own purpose: what a device hands out with the
device's key, the fleet's acknowledgement with the director's. Every line stands for itself and names whose it is, so a
file may be imported twice or in part without harm; `part` and `last` show a file that was cut short.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import BinaryIO

from skerry_contracts import codec, names
from skerry_contracts.assignment import Envelope
from skerry_contracts.device import Received
from skerry_contracts.errors import MalformedError, MismatchError
from skerry_contracts.topics import CHANNELS

CARRIED_TYPE = "application/vnd.skerry.carried.v1+json"
CARRIED_ACK_TYPE = "application/vnd.skerry.carried-ack.v1+json"
PART_BYTES = 400_000
"""Messages of one part together: as base64 in base64 they stay below a fleet's default `max_body_bytes`."""
MESSAGE_BYTES = 64  # what a message costs beside its payload
MAX_LINE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class CarriedMessage:
    """One spooled message: its channel, and exactly the bytes that the link would have sent."""

    channel: str
    payload: bytes

    def __post_init__(self) -> None:
        if self.channel not in CHANNELS or not CHANNELS[self.channel].spooled:
            raise MismatchError("channel", f"{self.channel!r:.40} is not kept until it is acknowledged")


@dataclasses.dataclass(frozen=True, slots=True)
class Carried:
    """Some of what waits on a device, in the order it was made. Parts count from 0; one is the `last`."""

    tenant: str
    device: str
    part: int
    last: bool
    messages: tuple[CarriedMessage, ...]

    def __post_init__(self) -> None:
        names.name(self.tenant, "tenant")
        names.name(self.device, "device")


@dataclasses.dataclass(frozen=True, slots=True)
class CarriedAck:
    """The fleet has committed these messages of one device. Parts as those that they answer."""

    tenant: str
    device: str
    part: int
    last: bool
    received: tuple[Received, ...]

    def __post_init__(self) -> None:
        names.name(self.tenant, "tenant")
        names.name(self.device, "device")


def read_lines(file: BinaryIO) -> Iterator[tuple[bytes, Carried | CarriedAck]]:
    """Yield each line with what it says, whoever signed it: the caller verifies the line before it believes that.

    Raises:
        MalformedError: no such file, cut short, or lines out of order.
        MismatchError: a line is no envelope, or of another kind.
    """
    part, ended, kind = 0, False, ""
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES or not line.endswith(b"\n"):
            raise MalformedError(f"part {part} is cut short or too long", hint="copy the file again")
        envelope = codec.decode(Envelope, line)
        said: Carried | CarriedAck
        if envelope.payload_type == CARRIED_TYPE:
            said = codec.decode(Carried, envelope.payload)
        elif envelope.payload_type == CARRIED_ACK_TYPE:
            said = codec.decode(CarriedAck, envelope.payload)
        else:
            raise MalformedError(f"a line of type {envelope.payload_type!r:.80}", hint="give a carried file")
        if said.part != part or ended or (kind and envelope.payload_type != kind):
            raise MalformedError(f"part {said.part} where part {part} should stand", hint="copy the file again")
        part, ended, kind = part + 1, said.last, envelope.payload_type
        yield line, said
    if not ended:
        raise MalformedError("the file ends before its last part", hint="copy the file again")

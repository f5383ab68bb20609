"""The one table of channels, and the one place where topic names are made and read.

    skerry/1/<tenant>/<device>/up/<channel>       device to fleet
    skerry/1/<tenant>/<device>/down/<channel>     fleet to device

A device's certificate carries `<tenant>/<device>` as its common name, so ACL patterns of that name fence every device:
write `skerry/1/%u/up/<channel>`, read `skerry/1/%u/down/#` (docs/adr/0002-topics.md).
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Any

from skerry_contracts import assignment, device, measuring, names, sample, shadow, sketch
from skerry_contracts.errors import MismatchError

ROOT = "skerry/1"
MAX_PAYLOAD_BYTES = 128 * 1024  # the tightest limit among the brokers we mean to run on (AWS IoT)


class Direction(StrEnum):
    """Which way a channel runs."""

    UP = "up"
    DOWN = "down"


@dataclasses.dataclass(frozen=True, slots=True)
class Channel:
    """One row of the table. `spooled` channels are kept on the device until the fleet's own acknowledgement."""

    name: str
    direction: Direction
    record: type[Any]
    qos: int
    retained: bool = False
    spooled: bool = False


CHANNELS: dict[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel("presence", Direction.UP, device.Presence, qos=1),
        Channel("heartbeat", Direction.UP, device.Heartbeat, qos=0),
        Channel("progress", Direction.UP, device.Progress, qos=1, spooled=True),
        Channel("receipt", Direction.UP, assignment.Envelope, qos=1, spooled=True),
        Channel("sample", Direction.UP, sample.Sample, qos=1, spooled=True),
        Channel("sketch", Direction.UP, sketch.Sketch, qos=1, spooled=True),
        Channel("shadow", Direction.UP, shadow.ShadowReport, qos=1, spooled=True),
        Channel("measured", Direction.UP, measuring.MeasureReport, qos=1, spooled=True),
        Channel("assignment", Direction.DOWN, assignment.Envelope, qos=1, retained=True),
        Channel("ack", Direction.DOWN, device.Ack, qos=1),
    )
}


@dataclasses.dataclass(frozen=True, slots=True)
class Topic:
    """A topic taken apart."""

    tenant: str
    device: str
    channel: Channel

    def __str__(self) -> str:
        return f"{ROOT}/{self.tenant}/{self.device}/{self.channel.direction}/{self.channel.name}"


def topic(tenant: str, device_id: str, channel: str) -> str:
    """Return the topic of a device's channel.

    Raises:
        MismatchError: a name that may not be a topic level, or no such channel.
    """
    if channel not in CHANNELS:
        raise MismatchError("channel", f"{channel!r:.40} is none of {', '.join(CHANNELS)}")
    return str(Topic(names.name(tenant, "tenant"), names.name(device_id, "device"), CHANNELS[channel]))


def parse(text: str) -> Topic:
    """Return the parts of a topic.

    Raises:
        MismatchError: not one of our topics.
    """
    parts = text.split("/")
    if len(parts) != 6 or "/".join(parts[:2]) != ROOT:
        raise MismatchError("topic", f"{text!r:.120} is not {ROOT}/<tenant>/<device>/<up|down>/<channel>")
    channel = CHANNELS.get(parts[5])
    if channel is None or channel.direction != parts[4]:
        raise MismatchError("topic", f"{text!r:.120} names no channel")
    return Topic(names.name(parts[2], "tenant"), names.name(parts[3], "device"), channel)

"""The planted bugs: seams of the real program, wrapped so that they do wrong. The program itself has no such switch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from skerry_contracts import codec
from skerry_contracts.device import Ack, Received
from skerry_contracts.topics import parse
from skerry_fleet.ingest import Batch, Committed, IngestStore, Written
from skerry_fleet.ingest_store import SqlIngestStore
from skerry_fleet.rollout_words import Place, State
from skerry_simulators.disk import SimDisk
from skerry_simulators.fleet import SimFleet
from skerry_simulators.storage import Storage, simulated
from skerry_simulators.world import World


class CarelessDisk(SimDisk):
    """`missing-fsync`: what should be durable stays in a cache."""

    def fsync(self, path: str) -> None:
        """Say yes and do nothing."""
        self._begin("fsync", path)


class HastyFleet(SimFleet):
    """`ack-before-commit`: the acknowledgement goes out when the message comes in."""

    def hear(self, device: str, channel: str, payload: bytes) -> None:
        """Acknowledge first, keep later."""
        super().hear(device, channel, payload)
        if self.core is not None and parse(f"skerry/1/t/{device}/up/{channel}").channel.spooled:
            said = codec.parse_json(payload)
            ack = Ack((Received(said["boot_id"], (said["seq"],)),))
            self.links[device].send_down("ack", codec.encode(ack))

    def _acknowledge(self, committed: Committed) -> None:
        """All were acknowledged long ago."""


class ForgetfulStore(SqlIngestStore):
    """`no-dedup`: every copy of a message is a new message."""

    copies = 0

    def write(self, batch: Batch) -> Written:
        """Number every message anew before it is stored."""
        messages = []
        for each in batch.messages:
            ForgetfulStore.copies += 1
            fresh = each.channel in ("sample", "sketch")
            messages.append(dataclasses.replace(each, seq=ForgetfulStore.copies << 32) if fresh else each)
        return super().write(Batch(messages, batch.dead))


class ForgetfulFleet(SimFleet):
    """The fleet with the forgetful store."""

    def make_store(self) -> IngestStore:
        """Return the forgetful store."""
        return ForgetfulStore(self.database, 1000, "default")


def careless_storage() -> Storage:
    """Return storage whose disk ignores fsync."""
    return simulated(CarelessDisk)


class CarelessWorld(World):
    """A world of devices with careless disks."""

    make_storage = staticmethod(careless_storage)


class HastyWorld(World):
    """A world with a hasty fleet."""

    make_fleet = HastyFleet


class ForgetfulWorld(World):
    """A world with a forgetful fleet."""

    make_fleet = ForgetfulFleet


WORLDS: dict[str, type[World]] = {
    "": World,
    "missing-fsync": CarelessWorld,
    "ack-before-commit": HastyWorld,
    "no-dedup": ForgetfulWorld,
    "no-inflight-budget": World,
}


@contextmanager
def planted(bug: str) -> Iterator[type[World]]:
    """Give the kind of world that has this bug (empty: none), and take the bug away afterwards."""
    right = State.exposure
    if bug == "no-inflight-budget":
        State.exposure = property(lambda state: state.counts[Place.FAILED])  # type: ignore[assignment]  # a mistake on purpose
    try:
        yield WORLDS[bug]
    finally:
        State.exposure = right  # type: ignore[method-assign]  # as it was

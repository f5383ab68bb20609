"""What is asked of leases, and which of them a caller may act on."""

from __future__ import annotations

import dataclasses

from sqlmodel import Session

from skerry_contracts import names
from skerry_contracts.bundle import Predicates
from skerry_fleet.audit import Actor
from skerry_fleet.errors import ForbiddenError, InputError, MissingError
from skerry_fleet.measure_tables import MeasureLease

MAX_SECONDS = 1800


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseRequest:
    """What a compiler asks: a board of this profile (`requires`: what its programs need), perhaps one by name.

    `source_sha256` is the model's digest, by which figures are found again.
    """

    profile: str
    requires: Predicates
    source_sha256: str
    device: str | None = None

    def __post_init__(self) -> None:
        names.name(self.profile, "profile")
        names.sha256(self.source_sha256, "source_sha256")
        if self.device is not None:
            names.name(self.device, "device")


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """How candidates are measured: rounds of each, and seconds for all."""

    seconds: int = 300
    rounds: int = 8

    def __post_init__(self) -> None:
        if not (1 <= self.seconds <= MAX_SECONDS and 1 <= self.rounds <= 64):
            raise InputError(f"seconds from 1 to {MAX_SECONDS}, rounds from 1 to 64")


def get(session: Session, tenant: str, lease: str) -> MeasureLease:
    """Return a lease's row.

    Raises:
        MissingError: no such lease.
    """
    row = session.get(MeasureLease, (tenant, lease))
    if row is None:
        raise MissingError(f"no lease {lease!r:.80}", hint="`skerry fleet lease list` shows what there is")
    return row


def owned(session: Session, actor: Actor, lease: str, *, by_role: bool) -> MeasureLease:
    """Return a lease that the caller may act on: its own, or any where its role allows (`by_role`).

    Raises:
        MissingError: no such lease.
        ForbiddenError: another key asked for it.
    """
    row = get(session, actor.tenant, lease)
    if row.created_by != actor.name and not by_role:
        raise ForbiddenError(f"lease {row.id} belongs to another key", hint="ask for a lease of your own")
    return row

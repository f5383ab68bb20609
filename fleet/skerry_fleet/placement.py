"""Which broker shard a device lives on: decided once, at enrolment, and recorded.

One broker process holds only so many connections (the limit of open files) and uses one core, so a large fleet has
several. A device is told the address of its own shard and goes nowhere else. When shards are added, devices stay where
they are and new ones spread over all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import sqlalchemy
from sqlmodel import Field, Session, SQLModel, col, func, select

from skerry_fleet.errors import ConflictError


class DeviceShard(SQLModel, table=True):
    """The shard of one device, counted from 0. A device without a row lives on shard 0: it is older than shards."""

    __tablename__ = "device_shard"

    tenant: str = Field(primary_key=True)
    device: str = Field(primary_key=True)
    shard: int


_PLACE = sqlalchemy.text(
    "INSERT INTO device_shard (tenant, device, shard) VALUES (:tenant, :device, :shard)"
    " ON CONFLICT (tenant, device) DO NOTHING"
)

_LOST = sqlalchemy.text(
    "SELECT s.name FROM device_state s LEFT JOIN device_shard p ON p.tenant = s.tenant AND p.device = s.name"
    " WHERE s.lost_ms > 0 AND s.tenant = :tenant AND COALESCE(p.shard, 0) = :shard"
)


def choose(tenant: str, device: str, shards: int) -> int:
    """Return a new device's shard: by hash of its name, so that every shard gets its share.

    >>> [choose("default", f"camera-{number}", 3) for number in range(4)]
    [1, 0, 0, 2]
    """
    return int.from_bytes(hashlib.sha256(f"{tenant}/{device}".encode()).digest()[:8], "big") % shards


def shard_of(session: Session, tenant: str, device: str) -> int:
    """Return the shard that a device lives on."""
    row = session.get(DeviceShard, (tenant, device))
    return 0 if row is None else row.shard


def shards_of(session: Session, tenant: str, devices: Iterable[str]) -> dict[str, int]:
    """Return the shards of some devices; who is not named lives on shard 0."""
    query = select(DeviceShard.device, DeviceShard.shard).where(DeviceShard.tenant == tenant)
    return dict(session.exec(query.where(col(DeviceShard.device).in_(list(devices)))).all())


def place(session: Session, tenant: str, device: str, shards: int) -> int:
    """Return a device's shard, chosen and recorded where it has none yet."""
    row = session.get(DeviceShard, (tenant, device))
    if row is None:
        row = DeviceShard(tenant=tenant, device=device, shard=choose(tenant, device, shards))
        session.add(row)
    return row.shard


def place_all(session: Session, tenant: str, devices: Iterable[str], shards: int) -> None:
    """Record a shard for each of many new devices; those that have one keep it."""
    rows = [{"tenant": tenant, "device": name, "shard": choose(tenant, name, shards)} for name in devices]
    if rows:
        session.connection().execute(_PLACE, rows)


def lost(session: Session, tenant: str, shard: int) -> list[str]:
    """Return the devices of a shard whose connections were lost, and that are not back."""
    return [row.name for row in session.connection().execute(_LOST, {"tenant": tenant, "shard": shard})]


def check(session: Session, shards: int) -> None:
    """Refuse to run with fewer shards than devices were told of.

    Raises:
        ConflictError: devices live on a shard that there would not be.
    """
    highest = session.exec(select(func.max(col(DeviceShard.shard)))).one()
    if highest is not None and highest >= shards:
        raise ConflictError(
            f"devices live on broker shard {highest}, and there would be only {shards}",
            hint=f"start with --shards {highest + 1} or more",
        )

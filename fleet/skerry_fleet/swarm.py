"""Simulated devices let into a fleet by its owner, for load tests (`skerry sim swarm`).

They have no certificate, so the broker's ordinary listener knows none of them: they connect only where the fleet was
started with `--swarm-port`, and only under names that begin with `swarm-`. They cannot renew, fetch or sign receipts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy
from sqlmodel import Session, col, select

from skerry_contracts.codec import encode
from skerry_contracts.device import Hardware
from skerry_fleet import audit, placement
from skerry_fleet.audit import Actor
from skerry_fleet.broker.mosquitto import SWARM_PREFIX
from skerry_fleet.database import Database
from skerry_fleet.tables import Device, DeviceState

CHUNK = 5000


def device_name(number: int) -> str:
    """Return the name of a simulated device."""
    return f"{SWARM_PREFIX}{number:06d}"


def admit(database: Database, tenant: str, count: int, hardware: Hardware, now: float, shards: int) -> int:
    """Let simulated devices 0 to `count` - 1 in, each with its shard; return how many were new."""
    with database.write() as session:
        known = set(session.exec(select(Device.name).where(col(Device.name).startswith(SWARM_PREFIX))))
        names = [name for name in map(device_name, range(count)) if name not in known]
        for chunk in _chunks(names):
            _add(session, tenant, chunk, encode(hardware).decode(), int(now * 1000))
            placement.place_all(session, tenant, chunk, shards)
        if names:
            audit.write(
                session, Actor(tenant, "system:swarm"), now, "swarm.admit", "swarm/all", None, {"new": len(names)}
            )
    return len(names)


def _add(session: Session, tenant: str, names: Sequence[str], hardware: str, now_ms: int) -> None:
    devices = [Device(tenant=tenant, name=name, created_ms=now_ms, hardware=hardware) for name in names]
    states = [DeviceState(tenant=tenant, name=name, last_seen_ms=now_ms) for name in names]
    connection = session.connection()
    connection.execute(sqlalchemy.insert(Device), [row.model_dump() for row in devices])
    connection.execute(sqlalchemy.insert(DeviceState), [row.model_dump() for row in states])


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(names), CHUNK):
        yield names[at : at + CHUNK]

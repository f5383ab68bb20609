"""Signed assignments that a broker does not have yet: read, marked, and forgotten again where a broker is new.

A device's row is published by the shard that the device lives on (`placement.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy

from skerry_fleet.database import Database
from skerry_fleet.sql import bulk
from skerry_fleet.sql.changes import Update

PAGE = 2000

# What was placed before there were shards has no row, and lives on shard 0.
_HERE = " coalesce((SELECT d.shard FROM device_shard d WHERE d.tenant = a.tenant AND d.device = a.device), 0) = :shard"
_UNSENT = sqlalchemy.text(
    "SELECT a.tenant, a.device, a.sequence, a.envelope FROM signed_assignment a"
    f" WHERE a.published = :no AND {_HERE} LIMIT :most"
)
_FORGET = sqlalchemy.text(f"UPDATE signed_assignment AS a SET published = :no WHERE a.published = :yes AND {_HERE}")
# A newer one may have been signed meanwhile: that stays.
_SENT = Update("signed_assignment", ("tenant", "device", "sequence"), ("published",))


class Unsent(NamedTuple):
    """One assignment to publish."""

    tenant: str
    device: str
    sequence: int
    envelope: str


def unsent(database: Database, shard: int) -> list[Unsent]:
    """Return some assignments that a shard's broker does not have."""
    with database.read() as session:
        rows = session.connection().execute(_UNSENT, {"no": False, "shard": shard, "most": PAGE})
        return [Unsent(*row) for row in rows]


def sent(database: Database, rows: list[Unsent]) -> None:
    """Note that a broker has these."""
    told = [{**row._asdict(), "published": True} for row in rows]
    with database.write() as session:
        bulk.many(session, _SENT, told)


def forget(database: Database, shard: int) -> None:
    """Let all of a shard's assignments be published again: its broker may have forgotten what it retained."""
    with database.write() as session:
        session.connection().execute(_FORGET, {"no": False, "yes": True, "shard": shard})

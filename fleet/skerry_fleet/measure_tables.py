"""The tables of measuring on devices: leases of boards, and the performance database. Rules: see `tables.py`."""

from __future__ import annotations

from sqlalchemy import Column, Index, UniqueConstraint
from sqlalchemy import text as sql
from sqlmodel import Field, SQLModel

from skerry_fleet.lease_machine import ACTIVE, LeaseStatus
from skerry_fleet.tables import ROW_ID, big, text

_HELD = sql(f"status IN ({', '.join(repr(each.value) for each in ACTIVE)})")


class MeasureLease(SQLModel, table=True):
    """A lease as it was asked for and where it stands. At most one active lease a board: the index is the invariant.

    `requires` is the JSON of the profile's predicates, `wanted` the board that was named (empty: any), `terms` the JSON
    of the order that goes into the assignment, `artifacts` the digests of each candidate's files. `told_*` repeat the
    board's last word.
    """

    __tablename__ = "measure_lease"
    __table_args__ = (
        Index("measure_lease_recent", "tenant", "number"),
        Index("measure_lease_open", "status"),
        Index("measure_lease_one", "tenant", "device", unique=True, sqlite_where=_HELD, postgresql_where=_HELD),
    )

    tenant: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    number: int = big()
    profile: str
    requires: str = text()
    wanted: str = ""
    device: str = ""
    source_sha256: str
    bundle: str = ""
    terms: str = text(default="")
    artifacts: str = text(default="{}")
    status: str = LeaseStatus.QUEUED.value
    reason: str = text(default="")
    renewed_ms: int = big()
    until_ms: int = big(default=0)
    told_boot: str = ""
    told_seq: int = big(default=-1)
    told_state: str = ""
    told_detail: str = text(default="")
    told_notes: str = text(default="[]")
    told_reported: int = 0
    told_ms: int = big(default=0)
    created_ms: int = big()
    created_by: str = ""
    updated_ms: int = big()


class MeasurementRow(SQLModel, table=True):
    """What one candidate came to on one board: a row of the performance database. `record` is the whole of it (JSON of
    MeasuredCandidate, without its answers once the lease is over).
    """

    __tablename__ = "measurement"
    __table_args__ = (
        UniqueConstraint("tenant", "device", "boot_id", "seq", name="measurement_once"),
        Index("measurement_recent", "tenant", "id"),
        Index("measurement_lease", "tenant", "lease"),
        Index("measurement_profile", "tenant", "profile", "id"),
        Index("measurement_source", "tenant", "source_sha256", "id"),
        Index("measurement_age", "received_ms"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True, autoincrement=True))
    tenant: str
    device: str
    boot_id: str
    seq: int = big()
    received_ms: int = big()
    lease: str
    profile: str
    source_sha256: str
    artifact_sha256: str = ""
    candidate: str
    engine: str
    engine_version: str = ""
    precision: str
    outcome: str
    against: str = ""
    speed: float | None = None
    latency_p50_ms: float = 0.0
    latency_p99_ms: float = 0.0
    rss_bytes: int = big(default=0)
    cpu: str = ""
    agent_version: str = ""
    record: str = text()

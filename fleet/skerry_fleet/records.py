"""The tables that only grow: telemetry as the devices sent it, alerts and the audit chain.

Rows of the feeds (`progress`, `sample`, `sketch`, `receipt`) are numbered in commit order by the one ingest writer,
never reused, and unique by (tenant, device, boot_id, seq): that is what makes redelivery harmless.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from skerry_fleet.tables import ROW_ID, big, text


def _row_id() -> Column[int]:
    return Column(ROW_ID, primary_key=True, autoincrement=True)


class ProgressRow(SQLModel, table=True):
    """One step of one update, as a device told it. The rollout service reads them in order (`Cursor`)."""

    __tablename__ = "progress"
    __table_args__ = (
        UniqueConstraint("tenant", "device", "boot_id", "seq", name="progress_once"),
        Index("progress_device", "tenant", "device", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=_row_id())
    tenant: str
    device: str
    boot_id: str
    seq: int = big()
    received_ms: int = big()
    rollout: str
    model: str
    bundle: str
    sequence: int = big()
    phase: str
    reason: str
    detail: str = text()
    received_bytes: int = big()
    total_bytes: int = big()


class SampleRow(SQLModel, table=True):
    """One kept prediction; `record` is the message as it came."""

    __tablename__ = "sample"
    __table_args__ = (
        UniqueConstraint("tenant", "device", "boot_id", "seq", name="sample_once"),
        Index("sample_feed", "tenant", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=_row_id())
    tenant: str
    device: str
    boot_id: str
    seq: int = big()
    received_ms: int = big()
    model: str
    record: str = text()


class SketchRow(SQLModel, table=True):
    """Statistics of one window on one device; `record` is the message as it came."""

    __tablename__ = "sketch"
    __table_args__ = (
        UniqueConstraint("tenant", "device", "boot_id", "seq", name="sketch_once"),
        Index("sketch_feed", "tenant", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=_row_id())
    tenant: str
    device: str
    boot_id: str
    seq: int = big()
    received_ms: int = big()
    model: str
    record: str = text()


class ReceiptRow(SQLModel, table=True):
    """A device's signed word on what it installed: the envelope as it came, verified against the device's
    certificate.
    """

    __tablename__ = "receipt"
    __table_args__ = (
        UniqueConstraint("tenant", "device", "boot_id", "seq", name="receipt_once"),
        Index("receipt_bundle", "tenant", "bundle", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=_row_id())
    tenant: str
    device: str
    boot_id: str
    seq: int = big()
    received_ms: int = big()
    model: str
    bundle: str
    variant: str
    record: str = text()


class DeadLetter(SQLModel, table=True):
    """A message that was refused, and why. Bounded: the oldest make room."""

    __tablename__ = "dead_letter"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, sa_column=_row_id())
    tenant: str
    device: str
    topic: str = text()
    reason: str = text()
    payload: bytes
    size_bytes: int = big()
    received_ms: int = big()


class Cursor(SQLModel, table=True):
    """How far a reader inside the fleet has come in one of the feeds; moved in the transaction that did the work."""

    __tablename__ = "feed_cursor"

    name: str = Field(primary_key=True)
    position: int = big(default=0)


class Alert(SQLModel, table=True):
    """Something a person should know. While one of a (kind, subject) is not resolved, a repetition only counts."""

    __table_args__ = (
        Index("alert_recent", "tenant", "id"),
        Index("alert_open", "tenant", "kind", "subject", "state"),
        Index("alert_incident", "tenant", "incident"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=_row_id())
    tenant: str
    kind: str
    subject: str
    severity: str
    state: str
    text: str = text()
    count: int = 1
    first_ms: int = big()
    last_ms: int = big()
    acknowledged_by: str = ""
    incident: int | None = big(default=None)


class Drift(SQLModel, table=True):
    """The newest verdict of one monitor on one model, as the cloud put it."""

    __tablename__ = "drift"

    tenant: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    monitor: str = Field(primary_key=True)
    drifting: bool
    score: float | None = None
    threshold: float | None = None
    record: str = text()
    updated_ms: int = big()


class DriftHistory(SQLModel, table=True):
    """The scores a monitor gave, one row each: the line on the dashboard. Bounded: the oldest make room."""

    __tablename__ = "drift_history"
    __table_args__ = (Index("drift_history_line", "tenant", "model", "monitor", "id"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, sa_column=_row_id())
    tenant: str
    model: str
    monitor: str
    drifting: bool
    score: float | None = None
    received_ms: int = big()


class Audit(SQLModel, table=True):
    """One change of state. `hash` covers the record and the hash before it, so none can be altered or taken out
    unseen.
    """

    __table_args__ = (Index("audit_object", "tenant", "object", "seq"),)

    tenant: str = Field(primary_key=True)
    seq: int = Field(sa_type=ROW_ID, primary_key=True)
    time_ms: int = big()
    actor: str
    action: str
    object: str
    before: str = text()
    after: str = text()
    request: str = ""
    previous_hash: str
    hash: str


class AuditHead(SQLModel, table=True):
    """The end of a tenant's audit chain; its row lock puts writers in a line."""

    __tablename__ = "audit_head"

    tenant: str = Field(primary_key=True)
    seq: int = big()
    hash: str

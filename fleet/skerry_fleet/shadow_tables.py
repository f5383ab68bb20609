"""The tables of shadows: what was asked, which devices it is on, and what they reported. Rules: see `tables.py`."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Column, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from skerry_fleet.tables import ACTIVE, ROW_ID, big, text


class ShadowStatus(StrEnum):
    """Running: some devices are still to try it. Promoted: a rollout of it was started. Ended: nobody tries it."""

    RUNNING = "running"
    PROMOTED = "promoted"
    ENDED = "ended"


class Shadow(SQLModel, table=True):
    """A shadow as it was asked for. `terms` is the JSON of what goes into assignments; `number` counts a tenant's."""

    __tablename__ = "shadow"
    __table_args__ = (Index("shadow_recent", "tenant", "number"), Index("shadow_model", "tenant", "model", "number"))

    tenant: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    number: int = big()
    model: str
    bundle: str
    group: str = ""
    chosen: bool = False
    terms: str = text()
    status: str = ShadowStatus.RUNNING.value
    reason: str = text(default="")
    rollout: str = ""
    until_ms: int = big()
    created_ms: int = big()
    created_by: str = ""
    updated_ms: int = big()


class ShadowDevice(SQLModel, table=True):
    """One device of a shadow. At most one active row a (model, device): what its assignments name.

    `state`, `reason` and `detail` are its newest word, that of message (`told_boot`, `told_seq`).
    """

    __tablename__ = "shadow_device"
    __table_args__ = (
        Index(
            "shadow_device_one", "tenant", "model", "device", unique=True, sqlite_where=ACTIVE, postgresql_where=ACTIVE
        ),
    )

    tenant: str = Field(primary_key=True)
    shadow: str = Field(primary_key=True)
    device: str = Field(primary_key=True)
    model: str
    active: bool = True
    state: str = ""
    reason: str = ""
    detail: str = text(default="")
    told_boot: str = ""
    told_seq: int = big(default=-1)
    told_ms: int = big(default=0)


class ShadowReportRow(SQLModel, table=True):
    """One window of one device, as it reported it; `record` is the message as it came."""

    __tablename__ = "shadow_report"
    __table_args__ = (
        UniqueConstraint("tenant", "device", "boot_id", "seq", name="shadow_report_once"),
        Index("shadow_report_of", "tenant", "shadow", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True, autoincrement=True))
    tenant: str
    device: str
    boot_id: str
    seq: int = big()
    received_ms: int = big()
    model: str
    shadow: str
    against: str
    chosen: int = big()
    compared: int = big()
    disagreed: int = big()
    dropped: int = big()
    failed: int = big()
    cpu_s: float = 0.0
    record: str = text()

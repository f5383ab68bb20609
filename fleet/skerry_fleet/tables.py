"""The control tables: who and what the fleet knows, and what each device is to run.

Telemetry, alerts and audit stand in `records.py`. Every table carries the tenant, every key begins with it. Times are
milliseconds since 1970 and counters may grow: both are 64 bits wide (SQLModel's plain `int` is 32 bits on PostgreSQL).
JSON is kept as text, exactly as it was signed or hashed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import sqlalchemy
from sqlalchemy import BigInteger, Index, Integer, Text
from sqlmodel import Field, SQLModel


def big(**options: Any) -> Any:
    """Return a 64-bit column."""
    return Field(sa_type=BigInteger, **options)


def text(**options: Any) -> Any:
    """Return a column for text of any length."""
    return Field(sa_type=Text, **options)


ACTIVE = sqlalchemy.text("active")
LOST = sqlalchemy.text("lost_ms > 0")
ROW_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only columns declared INTEGER


class DeviceStatus(StrEnum):
    """Whether a device belongs to the fleet."""

    ACTIVE = "active"
    DECOMMISSIONED = "decommissioned"


class BundleState(StrEnum):
    """Draft: kept, not yet in the update repository. Withdrawn: no new rollout may use it."""

    DRAFT = "draft"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


class Device(SQLModel, table=True):
    """An enrolled device: its identity and what it is. `sequence` is that of its newest assignment.

    `next_certificate_pem` was issued at the newest renewal, whose request bore `renewed_ms` (or more, by a clock
    that was ahead); see renewal.py.
    """

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    status: str = DeviceStatus.ACTIVE.value
    claim: str = ""
    created_ms: int = big(default=0)
    certificate_pem: str = text(default="")
    next_certificate_pem: str = text(default="")
    renewed_ms: int = big(default=0)
    public_key_sha256: str = ""
    download_token_sha256: str = Field(default="", index=True)
    hardware: str = text(default="{}")
    tags: str = text(default="{}")
    sequence: int = big(default=0)


class RevokedCertificate(SQLModel, table=True):
    """A certificate that is let in no more, until it expires by itself."""

    __tablename__ = "revoked_certificate"

    tenant: str = Field(primary_key=True)
    serial: str = Field(primary_key=True)
    device: str
    expires_ms: int = big()


class DeviceState(SQLModel, table=True):
    """What was last heard of a device; written by ingest alone. `heartbeat` is the newest one's JSON."""

    __tablename__ = "device_state"
    __table_args__ = (
        Index("device_state_seen", "silent", "last_seen_ms"),
        Index("device_state_online", "tenant", "online"),
        Index("device_state_lost", "lost_ms", sqlite_where=LOST, postgresql_where=LOST),
    )

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    boot_id: str = ""
    session: int = big(default=0)
    online: bool = False
    silent: bool = False
    last_seen_ms: int = big(default=0)
    lost_ms: int = big(default=0, sa_column_kwargs={"server_default": "0"})
    heartbeat_boot: str = ""
    heartbeat_seq: int = big(default=-1)
    heartbeat: str = text(default="")


class DeviceModel(SQLModel, table=True):
    """What one device runs of one model, from its newest heartbeat. Counts are totals since enrolment."""

    __tablename__ = "device_model"
    __table_args__ = (Index("device_model_version", "tenant", "model", "version"),)

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    version: str = ""
    bundle: str = ""
    variant: str = ""
    state: str = ""
    predictions: int = big(default=0)
    errors: int = big(default=0)
    restarts: int = big(default=0)
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    rss_bytes: int = big(default=0)
    mean_confidence: float | None = None
    updated_ms: int = big(default=0)


class Group(SQLModel, table=True):
    """A named set of devices."""

    __tablename__ = "device_group"

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    description: str = text(default="")
    created_ms: int = big(default=0)


class GroupMember(SQLModel, table=True):
    """A device's place in a group."""

    __tablename__ = "device_group_member"
    __table_args__ = (Index("device_group_member_device", "tenant", "device", "group"),)

    tenant: str = Field(primary_key=True)
    group: str = Field(primary_key=True)
    device: str = Field(primary_key=True)


class Claim(SQLModel, table=True):
    """A token that lets devices enrol. Only the secret's SHA-256 is kept; `uses_left` falls in one atomic statement."""

    tenant: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    secret_sha256: str
    group: str = ""
    uses: int = big()
    uses_left: int = big()
    created_ms: int = big()
    expires_ms: int = big()
    created_by: str = ""
    revoked: bool = False


class ApiKey(SQLModel, table=True):
    """A key of a person or program: 256 random bits, kept as their SHA-256. `stamp` rises to end its sessions."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    tenant: str = Field(index=True)
    name: str
    role: str
    secret_sha256: str
    created_ms: int = big()
    created_by: str = ""
    revoked_ms: int | None = big(default=None)
    stamp: int | None = big(default=None)


class Model(SQLModel, table=True):
    """A registered model: the update repository has a delegated role of this name."""

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    description: str = text(default="")
    created_ms: int = big(default=0)


class Bundle(SQLModel, table=True):
    """A bundle in the registry. Its blobs lie on disk by digest; the manifest is kept exactly as hashed."""

    __table_args__ = (Index("bundle_version", "tenant", "model", "target", "version", unique=True),)

    tenant: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    model: str
    version: str
    release: int = big()
    target: str
    state: str = BundleState.DRAFT.value
    size_bytes: int = big()
    manifest: str = text()
    evidence: str | None = text(default=None)
    created_ms: int = big()
    created_by: str = ""


class Desired(SQLModel, table=True):
    """What one device is to run of one model now. `confirmed`, the newest that proved itself, is the way back."""

    tenant: str = Field(primary_key=True)
    device: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    bundle: str | None = None
    confirmed: str | None = None
    rollout: str = ""
    allow_downgrade: bool = False


class SignedAssignment(SQLModel, table=True):
    """The newest assignment of one device, as signed. `published`: the broker has it as the retained message."""

    __tablename__ = "signed_assignment"
    __table_args__ = (
        Index("signed_assignment_outbox", "published"),
        Index("signed_assignment_age", "issued_ms"),
    )

    tenant: str = Field(primary_key=True)
    device: str = Field(primary_key=True)
    sequence: int = big()
    issued_ms: int = big()
    expires_ms: int = big()
    envelope: str = text()
    published: bool = False


class Rollout(SQLModel, table=True):
    """A rollout's plan and where it stands. `options` (JSON: window, sampling, allow_downgrade) go into assignments;
    `counts` repeats the machine's counters, so that lists need no scan. `number` counts a tenant's rollouts.
    """

    __table_args__ = (
        Index("rollout_recent", "tenant", "number"),
        Index("rollout_active", "active"),
    )

    tenant: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    number: int = big()
    model: str
    bundle: str
    group: str = ""
    plan: str = text()
    options: str = text(default="{}")
    status: str
    stage: int = 0
    allowance: int = 0
    counts: str = text(default="{}")
    reason: str = text(default="")
    active: bool = True
    created_ms: int = big()
    created_by: str = ""
    updated_ms: int = big()


class RolloutDevice(SQLModel, table=True):
    """One device's place in one rollout. At most one active row a (model, device): the index is the invariant.

    `previous` is where the device goes back to; `baseline` its health (JSON of ModelHealth) before the offer.
    `phase`, `reason`, `detail` repeat the device's last word.
    """

    __tablename__ = "rollout_device"
    __table_args__ = (
        Index(
            "rollout_device_one", "tenant", "model", "device", unique=True, sqlite_where=ACTIVE, postgresql_where=ACTIVE
        ),
        Index("rollout_device_list", "tenant", "rollout", "place", "device"),
    )

    tenant: str = Field(primary_key=True)
    rollout: str = Field(primary_key=True)
    device: str = Field(primary_key=True)
    model: str
    place: str
    attempts: int = 0
    floor: int = big(default=0)
    since_ms: int = big(default=0)
    due_ms: int | None = big(default=None)
    previous: str | None = None
    baseline: str = text(default="")
    phase: str = ""
    reason: str = ""
    detail: str = text(default="")
    active: bool = True

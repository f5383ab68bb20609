"""The tables of incidents: alerts that belong together, mutes, routes and the outbox. Rules: see `tables.py`."""

from __future__ import annotations

from sqlalchemy import Column, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from skerry_fleet.alert_words import AlertState
from skerry_fleet.tables import ROW_ID, big, text


def _row_id() -> Column[int]:
    return Column(ROW_ID, primary_key=True, autoincrement=True)


class Incident(SQLModel, table=True):
    """Alerts of one family and scope (a model, a rollout, a broker shard) that came together.

    `alerts` counts all that joined, `standing` those not resolved; `devices`, of an outage, the most that were away at
    once. `announced_ms`: when it was told (0: not yet); `level`: how far it was escalated.
    """

    __tablename__ = "incident"
    __table_args__ = (
        Index("incident_recent", "tenant", "id"),
        Index("incident_open", "state", "tenant", "family", "scope"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=_row_id())
    tenant: str
    family: str
    kind: str
    scope: str
    severity: str
    state: str = AlertState.OPEN.value
    text: str = text(default="")
    alerts: int = big(default=0)
    standing: int = big(default=0)
    devices: int = big(default=0, sa_column_kwargs={"server_default": "0"})
    level: int = big(default=0)
    first_ms: int = big()
    last_ms: int = big()
    announced_ms: int = big(default=0)
    acknowledged_by: str = ""


class Mute(SQLModel, table=True):
    """No messages of a kind (empty: any) about devices of a group (empty: all) until a time."""

    __tablename__ = "mute"
    __table_args__ = (Index("mute_until", "tenant", "until_ms"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, sa_column=_row_id())
    tenant: str
    kind: str = ""
    group: str = ""
    reason: str = text(default="")
    until_ms: int = big()
    created_ms: int = big()
    created_by: str = ""


class Route(SQLModel, table=True):
    """Where messages go: `target` and `secret` are sealed (vault.py), `shown` is what may be seen of the target.
    `kinds` are separated by blanks (empty: all).

    `level` 0 hears at once, 1 of what nobody acknowledged in time, and so on.
    """

    __tablename__ = "route"

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    target: str = text()
    secret: str = ""
    shown: str | None = text(default=None)
    kinds: str = text(default="")
    severity: str
    group: str = ""
    level: int = big(default=0)
    created_ms: int = big()
    created_by: str = ""


class Notice(SQLModel, table=True):
    """The outbox: one message of one state of one incident to one route. `body` is the CloudEvent as it is sent."""

    __tablename__ = "notice"
    __table_args__ = (
        UniqueConstraint("tenant", "incident", "state", "route", name="notice_once"),
        Index("notice_due", "status", "due_ms"),
        Index("notice_recent", "tenant", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=_row_id())
    tenant: str
    incident: int = big()
    state: str
    route: str
    event: str
    title: str = text()
    body: str = text()
    status: str
    tries: int = big(default=0)
    problem: str = text(default="")
    made_ms: int = big()
    due_ms: int = big()

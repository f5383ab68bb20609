"""Incidents, mutes, routes and the outbox of messages; alerts name their incident."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, MetaData

from skerry_fleet.migrations.frozen import create, index, table

revision = "0005"
down_revision = "0004"
M = MetaData()

table(
    M,
    "incident",
    "id",
    never_reused=True,
    number="id",
    string="tenant family kind scope severity state acknowledged_by",
    text="text",
    big="alerts standing level first_ms last_ms announced_ms",
)
index(M, "incident_recent", "incident", "tenant id")
index(M, "incident_open", "incident", "state tenant family scope")
table(
    M,
    "mute",
    "id",
    never_reused=True,
    number="id",
    string="tenant kind group created_by",
    text="reason",
    big="until_ms created_ms",
)
index(M, "mute_until", "mute", "tenant until_ms")
table(
    M,
    "route",
    "tenant name",
    string="tenant name secret severity group created_by",
    text="target kinds",
    big="level created_ms",
)
table(
    M,
    "notice",
    "id",
    once="tenant incident state route",
    never_reused=True,
    number="id",
    string="tenant state route event status",
    text="title body problem",
    big="incident tries made_ms due_ms",
)
index(M, "notice_due", "notice", "status due_ms")
index(M, "notice_recent", "notice", "tenant id")


def upgrade() -> None:
    """Make them; alerts from before belong to none."""
    create(list(M.tables.values()))
    op.add_column("alert", Column("incident", BigInteger(), nullable=True))
    op.create_index("alert_incident", "alert", ["tenant", "incident"])

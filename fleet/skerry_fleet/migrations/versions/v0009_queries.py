"""Groups whose devices a query chooses."""

from __future__ import annotations

from sqlalchemy import MetaData

from skerry_fleet.migrations.frozen import create, table

revision = "0009"
down_revision = "0008"
M = MetaData()

table(
    M,
    "device_group_query",
    "tenant group",
    string="tenant group changed_by",
    text="query",
    big="changed_ms",
)


def upgrade() -> None:
    """Make it."""
    create(list(M.tables.values()))

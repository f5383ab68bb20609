"""Claims that name their devices and give them tags."""

from __future__ import annotations

from sqlalchemy import MetaData

from skerry_fleet.migrations.frozen import create, table

revision = "0013"
down_revision = "0012"
M = MetaData()

table(M, "claim_tags", "tenant claim", string="tenant claim", text="tags")
table(M, "claim_device", "tenant claim device", string="tenant claim device", big="enrolled_ms", optional="enrolled_ms")


def upgrade() -> None:
    """Make both."""
    create(list(M.tables.values()))

"""Targets of routes are sealed from here on; what may be seen of one stands beside it."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column

from skerry_fleet.migrations.frozen import KINDS

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make room; the fleet seals what is there as it opens (vault.py), for it has the key."""
    op.add_column("route", Column("shown", KINDS["text"], nullable=True))

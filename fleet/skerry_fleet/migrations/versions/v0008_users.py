"""People who sign in, and what ends the sessions of keys."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, MetaData

from skerry_fleet.migrations.frozen import create, table

revision = "0008"
down_revision = "0007"
M = MetaData()

table(
    M,
    "fleet_user",
    "id",
    once="tenant name",
    optional="disabled_ms seen_ms",
    string="id tenant name role issuer subject created_by",
    text="password",
    big="stamp created_ms disabled_ms seen_ms",
)


def upgrade() -> None:
    """Make them; sessions from before are given anew by signing in."""
    create(list(M.tables.values()))
    op.add_column("api_key", Column("stamp", BigInteger(), nullable=True))

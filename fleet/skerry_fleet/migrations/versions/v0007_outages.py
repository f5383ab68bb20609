"""When a device was lost, and how many devices an outage took away."""

from __future__ import annotations

import sqlalchemy
from alembic import op
from sqlalchemy import BigInteger, Column

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add both; nobody counts as lost yet."""
    op.add_column("device_state", Column("lost_ms", BigInteger(), nullable=False, server_default="0"))
    lost = sqlalchemy.text("lost_ms > 0")
    op.create_index("device_state_lost", "device_state", ["lost_ms"], sqlite_where=lost, postgresql_where=lost)
    op.add_column("incident", Column("devices", BigInteger(), nullable=False, server_default="0"))

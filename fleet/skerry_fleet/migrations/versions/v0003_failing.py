"""Pairs of a rollout's gate say whether a device failed, too."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the sign; pairs that were counted before have none."""
    op.add_column("rollout_pair", Column("failing", Integer(), nullable=True))

"""Rollouts that are asked for twice are known by `request_once`, as everything else."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Drop what rollouts kept of their own; keys from before are forgotten: answers are sealed for their callers."""
    op.drop_index("rollout_request", "rollout")
    op.drop_column("rollout", "request_key")
    op.drop_column("rollout", "request_sha256")

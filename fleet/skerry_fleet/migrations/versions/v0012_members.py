"""The groups of a device are found without walking all members of all groups."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Let the index hold all that is asked: SQLite preferred a walk through the primary key, which holds it too."""
    op.drop_index("device_group_member_device", "device_group_member")
    op.create_index("device_group_member_device", "device_group_member", ["tenant", "device", "group"])

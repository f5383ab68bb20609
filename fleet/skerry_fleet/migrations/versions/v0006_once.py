"""Answers to requests that may come twice."""

from __future__ import annotations

from sqlalchemy import MetaData

from skerry_fleet.migrations.frozen import create, table

revision = "0006"
down_revision = "0005"
M = MetaData()

table(
    M,
    "request_once",
    "tenant caller key_sha256",
    string="tenant caller key_sha256 path body_sha256",
    blob="answer",
    big="created_ms",
)


def upgrade() -> None:
    """Make it."""
    create(list(M.tables.values()))

"""Telemetry by the hour, which outlives the telemetry itself."""

from __future__ import annotations

from sqlalchemy import MetaData

from skerry_fleet.migrations.frozen import create, table

revision = "0004"
down_revision = "0003"
M = MetaData()

table(
    M,
    "health_hour",
    "tenant model version hour_ms",
    string="tenant model version",
    big="hour_ms beats predictions errors restarts rss_bytes_sum confidences",
    real="latency_p50_ms_sum latency_p95_ms_sum confidence_sum",
)
table(
    M,
    "message_hour",
    "tenant channel model word hour_ms",
    string="tenant channel model word",
    big="hour_ms messages",
)


def upgrade() -> None:
    """Make both."""
    create(list(M.tables.values()))

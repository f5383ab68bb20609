"""What is kept of telemetry by the hour, longer than the telemetry itself. Rules: see `tables.py`."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from skerry_fleet.tables import big


class HealthHour(SQLModel, table=True):
    """All heartbeats of one hour that named one version of a model. Sums divided by `beats` are means over them;
    `confidences` of them told a mean confidence.
    """

    __tablename__ = "health_hour"

    tenant: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    version: str = Field(primary_key=True)
    hour_ms: int = big(primary_key=True)
    beats: int = big(default=0)
    predictions: int = big(default=0)
    errors: int = big(default=0)
    restarts: int = big(default=0)
    latency_p50_ms_sum: float = 0.0
    latency_p95_ms_sum: float = 0.0
    rss_bytes_sum: int = big(default=0)
    confidences: int = big(default=0)
    confidence_sum: float = 0.0


class MessageHour(SQLModel, table=True):
    """How many messages of one hour said the same: `word` is phase and reason of progress, empty for other channels."""

    __tablename__ = "message_hour"

    tenant: str = Field(primary_key=True)
    channel: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    word: str = Field(primary_key=True)
    hour_ms: int = big(primary_key=True)
    messages: int = big(default=0)

"""Telemetry by the hour: health as heartbeats are committed, the feeds behind a cursor that moves with the sums.

Each row counts once: cursor and sums change in one transaction, and rows are numbered in the order of commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy
from sqlmodel import Session, col, select

from skerry_contracts.device import Heartbeat
from skerry_fleet.errors import MissingError
from skerry_fleet.ingest import Incoming
from skerry_fleet.records import Cursor
from skerry_fleet.rollup_tables import HealthHour
from skerry_fleet.sql.changes import Change, Insert, Row
from skerry_fleet.tables import Model

HOUR_MS = 3_600_000
HISTORY_HOURS = 24 * 366
_KEY = ("tenant", "model", "version", "hour_ms")
_SUMS = (
    *("beats", "predictions", "errors", "restarts", "latency_p50_ms_sum", "latency_p95_ms_sum"),
    *("rss_bytes_sum", "confidences", "confidence_sum"),
)
_HEALTH = Insert(
    "health_hour",
    (*_KEY, *_SUMS),
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = health_hour.{name} + excluded.{name}" for name in _SUMS),
)
WORDS = {"progress": "phase || ' ' || reason", "sample": "''", "sketch": "''", "shadow_report": "''", "receipt": "''"}
"""The feeds, each with what tells its messages apart (SQL)."""

_LAST = "SELECT max(id) FROM (SELECT id FROM {table} WHERE id > :first ORDER BY id LIMIT :most) AS next"
_COUNT = (
    "INSERT INTO message_hour (tenant, channel, model, word, hour_ms, messages)"
    " SELECT tenant, '{table}', model, {word}, received_ms / 3600000 * 3600000, count(*) FROM {table}"
    " WHERE id > :first AND id <= :last GROUP BY 1, 2, 3, 4, 5"
    " ON CONFLICT (tenant, channel, model, word, hour_ms)"
    " DO UPDATE SET messages = message_hour.messages + excluded.messages"
)


def beats(many: Callable[[Change, Sequence[Row]], None], messages: Iterable[Incoming]) -> None:
    """Add heartbeats that are newer than any before, in the transaction that keeps them."""
    found: dict[tuple[str, str, str, int], Row] = {}
    for message in messages:
        heartbeat: Heartbeat = message.record
        for each in heartbeat.models:
            key = (message.tenant, each.model, each.version, message.received_ms // HOUR_MS * HOUR_MS)
            row = found.get(key)
            if row is None:
                row = found[key] = {**dict(zip(_KEY, key, strict=True)), **dict.fromkeys(_SUMS, 0)}
            row["beats"] += 1
            row["predictions"] += each.predictions
            row["errors"] += each.errors
            row["restarts"] += each.restarts
            row["latency_p50_ms_sum"] += each.latency_p50_ms
            row["latency_p95_ms_sum"] += each.latency_p95_ms
            row["rss_bytes_sum"] += each.rss_bytes
            if each.mean_confidence is not None:
                row["confidences"] += 1
                row["confidence_sum"] += each.mean_confidence
    many(_HEALTH, list(found.values()))


def counted(session: Session, feed: str) -> int:
    """Return the number of the last row of a feed that the hours have."""
    row = session.get(Cursor, _cursor(feed))
    return 0 if row is None else row.position


def count_on(session: Session, feed: str, most: int) -> int:
    """Add the next rows of a feed to the hours, at most `most`; return the last one's number, 0 where none is new."""
    first, connection = counted(session, feed), session.connection()
    query = sqlalchemy.text(_LAST.format(table=feed))
    last = connection.execute(query, {"first": first, "most": most}).scalar()
    if last is None:
        return 0
    statement = sqlalchemy.text(_COUNT.format(table=feed, word=WORDS[feed]))
    connection.execute(statement, {"first": first, "last": last})
    session.merge(Cursor(name=_cursor(feed), position=int(last)))
    return int(last)


def health(session: Session, tenant: str, model: str, since_ms: int) -> list[dict[str, Any]]:
    """Return a model's hours since a time, oldest first, with means in place of sums.

    Raises:
        MissingError: no such model.
    """
    if session.get(Model, (tenant, model)) is None:
        raise MissingError(f"no model {model!r:.80}")
    query = (
        select(HealthHour)
        .where(HealthHour.tenant == tenant, HealthHour.model == model, HealthHour.hour_ms >= since_ms)
        .order_by(col(HealthHour.hour_ms), col(HealthHour.version))
    )
    return [_view(row) for row in session.exec(query)]


def _view(row: HealthHour) -> dict[str, Any]:
    return {
        **row.model_dump(include={"version", "hour_ms", "beats", "predictions", "errors", "restarts"}),
        "latency_p50_ms": row.latency_p50_ms_sum / row.beats,
        "latency_p95_ms": row.latency_p95_ms_sum / row.beats,
        "rss_bytes": row.rss_bytes_sum // row.beats,
        "mean_confidence": row.confidence_sum / row.confidences if row.confidences else None,
    }


def _cursor(feed: str) -> str:
    return f"hours-{feed}"

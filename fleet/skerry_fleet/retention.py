"""How long telemetry is kept: what is older than its setting says is counted by the hour first, then deleted.

In small transactions, so that ingest never waits long, and always the oldest rows first, so that looking for them costs
the same however many there are. The audit chain is never touched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import sqlalchemy
from sqlmodel import Session

from skerry_fleet import rollups
from skerry_fleet.config import FleetConfig
from skerry_fleet.database import Database, rowcount
from skerry_fleet.records import Cursor
from skerry_fleet.rollouts import INBOX

BATCH = 2000
"""Rows looked at in one transaction."""
BATCHES = 20
"""Transactions of one pass over one table at most."""
DAY_MS = 86_400_000

_FEED = (
    "DELETE FROM {table} WHERE received_ms < :before{only}"
    " AND id IN (SELECT id FROM {table} WHERE id <= :counted ORDER BY id LIMIT :most)"
)
_OLD = {
    "alert": "state = 'resolved' AND last_ms < :before",
    "incident": "state = 'resolved' AND last_ms < :before",
    "notice": "status <> 'waiting' AND due_ms < :before",
    "mute": "until_ms < :before",
    "health_hour": "hour_ms < :before",
    "message_hour": "hour_ms < :before",
}
# A shadow's figures are sums over its reports: they stay at least as long as it runs.
_ONLY = {
    "shadow_report": " AND NOT EXISTS (SELECT 1 FROM shadow WHERE shadow.tenant = shadow_report.tenant"
    " AND shadow.id = shadow_report.shadow AND shadow.status = 'running')"
}


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """One table as a dry run tells of it: its rows, and those older than the setting allows (`days`; 0: never)."""

    table: str
    setting: str
    days: float
    rows: int
    old: int


def settings(config: FleetConfig) -> dict[str, tuple[str, float]]:
    """Return for each table the name of its setting, and the days; 0: for ever."""
    names = {
        "progress": "keep_progress_days",
        "sample": "keep_samples_days",
        "sketch": "keep_sketches_days",
        "shadow_report": "keep_shadows_days",
        "receipt": "keep_receipts_days",
        "alert": "keep_alerts_days",
        "incident": "keep_alerts_days",
        "notice": "keep_alerts_days",
        "mute": "keep_alerts_days",
        "health_hour": "keep_hours_days",
        "message_hour": "keep_hours_days",
    }
    return {table: (name, float(getattr(config, name))) for table, name in names.items()}


def run(database: Database, config: FleetConfig, now: float, batches: int = BATCHES) -> Mapping[str, int]:
    """Count what is new by the hour and delete what is old, a bounded piece of it; return deleted rows by table."""
    deleted: dict[str, int] = {}
    for table, (_, days) in settings(config).items():
        before = int(now * 1000 - days * DAY_MS) if days else None
        for _ in range(batches):
            with database.write() as session:
                counted = table in rollups.WORDS and rollups.count_on(session, table, BATCH) > 0
                gone = _delete(session, table, before) if before is not None else 0
            deleted[table] = deleted.get(table, 0) + gone
            if not counted and not gone:
                break
    return deleted


def look(session: Session, config: FleetConfig, now: float) -> list[Kept]:
    """Return what a run would find, without changing anything."""
    found = []
    for table, (name, days) in settings(config).items():
        rows = session.connection().execute(sqlalchemy.text(f"SELECT count(*) FROM {table}")).scalar_one()
        old = 0
        if days:
            condition = _OLD.get(table) or f"received_ms < :before{_ONLY.get(table, '')}"
            query = sqlalchemy.text(f"SELECT count(*) FROM {table} WHERE {condition}")
            old = session.connection().execute(query, {"before": int(now * 1000 - days * DAY_MS)}).scalar_one()
        found.append(Kept(table, name, days, rows, old))
    rows = session.connection().execute(sqlalchemy.text("SELECT count(*) FROM audit")).scalar_one()
    return [*found, Kept("audit", "", 0.0, rows, 0)]


def _delete(session: Session, table: str, before: int) -> int:
    if table in _OLD:
        return rowcount(session, f"DELETE FROM {table} WHERE {_OLD[table]}", before=before)
    counted = rollups.counted(session, table)
    if table == "progress":  # rollouts have to have seen it
        inbox = session.get(Cursor, INBOX)
        counted = min(counted, 0 if inbox is None else inbox.position)
    statement = _FEED.format(table=table, only=_ONLY.get(table, ""))
    return rowcount(session, statement, before=before, counted=counted, most=BATCH)

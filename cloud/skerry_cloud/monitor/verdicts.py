"""What a monitor said, kept for ever: its score, the threshold it was held against, and over which window."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from skerry_cloud.database import Database, insert


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """What was looked at: how many rows, device times of the first and last, and up to which lake id."""

    count: int
    start_s: float
    end_s: float
    upto: int


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """One look of one monitor at one bundle. `alarm` where the score passed the threshold; `evidence` is what the
    score rests on.
    """

    monitor: str
    model: str
    bundle: str
    feature: str
    score: float
    threshold: float
    alarm: bool
    false_alarm_rate: float
    window: Window
    time_s: float
    evidence: dict[str, Any]
    id: int | None = None


def keep(database: Database, verdict: Verdict) -> int | None:
    """Keep a verdict; return its id, or None where this window was judged before."""
    body = json.dumps(dataclasses.asdict(verdict), sort_keys=True)
    row = (
        verdict.monitor,
        verdict.model,
        verdict.bundle,
        verdict.time_s,
        int(verdict.alarm),
        verdict.window.upto,
        body,
    )
    with database.transaction() as connection:
        cursor = connection.execute(
            insert("verdict", "monitor", "model", "bundle", "time_s", "alarm", "upto", "body", ignore=True),
            row,
        )
        return cursor.lastrowid if cursor.rowcount else None


def newest(database: Database, *, model: str | None = None, limit: int = 50) -> list[Verdict]:
    """Return the newest verdicts, newest first."""
    where, parameters = ("WHERE model = ?", (model,)) if model else ("", ())
    rows = database.rows(f"SELECT id, body FROM verdict {where} ORDER BY id DESC LIMIT ?", (*parameters, limit))
    return [_open(row["id"], row["body"]) for row in rows]


def judged_upto(database: Database, monitor: str, bundle: str) -> int:
    """Return the lake id up to which a monitor has looked at a bundle (0: not yet)."""
    row = database.row("SELECT max(upto) AS upto FROM verdict WHERE monitor = ? AND bundle = ?", (monitor, bundle))
    return int(row["upto"]) if row and row["upto"] is not None else 0


def _open(number: int, body: str) -> Verdict:
    plain = json.loads(body)
    return Verdict(**(plain | {"window": Window(**plain["window"]), "id": number}))

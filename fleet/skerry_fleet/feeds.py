"""The feeds for the cloud: samples and sketches in the order of their commits, each exactly once, and the monitors'
verdicts back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlmodel import Session, col, delete, select

from skerry_contracts.codec import canonical_json
from skerry_fleet import alerts, audit
from skerry_fleet.alerts import Kind
from skerry_fleet.audit import Actor
from skerry_fleet.database import announce
from skerry_fleet.errors import MissingError
from skerry_fleet.paging import NOTHING, Page, listing, narrowed
from skerry_fleet.records import DeadLetter, Drift, DriftHistory, SampleRow, SketchRow
from skerry_fleet.tables import Model

HISTORY = 500
"""Scores kept of each monitor."""

FEEDS: dict[str, type[SampleRow] | type[SketchRow]] = {"samples": SampleRow, "sketches": SketchRow}


def read(session: Session, tenant: str, feed: str, page: Page) -> bytes:
    """Return JSON: items with id, device, received_ms and the record as it came; `next` is the last id (null: nothing
    new).

    Raises:
        InputError: not a cursor.
    """
    table = FEEDS[feed]
    query = (
        select(table.id, table.device, table.received_ms, table.record)
        .where(table.tenant == tenant, col(table.id) > (page.after_id or 0))
        .order_by(col(table.id))
        .limit(page.limit)
    )
    rows = session.exec(query).all()
    items = [
        {"id": row_id, "device": device, "received_ms": received_ms, "record": msgspec.Raw(record.encode())}
        for row_id, device, received_ms, record in rows
    ]
    return msgspec.json.encode({"items": items, "next": str(rows[-1][0]) if rows else None})


def put_drift(
    session: Session, actor: Actor, now: float, model: str, monitor: str, drifting: bool, record: dict[str, Any]
) -> dict[str, Any]:
    """Keep a monitor's newest verdict; an alert opens when it turns to drift and closes when it turns back.

    Raises:
        MissingError: no such model.
    """
    if session.get(Model, (actor.tenant, model)) is None:
        raise MissingError(f"no model {model!r:.80}")
    row = session.get(Drift, (actor.tenant, model, monitor))
    before = None if row is None else row.drifting
    row = row or Drift(tenant=actor.tenant, model=model, monitor=monitor, drifting=False, record="{}", updated_ms=0)
    said, row.record = row.record, canonical_json(record).decode()
    row.drifting, row.updated_ms = drifting, int(now * 1000)
    row.score, row.threshold = _number(record, "score"), _number(record, "threshold")
    session.add(row)
    if row.record != said:  # a verdict that is put twice is one point of the line
        _remember(session, row)
    subject = f"{model}/{monitor}"
    if before is not drifting:
        was = None if before is None else {"drifting": before}
        audit.write(session, actor, now, "drift.verdict", f"model/{subject}", was, {"drifting": drifting})
    if drifting:
        known = [
            (name, value) for name, value in (("score", row.score), ("threshold", row.threshold)) if value is not None
        ]
        figures = ", ".join(f"{name} {value:.4g}" for name, value in known)
        text = f"{monitor} monitor of {model}: {figures or 'drifting'}"
        alerts.raise_alert(session, actor.tenant, now, Kind.DRIFT, subject, text, scope=model)
    else:
        alerts.resolve(session, actor.tenant, now, Kind.DRIFT, subject)
    announce(session, actor.tenant, "drift", model=subject, drifting=drifting, score=row.score)
    return drift_view(row)


def get_drift(session: Session, tenant: str, model: str) -> dict[str, Any]:
    """Return the newest verdict of every monitor of a model.

    Raises:
        MissingError: no such model.
    """
    if session.get(Model, (tenant, model)) is None:
        raise MissingError(f"no model {model!r:.80}")
    rows = session.exec(select(Drift).where(Drift.tenant == tenant, Drift.model == model).order_by(col(Drift.monitor)))
    found = [drift_view(row) for row in rows]
    return {"model": model, "drifting": any(each["drifting"] for each in found), "monitors": found}


def drift_view(row: Drift) -> dict[str, Any]:
    """Return a verdict as the API shows it."""
    return {**row.model_dump(exclude={"tenant", "record"}), "record": json.loads(row.record)}


def dead_letters(session: Session, tenant: str, page: Page, only: Mapping[str, str] = NOTHING) -> dict[str, Any]:
    """Return one page of refused messages, newest first; `only` some where they are named."""
    query = narrowed(select(DeadLetter).where(DeadLetter.tenant == tenant), DeadLetter, only)
    if page.after_id is not None:
        query = query.where(col(DeadLetter.id) < page.after_id)
    rows = session.exec(query.order_by(col(DeadLetter.id).desc()).limit(page.limit + 1)).all()

    def view(row: DeadLetter) -> dict[str, Any]:
        return {**row.model_dump(exclude={"tenant", "payload"}), "payload": row.payload.decode("utf-8", "replace")}

    return listing(rows, page, view, lambda row: row.id)


def _remember(session: Session, row: Drift) -> None:
    """Keep a score for the line on the dashboard; the oldest make room."""
    of_monitor = (
        col(DriftHistory.tenant) == row.tenant,
        col(DriftHistory.model) == row.model,
        col(DriftHistory.monitor) == row.monitor,
    )
    session.add(
        DriftHistory(
            **row.model_dump(include={"tenant", "model", "monitor", "drifting", "score"}), received_ms=row.updated_ms
        )
    )
    oldest = session.exec(
        select(DriftHistory.id).where(*of_monitor).order_by(col(DriftHistory.id).desc()).offset(HISTORY).limit(1)
    ).first()
    if oldest is not None:
        session.exec(delete(DriftHistory).where(*of_monitor, col(DriftHistory.id) <= oldest))


def _number(record: dict[str, Any], name: str) -> float | None:
    value = record.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

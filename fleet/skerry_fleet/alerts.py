"""Alerts: what a person should know. One open alert a (kind, subject); repetitions count, recovery resolves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from skerry_fleet import audit, incidents
from skerry_fleet.alert_words import SEVERITY
from skerry_fleet.alert_words import AlertState as AlertState
from skerry_fleet.alert_words import Kind as Kind
from skerry_fleet.audit import Actor
from skerry_fleet.database import announce
from skerry_fleet.errors import ConflictError, InputError, MissingError
from skerry_fleet.paging import NOTHING, Page, listing, narrowed
from skerry_fleet.records import Alert


def raise_alert(
    session: Session,
    tenant: str,
    now: float,
    kind: Kind,
    subject: str,
    text: str,
    severity: str = "",
    scope: str = "",
) -> Alert:
    """Open an alert, or count a repetition of one that is not resolved. `severity`: another than the kind's own.

    A new one joins the incident of its family and `scope` (a model, a rollout, a shard), or begins one.
    """
    row = standing(session, tenant, kind, subject)
    if row is not None:
        row.count += 1
        row.last_ms, row.text = int(now * 1000), text[:2000]
        session.add(row)
        return row
    row = Alert(
        tenant=tenant,
        kind=kind.value,
        subject=subject,
        severity=severity or SEVERITY[kind].value,
        state=AlertState.OPEN.value,
        text=text[:2000],
        first_ms=int(now * 1000),
        last_ms=int(now * 1000),
    )
    incidents.join(session, now, row, scope)
    session.add(row)
    session.flush()
    _changed(session, Actor(tenant, "system:alerts"), now, row, None)
    return row


def resolve(session: Session, tenant: str, now: float, kind: Kind, subject: str) -> bool:
    """Close an alert whose cause is gone; return whether there was one."""
    row = standing(session, tenant, kind, subject)
    if row is None:
        return False
    before, row.state = row.state, AlertState.RESOLVED.value
    row.last_ms = int(now * 1000)
    session.add(row)
    incidents.leave(session, now, row)
    _changed(session, Actor(tenant, "system:alerts"), now, row, before)
    return True


def resolve_all(session: Session, tenant: str, now: float, kind: Kind, subjects: Iterable[str]) -> None:
    """Close the alerts of these subjects, where there are any."""
    wanted = set(subjects)
    if not wanted:
        return
    # All unresolved alerts of a kind are few; all subjects may be many.
    query = select(Alert.subject).where(
        Alert.tenant == tenant, Alert.kind == kind.value, Alert.state != AlertState.RESOLVED.value
    )
    for subject in session.exec(query).all():
        if subject in wanted:
            resolve(session, tenant, now, kind, subject)


def acknowledge(session: Session, actor: Actor, now: float, alert: int, who: str) -> dict[str, Any]:
    """Note that a person has seen an alert.

    Raises:
        MissingError: no such alert.
        ConflictError: it is resolved.
    """
    row = session.get(Alert, alert)
    if row is None or row.tenant != actor.tenant:
        raise MissingError(f"no alert {alert}")
    if row.state == AlertState.RESOLVED:
        raise ConflictError(f"alert {alert} is resolved")
    if row.state == AlertState.OPEN:
        before, row.state = row.state, AlertState.ACKNOWLEDGED.value
        row.acknowledged_by = who
        session.add(row)
        _changed(session, actor, now, row, before)
        session.flush()
        incidents.seen(session, actor, now, row, who)
    return view(row)


def list_alerts(
    session: Session,
    tenant: str,
    page: Page,
    state: str = "",
    incident: int | None = None,
    only: Mapping[str, str] = NOTHING,
) -> dict[str, Any]:
    """Return one page of alerts, newest first; of one state, one incident or `only` some where they are named.

    Raises:
        InputError: no such state, or not a cursor.
    """
    query = narrowed(select(Alert).where(Alert.tenant == tenant), Alert, only)
    if state:
        if state not in list(AlertState):
            raise InputError(f"state {state!r:.40} is none of {', '.join(AlertState)}")
        query = query.where(Alert.state == state)
    if incident is not None:
        query = query.where(Alert.incident == incident)
    if page.after_id is not None:
        query = query.where(col(Alert.id) < page.after_id)
    rows = session.exec(query.order_by(col(Alert.id).desc()).limit(page.limit + 1)).all()
    return listing(rows, page, view, lambda row: row.id)


def count_open(session: Session, tenant: str) -> int:
    """Return how many alerts nobody has seen yet."""
    query = select(func.count()).where(Alert.tenant == tenant, Alert.state == AlertState.OPEN.value)
    return session.exec(query).one()


def view(row: Alert) -> dict[str, Any]:
    """Return an alert as the API shows it."""
    return row.model_dump(exclude={"tenant"})


def standing(session: Session, tenant: str, kind: Kind, subject: str) -> Alert | None:
    """Return the alert of a (kind, subject) that is not resolved."""
    query = select(Alert).where(
        Alert.tenant == tenant,
        Alert.kind == kind.value,
        Alert.subject == subject,
        Alert.state != AlertState.RESOLVED.value,
    )
    return session.exec(query).first()


def _changed(session: Session, actor: Actor, now: float, row: Alert, before: str | None) -> None:
    was = None if before is None else {"state": before}
    after = {"state": row.state, "kind": row.kind, "subject": row.subject}
    audit.write(session, actor, now, f"alert.{row.state}", f"alert/{row.id}", was, after)
    announce(
        session, row.tenant, "alert", id=row.id, kind=row.kind, subject=row.subject, state=row.state, text=row.text
    )

"""Incidents: alerts of one family and scope that came together are one thing to look at, and one message.

An alert joins the newest unresolved incident of its family and scope if the last alert came at most `WINDOW_S` before
and the incident is at most `LONGEST_S` old: so what fails slowly for days is told anew now and then. An outage begins
its own, which is told of whatever stood before; other shards' outages within `TOGETHER_S` join it, and so does silence
for as long as it lasts. An incident is
announced `incident_wait_s` after its beginning, so that the message has the count, and is resolved when none of its
alerts stood for `SETTLE_S`; what is over before it was announced makes no message.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from skerry_fleet import audit, notices
from skerry_fleet.alert_words import OUTAGES, AlertState, Kind, Severity, family, worse
from skerry_fleet.audit import Actor
from skerry_fleet.database import announce
from skerry_fleet.errors import ConflictError, InputError, MissingError
from skerry_fleet.incident_tables import Incident
from skerry_fleet.paging import MAX_INT64, NOTHING, Page, listing, narrowed
from skerry_fleet.records import Alert

WINDOW_S = 900.0
LONGEST_S = 4 * WINDOW_S
SETTLE_S = 60.0
TOGETHER_S = 60.0
MANY = 100
"""So many alerts make an incident critical, whatever each of them is."""
SYSTEM = "system:alerts"


def join(session: Session, now: float, alert: Alert, scope: str) -> None:
    """Put a new alert into its incident. The caller adds the alert."""
    now_ms, of = int(now * 1000), family(alert.kind)
    key = (alert.tenant, of, scope)
    row = _home(session, alert, key, now_ms)
    if row is None:
        row = Incident(
            tenant=alert.tenant,
            family=of,
            kind=alert.kind,
            scope=scope,
            severity=alert.severity,
            text=alert.text,
            first_ms=now_ms,
            last_ms=now_ms,
        )
        session.add(row)
        session.flush()
        after = {"family": of, "kind": alert.kind, "scope": scope, "subject": alert.subject}
        audit.write(session, Actor(alert.tenant, SYSTEM), now, "incident.open", f"incident/{row.id}", None, after)
    elif alert.kind in OUTAGES and scope not in row.scope.split():
        row.scope = " ".join(sorted([*row.scope.split(), scope]))
    session.info.setdefault("incidents", {})[key] = row
    row.alerts += 1
    row.standing += 1
    row.last_ms = max(row.last_ms, now_ms)
    row.severity = worse(row.severity, Severity.CRITICAL if row.alerts >= MANY else alert.severity)
    session.add(row)
    alert.incident = row.id
    _told(session, row)


def count(session: Session, incident: int, devices: int) -> None:
    """Take in how many devices an outage keeps away now."""
    row = session.get(Incident, incident)
    if row is not None and devices > row.devices:
        row.devices = devices
        session.add(row)
        _told(session, row)


def leave(session: Session, now: float, alert: Alert) -> None:
    """Take in that an alert is resolved; the incident itself is resolved by `tick`, once it has settled."""
    row = None if alert.incident is None else session.get(Incident, alert.incident)
    if row is not None:
        row.standing -= 1
        row.last_ms = max(row.last_ms, int(now * 1000))
        session.add(row)
        _told(session, row)


def seen(session: Session, actor: Actor, now: float, alert: Alert, who: str) -> None:
    """Take in that somebody saw an alert: if it was the last open one, the incident is acknowledged with it."""
    row = None if alert.incident is None else session.get(Incident, alert.incident)
    if row is None or row.state != AlertState.OPEN:
        return
    still = select(func.count()).where(
        Alert.tenant == row.tenant, Alert.incident == row.id, Alert.state == AlertState.OPEN.value
    )
    if not session.exec(still).one():
        _move(session, actor, now, row, AlertState.ACKNOWLEDGED, who)


def acknowledge(session: Session, actor: Actor, now: float, incident: str, who: str) -> dict[str, Any]:
    """Note that a person has seen an incident, and with it each of its alerts.

    Raises:
        MissingError: no such incident.
        ConflictError: it is resolved.
    """
    row = get(session, actor.tenant, incident)
    if row.state == AlertState.RESOLVED:
        raise ConflictError(f"incident {row.id} is resolved")
    if row.state == AlertState.OPEN:
        _move(session, actor, now, row, AlertState.ACKNOWLEDGED, who)
    mine = (Alert.tenant == row.tenant, Alert.incident == row.id, Alert.state == AlertState.OPEN.value)
    session.flush()
    session.exec(
        update(Alert).where(*mine).values(state=AlertState.ACKNOWLEDGED.value, acknowledged_by=who)  # type: ignore[arg-type]  # SQLModel's columns
    )
    return view(row)


def get(session: Session, tenant: str, incident: str) -> Incident:
    """Return an incident's row.

    Raises:
        MissingError: no such incident.
    """
    number = int(incident) if incident.isascii() and incident.isdigit() and len(incident) < 20 else -1
    row = session.get(Incident, number) if 0 <= number <= MAX_INT64 else None
    if row is None or row.tenant != tenant:
        raise MissingError(f"no incident {incident!r:.40}", hint="`skerry fleet incident list` shows what there is")
    return row


def list_incidents(
    session: Session, tenant: str, page: Page, state: str = "", only: Mapping[str, str] = NOTHING
) -> dict[str, Any]:
    """Return one page of incidents, newest first; of one state or `only` some where they are named.

    Raises:
        InputError: no such state, or not a cursor.
    """
    query = narrowed(select(Incident).where(Incident.tenant == tenant), Incident, only)
    if state:
        if state not in list(AlertState):
            raise InputError(f"state {state!r:.40} is none of {', '.join(AlertState)}")
        query = query.where(Incident.state == state)
    if page.after_id is not None:
        query = query.where(col(Incident.id) < page.after_id)
    rows = session.exec(query.order_by(col(Incident.id).desc()).limit(page.limit + 1)).all()
    return listing(rows, page, view, lambda row: row.id)


def view(row: Incident) -> dict[str, Any]:
    """Return an incident as the API shows it."""
    return row.model_dump(exclude={"tenant"})


def tick(session: Session, now: float, wait_s: float, escalate_s: float) -> None:
    """Announce what has begun, escalate what nobody has seen, resolve what has settled."""
    now_ms = int(now * 1000)
    waiting: list[Incident] = []
    for row in _unresolved(session):
        if row.standing <= 0 and row.last_ms <= now_ms - SETTLE_S * 1000:
            _move(session, Actor(row.tenant, SYSTEM), now, row, AlertState.RESOLVED, row.acknowledged_by)
            if row.announced_ms:
                notices.tell(session, now, row, "resolved", 0)
        elif row.state == AlertState.OPEN and row.standing > 0:
            waiting.append(row)
    for row in waiting:
        if row.announced_ms:
            _escalate(session, now, row, escalate_s)
        elif row.first_ms <= now_ms - wait_s * 1000 and notices.tell(session, now, row, "opened", 0):
            row.announced_ms = now_ms
            session.add(row)


def _escalate(session: Session, now: float, row: Incident, escalate_s: float) -> None:
    """Tell the next level's routes of a critical incident that nobody has seen, once each has had its time."""
    level = row.level + 1
    due = row.announced_ms + level * escalate_s * 1000 <= now * 1000
    if row.severity != Severity.CRITICAL or not due or level > notices.highest(session, row.tenant):
        return
    if notices.tell(session, now, row, f"escalated-{level}", level):
        row.level = level
        session.add(row)
        after = {"level": level}
        audit.write(session, Actor(row.tenant, SYSTEM), now, "incident.escalate", f"incident/{row.id}", None, after)


def _unresolved(session: Session) -> Iterable[Incident]:
    """Return what may have to change: not what somebody has seen and what still stands."""
    seen_too = (col(Incident.state) == AlertState.ACKNOWLEDGED.value) & (col(Incident.standing) <= 0)
    query = select(Incident).where((col(Incident.state) == AlertState.OPEN.value) | seen_too)
    return session.exec(query.order_by(col(Incident.id))).all()


def _home(session: Session, alert: Alert, key: tuple[str, str, str], now_ms: int) -> Incident | None:
    """Return the incident that takes a new alert in, if one does."""
    tenant, of, scope = key
    if alert.kind in OUTAGES:
        return _outage(session, tenant, scope, now_ms - TOGETHER_S * 1000)
    if alert.kind == Kind.DEVICE_SILENT:
        outages: dict[tuple[str, str], Incident | None] = session.info.setdefault("outages", {})
        if (tenant, scope) not in outages:  # asked once a transaction: thousands may fall silent
            outages[tenant, scope] = _outage(session, tenant, scope, math.inf)
        if (lasting := outages[tenant, scope]) is not None:
            return lasting
    cache: dict[tuple[str, str, str], Incident] = session.info.setdefault("incidents", {})
    row = cache.get(key)
    if row is None:
        states = [AlertState.OPEN.value, AlertState.ACKNOWLEDGED.value]
        query = select(Incident).where(
            Incident.tenant == tenant, Incident.family == of, Incident.scope == scope, col(Incident.state).in_(states)
        )
        row = session.exec(query.order_by(col(Incident.id).desc()).limit(1)).first()
    old = row is None or row.last_ms < now_ms - WINDOW_S * 1000 or row.first_ms < now_ms - LONGEST_S * 1000
    return None if old else row


def _outage(session: Session, tenant: str, scope: str, since_ms: float) -> Incident | None:
    """Return the newest incident of an outage that stands: of this shard, or begun since a time on any."""
    of_it = col(Alert.subject) == scope
    if since_ms < math.inf:
        of_it = of_it | (col(Incident.first_ms) >= int(since_ms))
    query = (
        select(Incident).join(Alert, col(Alert.incident) == col(Incident.id)).where(Incident.tenant == tenant, of_it)
    )
    kinds = [kind.value for kind in OUTAGES]
    query = query.where(col(Alert.kind).in_(kinds), Alert.state != AlertState.RESOLVED.value)
    return session.exec(query.order_by(col(Incident.id).desc()).limit(1)).first()


def _move(session: Session, actor: Actor, now: float, row: Incident, state: AlertState, who: str) -> None:
    before, row.state, row.acknowledged_by = row.state, state.value, who
    if state is AlertState.RESOLVED:
        row.last_ms = int(now * 1000)
        session.info.get("incidents", {}).pop((row.tenant, row.family, row.scope), None)
    session.add(row)
    after = {"state": row.state, "alerts": row.alerts}
    audit.write(session, actor, now, f"incident.{state}", f"incident/{row.id}", {"state": before}, after)
    _told(session, row)


def _told(session: Session, row: Incident) -> None:
    """Tell event streams of an incident once a transaction, however many alerts it takes in."""
    told: set[int | None] = session.info.setdefault("incidents_told", set())
    if row.id not in told:
        told.add(row.id)
        announce(session, row.tenant, "incident", id=row.id, kind=row.kind, scope=row.scope, state=row.state)

"""Who is told of an incident: routes, mutes, and the outbox that is written in the transaction of the change itself.

An outbox row is unique by (incident, state, route): a state is told to a route once. Its body is a CloudEvent (1.0,
structured mode) fixed when it is written, so that a message that is sent again is the same to the byte, `id` included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from skerry_contracts.codec import canonical_json
from skerry_fleet import placement
from skerry_fleet.alert_words import RANK, Kind, device_of
from skerry_fleet.incident_tables import Incident, Mute, Notice, Route
from skerry_fleet.records import Alert
from skerry_fleet.tables import GroupMember

SHOWN = 20
"""Alerts named in a message."""
WAITING, SENT, GIVEN_UP = "waiting", "sent", "given-up"


@dataclasses.dataclass(frozen=True, slots=True)
class Content:
    """What an incident is about: the (kind, device) of each of its alerts, and which groups these devices are in."""

    about: frozenset[tuple[str, str]]
    members: dict[str, frozenset[str]]

    def touches(self, kinds: Sequence[str], group: str) -> bool:
        """Say whether any alert is of these kinds (none: any) and of this group (empty: any)."""
        inside = self.members.get(group, frozenset())
        return any((not kinds or kind in kinds) and (not group or device in inside) for kind, device in self.about)

    def silenced(self, mutes: Iterable[tuple[str, str]]) -> bool:
        """Say whether every alert is covered by one of these mutes (kind, group)."""
        left = set(self.about)
        for kind, group in mutes:
            inside = self.members.get(group, frozenset())
            left -= {each for each in left if kind in ("", each[0]) and (not group or each[1] in inside)}
        return not left


def tell(session: Session, now: float, incident: Incident, state: str, level: int) -> bool:
    """Write the messages of an incident's new state; return False where it is muted, so that it may be told later.

    The end of an incident is told to those who heard of its beginning, and is not made up for after a mute.
    """
    now_ms = int(now * 1000)
    mine = (Alert.tenant == incident.tenant, Alert.incident == incident.id)
    rows = session.exec(select(Alert.kind, Alert.subject).where(*mine)).all()
    muted = _mutes(session, incident.tenant, now_ms)
    routes = list(session.exec(select(Route).where(Route.tenant == incident.tenant).order_by(col(Route.name))).all())
    groups = {group for _, group in muted if group} | {route.group for route in routes if route.group}
    about = {(kind, device_of(kind, subject)) for kind, subject in rows}
    for kind, subject in rows:
        if kind == Kind.MASS_OFFLINE:  # who is away decides whose groups hear of it, and whether a mute covers it
            gone = placement.lost(session, incident.tenant, int(subject.partition("/")[2]))
            about = about - {(kind, "")} | {(kind, device) for device in gone}
    content = Content(
        frozenset(about),
        {group: _members(session, incident.tenant, group) for group in groups},
    )
    if content.about and content.silenced(muted):
        return False
    heard = _heard(session, incident) if state == "resolved" else None
    wanted = [
        route
        for route in routes
        if (route.name in heard if heard is not None else route.level == level and matches(route, incident, content))
    ]
    if wanted:
        body = event(incident, state, now_ms, _subjects(session, incident))
        for route in wanted:
            session.add(_notice(incident, state, route, body, now_ms))
    return True


def matches(route: Route, incident: Incident, content: Content) -> bool:
    """Say whether a route wants to hear of an incident."""
    return RANK[incident.severity] >= RANK[route.severity] and content.touches(route.kinds.split(), route.group)


def highest(session: Session, tenant: str) -> int:
    """Return the highest level of a tenant's routes; -1 where there are none."""
    found = session.exec(select(func.max(Route.level)).where(Route.tenant == tenant)).one()
    return -1 if found is None else int(found)


def event(incident: Incident, state: str, now_ms: int, alerts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return an incident's new state as a CloudEvent (CloudEvents 1.0, section 3: its attributes)."""
    shown = incident.model_dump(exclude={"tenant", "announced_ms"})
    return {
        "specversion": "1.0",
        "id": f"{incident.tenant}/incident/{incident.id}/{state}",
        "source": f"/skerry/fleet/{incident.tenant}",
        "type": f"skerry.incident.{state.partition('-')[0]}",
        "subject": f"incident/{incident.id}",
        "time": datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "datacontenttype": "application/json",
        "data": {**shown, "title": title(incident, state), "first_alerts": list(alerts)},
    }


def title(incident: Incident, state: str) -> str:
    """Return an incident's new state in one line."""
    many, what = (incident.devices, "device") if incident.devices else (incident.alerts, "alert")
    count = f"1 {what}" if many == 1 else f"{many} {what}s"
    where = f" of {incident.scope}" if incident.scope else ""
    word = {"opened": incident.severity, "resolved": "resolved"}.get(state, f"{incident.severity}, not acknowledged")
    return f"[{word}] {incident.kind}{where}: {count} (incident {incident.id})"


def _notice(incident: Incident, state: str, route: Route, body: dict[str, Any], now_ms: int) -> Notice:
    return Notice(
        tenant=incident.tenant,
        incident=int(incident.id or 0),
        state=state,
        route=route.name,
        event=body["id"],
        title=body["data"]["title"],
        body=canonical_json(body).decode(),
        status=WAITING,
        made_ms=now_ms,
        due_ms=now_ms,
    )


def _subjects(session: Session, incident: Incident) -> list[dict[str, Any]]:
    query = select(Alert).where(Alert.tenant == incident.tenant, Alert.incident == incident.id)
    rows = session.exec(query.order_by(col(Alert.id)).limit(SHOWN)).all()
    return [{"kind": each.kind, "subject": each.subject, "state": each.state, "text": each.text} for each in rows]


def _mutes(session: Session, tenant: str, now_ms: int) -> list[tuple[str, str]]:
    query = select(Mute.kind, Mute.group).where(Mute.tenant == tenant, Mute.until_ms > now_ms)
    return list(session.exec(query).all())


def _members(session: Session, tenant: str, group: str) -> frozenset[str]:
    query = select(GroupMember.device).where(GroupMember.tenant == tenant, GroupMember.group == group)
    return frozenset(session.exec(query).all())


def _heard(session: Session, incident: Incident) -> set[str]:
    query = select(Notice.route).where(Notice.tenant == incident.tenant, Notice.incident == incident.id)
    return set(session.exec(query).all())

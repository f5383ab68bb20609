"""/api/v1: alerts, incidents, mutes, and the routes that messages take."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from skerry_fleet import alerts, audit, incidents, notice_routes, webhooks
from skerry_fleet.errors import MissingError, UnavailableError
from skerry_fleet.incident_tables import Incident
from skerry_fleet.paging import MAX_INT64
from skerry_fleet.routes.common import (
    Admin,
    FleetPart,
    OncePart,
    Operator,
    PagePart,
    SeenPart,
    Viewer,
    actor_of,
    body,
    reply,
)
from skerry_fleet.vault import opened_route

router = APIRouter(prefix="/api/v1")


@dataclasses.dataclass(frozen=True, slots=True)
class MuteRequest:
    """What is not told for a while: a kind (None: any), about devices of a group (None: all)."""

    hours: float
    kind: str | None = None
    group: str | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RouteRequest:
    """A new route: where to, and of what (None: everything)."""

    name: str
    target: str
    kinds: tuple[str, ...] | None = None
    severity: str = "warning"
    group: str | None = None
    level: int = 0


@router.get("/alerts")
def list_alerts(
    fleet: FleetPart,
    caller: Viewer,
    page: PagePart,
    state: str = "",
    incident: str = "",
    kind: str = "",
    subject: str = "",
) -> Response:
    """Alerts, newest first."""
    with fleet.database.read() as session:
        of = incidents.get(session, caller.tenant, incident).id if incident else None
        return reply(alerts.list_alerts(session, caller.tenant, page, state, of, {"kind": kind, "subject": subject}))


@router.post("/alerts/{alert}/ack")
def acknowledge(request: Request, fleet: FleetPart, caller: Operator, alert: str) -> Response:
    """Note that a person has seen an alert."""
    if not (alert.isascii() and alert.isdigit()) or int(alert) > MAX_INT64:
        raise MissingError(f"no alert {alert!r:.40}")
    with fleet.database.write() as session:
        actor = actor_of(request, caller)
        return reply(alerts.acknowledge(session, actor, fleet.clock(), int(alert), caller.name))


@router.get("/incidents")
def list_incidents(fleet: FleetPart, caller: Viewer, page: PagePart, state: str = "", kind: str = "") -> Response:
    """Incidents, newest first."""
    with fleet.database.read() as session:
        return reply(incidents.list_incidents(session, caller.tenant, page, state, {"kind": kind}))


@router.get("/incidents/{incident}")
def show_incident(fleet: FleetPart, caller: Viewer, incident: str) -> Response:
    """One incident; its alerts are `/alerts?incident=`."""
    with fleet.database.read() as session:
        row = incidents.get(session, caller.tenant, incident)
        return reply(incidents.view(row), facts=_stands(row))


@router.post("/incidents/{incident}/ack")
def acknowledge_incident(
    request: Request, fleet: FleetPart, caller: Operator, incident: str, seen: SeenPart
) -> Response:
    """Note that a person has seen an incident and all of its alerts: of no more than it had then, with `If-Match`."""
    with fleet.database.write() as session:
        seen.still(_stands(incidents.get(session, caller.tenant, incident)))
        actor = actor_of(request, caller)
        return reply(incidents.acknowledge(session, actor, fleet.clock(), incident, caller.name))


@router.get("/mutes")
def list_mutes(fleet: FleetPart, caller: Viewer, page: PagePart) -> Response:
    """Mutes that hold."""
    with fleet.database.read() as session:
        return reply(notice_routes.list_mutes(session, caller.tenant, fleet.clock(), page))


@router.post("/mutes", status_code=201)
def create_mute(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    wanted: Annotated[MuteRequest, Depends(body(MuteRequest))],
    once: OncePart,
) -> Response:
    """Tell nobody of something for a while."""
    now = fleet.clock()
    with fleet.database.write() as session:

        def make() -> dict[str, Any]:
            return notice_routes.mute(
                session,
                actor_of(request, caller),
                now,
                kind=wanted.kind or "",
                group=wanted.group or "",
                hours=wanted.hours,
                reason=wanted.reason,
            )

        return reply(once.do(session, caller, now, make), 201)


@router.delete("/mutes/{mute}")
def end_mute(request: Request, fleet: FleetPart, caller: Operator, mute: str) -> Response:
    """End a mute now."""
    with fleet.database.write() as session:
        return reply(notice_routes.unmute(session, actor_of(request, caller), fleet.clock(), mute))


@router.get("/routes")
def list_routes(fleet: FleetPart, caller: Viewer, page: PagePart, q: str = "") -> Response:
    """Routes; of targets only what is no secret."""
    with fleet.database.read() as session:
        return reply(notice_routes.list_routes(session, caller.tenant, page, q))


@router.post("/routes", status_code=201)
def create_route(
    request: Request,
    fleet: FleetPart,
    caller: Admin,
    wanted: Annotated[RouteRequest, Depends(body(RouteRequest))],
    once: OncePart,
) -> Response:
    """Make a route; the secret that signs its webhooks is shown here only."""
    webhooks.check(wanted.target, fleet.config.webhook_reach)
    now = fleet.clock()
    with fleet.database.write() as session:

        def make() -> dict[str, Any]:
            return notice_routes.create(
                session,
                actor_of(request, caller),
                now,
                fleet.random,
                name=wanted.name,
                target=wanted.target,
                kinds=wanted.kinds or (),
                severity=wanted.severity,
                group=wanted.group or "",
                level=wanted.level,
            )

        return reply(once.do(session, caller, now, make), 201)


@router.delete("/routes/{route}")
def delete_route(request: Request, fleet: FleetPart, caller: Admin, route: str) -> Response:
    """Delete a route, and what still waits for it."""
    with fleet.database.write() as session:
        return reply(notice_routes.remove(session, actor_of(request, caller), fleet.clock(), route))


@router.post("/routes/{route}/test")
def try_route(request: Request, fleet: FleetPart, caller: Admin, route: str) -> Response:
    """Send a test message now, and say whether it was taken."""
    now = fleet.clock()
    with fleet.database.read() as session:
        target, secret = opened_route(session, notice_routes.get(session, caller.tenant, route))
    event, title, text = notice_routes.test_event(caller.tenant, route, now, fleet.random)
    problem = webhooks.send(target, secret, event, title, text, now, fleet.config.webhook_reach)
    with fleet.database.write() as session:
        after = {"event": event, "problem": problem}
        audit.write(session, actor_of(request, caller), now, "route.test", f"route/{route}", None, after)
    if problem:
        raise UnavailableError(f"route {route}: {problem}", hint="check the target; a route is changed by a new one")
    return reply({"route": route, "event": event, "delivered": True})


@router.get("/notices")
def list_notices(fleet: FleetPart, caller: Viewer, page: PagePart, status: str = "", route: str = "") -> Response:
    """Messages, newest first: what was told to whom, what waits and why."""
    with fleet.database.read() as session:
        return reply(notice_routes.list_notices(session, caller.tenant, page, {"status": status, "route": route}))


def _stands(row: Incident) -> Any:
    """Return what somebody who acknowledges has seen: an alert that joined later is news."""
    return {"state": row.state, "alerts": row.alerts, "severity": row.severity}

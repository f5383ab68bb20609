"""The page of alerts, grouped by incident, and what people do there: acknowledge, and mute."""

from __future__ import annotations

import math

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from skerry_fleet import alerts, incidents, notice_routes
from skerry_fleet.dashboard.account_pages import Anyone, Text
from skerry_fleet.dashboard.actions import Steering
from skerry_fleet.dashboard.pages import PageRoute, link, render
from skerry_fleet.dashboard.session import check_form
from skerry_fleet.errors import InputError, MissingError
from skerry_fleet.paging import MAX_INT64, Page, page
from skerry_fleet.routes.common import FleetPart

router = APIRouter(route_class=PageRoute, include_in_schema=False)
ROWS = "50"
SHOWN = 20
"""Incidents on the page: those before are reached by their state, or on the command line."""


@router.get("/ui/alerts")
def alert_list(
    request: Request,
    fleet: FleetPart,
    visitor: Anyone,
    after: str = Query(""),
    state: str = "",
    incident: str = "",
) -> Response:
    """Incidents and alerts, newest first; or the alerts of one incident."""
    rows, tenant = page(after, ROWS), visitor.caller.tenant
    with fleet.database.read() as session:
        one = incidents.view(incidents.get(session, tenant, incident)) if incident else None
        found = alerts.list_alerts(session, tenant, rows, state, None if one is None else one["id"])
        values = {
            "open": alerts.count_open(session, tenant),
            "incident": one,
            "incidents": incidents.list_incidents(session, tenant, Page(limit=SHOWN), state)["items"],
            "mutes": notice_routes.list_mutes(session, tenant, fleet.clock(), Page(limit=SHOWN))["items"],
        }
    following = link("/ui/alerts", state=state, incident=incident, after=found["next"])
    values |= {"found": found, "state": state, "following": following}
    return render(request, visitor, "alerts.html", values)


@router.post("/ui/alerts/{alert}/ack")
def acknowledge(
    request: Request, fleet: FleetPart, visitor: Steering, alert: str, token: Text = "", state: Text = ""
) -> Response:
    """Note that a person has seen an alert."""
    check_form(request, token)
    if not (alert.isascii() and alert.isdigit()) or int(alert) > MAX_INT64:
        raise MissingError(f"no alert {alert!r:.40}")
    with fleet.database.write() as session:
        actor = visitor.caller.actor(request.state.request_id)
        alerts.acknowledge(session, actor, fleet.clock(), int(alert), visitor.caller.name)
    return RedirectResponse(link("/ui/alerts", state=state if state in list(alerts.AlertState) else ""), 303)


@router.post("/ui/incidents/{incident}/ack")
def acknowledge_incident(
    request: Request, fleet: FleetPart, visitor: Steering, incident: str, token: Text = ""
) -> Response:
    """Note that a person has seen an incident and all of its alerts."""
    check_form(request, token)
    with fleet.database.write() as session:
        actor = visitor.caller.actor(request.state.request_id)
        incidents.acknowledge(session, actor, fleet.clock(), incident, visitor.caller.name)
    return RedirectResponse("/ui/alerts", 303)


@router.post("/ui/mutes")
def mute(
    request: Request, fleet: FleetPart, visitor: Steering, token: Text = "", kind: Text = "", hours: Text = ""
) -> Response:
    """Send no messages of a kind for some hours."""
    check_form(request, token)
    try:
        wanted = float(hours)
    except ValueError:
        wanted = math.nan
    if not kind:
        raise InputError("kind is missing")
    with fleet.database.write() as session:
        actor = visitor.caller.actor(request.state.request_id)
        notice_routes.mute(session, actor, fleet.clock(), kind=kind, group="", hours=wanted, reason="")
    return RedirectResponse("/ui/alerts", 303)


@router.post("/ui/mutes/{number}/end")
def unmute(request: Request, fleet: FleetPart, visitor: Steering, number: str, token: Text = "") -> Response:
    """End a mute now."""
    check_form(request, token)
    with fleet.database.write() as session:
        notice_routes.unmute(session, visitor.caller.actor(request.state.request_id), fleet.clock(), number)
    return RedirectResponse("/ui/alerts", 303)

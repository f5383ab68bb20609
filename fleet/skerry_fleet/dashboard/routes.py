"""The pages of the dashboard, at `/ui/`: read the request, ask a view in one session, render."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from skerry_fleet import audit_file, group_queries, oidc_people, rollout_machine, rollout_rows
from skerry_fleet.dashboard import (
    account_pages,
    actions,
    alert_pages,
    device_view,
    drift_sites,
    drift_view,
    measure_pages,
    oidc_pages,
    people_pages,
    rollout_pages,
    shadow_pages,
    site_pages,
    views,
)
from skerry_fleet.dashboard.account_pages import Anyone
from skerry_fleet.dashboard.pages import KINDS, STATIC, PageRoute, link, render
from skerry_fleet.dashboard.session import open_sessions
from skerry_fleet.dashboard.shared import Shared
from skerry_fleet.errors import InputError, MissingError
from skerry_fleet.fleet import Fleet
from skerry_fleet.paging import Page, page
from skerry_fleet.rollout_words import Status
from skerry_fleet.routes.common import FleetPart
from skerry_fleet.signin import SignIn
from skerry_fleet.tag_rules import MAX_VALUE

router = APIRouter(route_class=PageRoute, include_in_schema=False)
ROWS = "50"
FEW = "20"
SHARED_S = 0.5
"""For how long all who look at the overview are told the same: a page asks again at most once a second."""
BURST_S = 0.25
"""Less than the hub's pause between two bursts."""


def install(app: FastAPI, fleet: Fleet) -> None:
    """Put the dashboard on an application."""
    app.state.sessions = open_sessions(fleet.config.root, fleet.random)
    app.state.sign_in = SignIn(fleet.database, fleet.config.tenant, fleet.clock)
    wanted = oidc_people.settings(fleet.config)
    app.state.provider = None
    if wanted is not None:
        from skerry_fleet.oidc import Provider  # its libraries, only now

        app.state.provider = Provider(wanted, fleet.clock)
    app.state.shared = Shared()
    app.include_router(rollout_pages.router)  # before the others: a new rollout is no rollout of the name `new`
    for room in (
        oidc_pages,
        account_pages,
        people_pages,
        actions,
        shadow_pages,
        alert_pages,
        site_pages,
        measure_pages,
    ):
        app.include_router(room.router)
    app.include_router(router)


def _rows(after: str = Query("")) -> Page:
    return page(after, ROWS)


def _few(after: str = Query("")) -> Page:
    return page(after, FEW)


Rows = Annotated[Page, Depends(_rows)]
Few = Annotated[Page, Depends(_few)]


@router.get("/")
@router.get("/ui")
def to_overview() -> Response:
    """The way in."""
    return RedirectResponse("/ui/", 307)


@router.get("/ui/static/{name}")
def static(name: str) -> Response:
    """Styles, script and icon; their address changes with their content, so they are kept for ever."""
    content = STATIC.get(name)
    if content is None:
        raise MissingError("no such file")
    kind = KINDS[PurePath(name).suffix]
    return Response(content, headers={"cache-control": "public, max-age=31536000, immutable"}, media_type=kind)


@router.get("/ui/events")
async def events(request: Request, fleet: FleetPart, visitor: Anyone) -> StreamingResponse:
    """Server-sent events `changed`: the kind of thing that changed, many changes told once."""
    hub = request.app.state.hub
    stream = kinds_of(hub.stream(visitor.caller.tenant, fleet.config.stream_idle_s))
    return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def kinds_of(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Turn a stream of events into one that names each kind once in every burst.

    The hub tells bursts at least half a second apart; a page that hears a kind asks for itself again. So the bytes a
    viewer costs do not depend on how many devices changed.
    """
    clock = asyncio.get_running_loop().time
    told: dict[bytes, float] = {}
    async for message in stream:
        if not message.startswith(b"event: "):
            yield message
            continue
        kind = message[7 : message.index(b"\n")]
        if clock() - told.get(kind, -BURST_S) >= BURST_S:
            told[kind] = clock()
            yield b"event: changed\ndata: %b\n\n" % kind


@router.get("/ui/")
def overview(request: Request, fleet: FleetPart, visitor: Anyone, shared: site_pages.SharedPart) -> Response:
    """The fleet at a glance."""
    tenant = visitor.caller.tenant

    def find() -> dict[str, Any]:
        with fleet.database.read() as session:
            return views.overview(session, fleet, tenant)

    found = shared.get(("overview", tenant), SHARED_S, find)
    connected = bool(request.app.state.connected()) if request.app.state.broker is not None else None
    return render(request, visitor, "overview.html", {"fleet": found, "places": views.PLACES, "connected": connected})


@router.get("/ui/devices")
def devices(
    request: Request,
    fleet: FleetPart,
    visitor: Anyone,
    rows: Rows,
    group: str = "",
    q: str = "",
    online: str = "",
    query: str = "",
) -> Response:
    """Devices by name."""
    wanted = {"": None, "true": True, "false": False}
    if online not in wanted:
        raise InputError("online is true or false")
    filters = {"q": q.strip(), "group": group, "online": online, "query": query.strip()}
    asked = group_queries.tree(filters["query"]) if filters["query"] else None
    narrowed = {"group": group, "q": filters["q"], "online": wanted[online], "asked": asked, "now": fleet.clock()}
    with fleet.database.read() as session:
        found = views.device_list(session, visitor.caller.tenant, rows, **narrowed)
    following = link("/ui/devices", **filters, after=found["next"]) if found["next"] else None
    first = link("/ui/devices", **filters) if rows.after else None
    values = {"found": found, "filters": filters, "following": following, "first": first}
    return render(request, visitor, "devices.html", values)


@router.get("/ui/devices/{name}")
def device(request: Request, fleet: FleetPart, visitor: Anyone, name: str, few: Few) -> Response:
    """One device: its health, its history, and why it runs what it runs."""
    with fleet.database.read() as session:
        found = device_view.device(session, visitor.caller.tenant, name, few)
        seen = drift_view.samples_of_device(session, visitor.caller.tenant, name) if visitor.operates else []
    older = found["history"]["next"]
    values = {"device": found, "older": link(f"/ui/devices/{name}", after=older), "few": few, "samples": seen}
    return render(request, visitor, "device.html", values)


@router.get("/ui/models")
def models(request: Request, fleet: FleetPart, visitor: Anyone, rows: Rows) -> Response:
    """Models by name."""
    with fleet.database.read() as session:
        found = views.models(session, visitor.caller.tenant, rows)
    following = link("/ui/models", after=found["next"])
    return render(request, visitor, "models.html", {"found": found, "following": following})


@router.get("/ui/models/{name}")
def model(request: Request, fleet: FleetPart, visitor: Anyone, name: str, rows: Rows) -> Response:
    """One model and its bundles."""
    with fleet.database.read() as session:
        found = views.model(session, visitor.caller.tenant, name, rows)
    following = link(f"/ui/models/{name}", after=found["next"])
    return render(request, visitor, "model.html", {"model": found, "following": following})


@router.get("/ui/bundles/{bundle}")
def bundle(request: Request, fleet: FleetPart, visitor: Anyone, bundle: str) -> Response:
    """One bundle: what it promises, and the evidence for it."""
    with fleet.database.read() as session:
        found = views.bundle(session, visitor.caller.tenant, bundle)
    return render(request, visitor, "bundle.html", {"bundle": found})


@router.get("/ui/rollouts")
def rollouts(request: Request, fleet: FleetPart, visitor: Anyone, few: Few, status: str = "") -> Response:
    """Rollouts, newest first."""
    if status not in ("", "active", *Status):
        raise InputError(f"status {status!r:.40} is none of active, {', '.join(Status)}")
    with fleet.database.read() as session:
        found = rollout_rows.list_rollouts(session, visitor.caller.tenant, few, status=status)
    following = link("/ui/rollouts", status=status, after=found["next"])
    values = {"found": found, "status": status, "following": following, "places": views.PLACES}
    return render(request, visitor, "rollouts.html", values)


@router.get("/ui/rollouts/{name}")
def rollout(request: Request, fleet: FleetPart, visitor: Anyone, name: str, few: Few, place: str = "") -> Response:
    """One rollout: where it stands, its exposure, its failures, and what can be ordered."""
    with fleet.database.read() as session:
        found = views.rollout(session, visitor.caller.tenant, name, place, few)
    orders = [order.value for order, when in rollout_machine.ALLOWED.items() if Status(found["status"]) in when]
    following = link(f"/ui/rollouts/{name}", place=place, after=found["members"]["next"])
    values = {"rollout": found, "orders": orders, "place": place, "places": views.PLACES, "following": following}
    return render(request, visitor, "rollout.html", values)


@router.get("/ui/drift")
def drift(request: Request, fleet: FleetPart, visitor: Anyone) -> Response:
    """What every monitor says."""
    with fleet.database.read() as session:
        found = drift_view.index(session, visitor.caller.tenant)
    return render(request, visitor, "drift.html", {"verdicts": found})


@router.get("/ui/drift/{name}")
def drift_of(
    request: Request,
    fleet: FleetPart,
    visitor: Anyone,
    shared: site_pages.SharedPart,
    name: str,
    site: str = "",
) -> Response:
    """One model's monitors, where it drifts, and what its devices saw. Samples are for operators, as in the API."""
    if len(site) > MAX_VALUE or not site.isprintable():
        raise InputError(f"site is no {MAX_VALUE} printable characters", hint="choose one from the list")
    tenant = visitor.caller.tenant
    with fleet.database.read() as session:
        found = drift_view.model(session, tenant, name)
        seen = drift_view.samples(session, tenant, name, site) if visitor.operates else []

    def find() -> dict[str, Any]:
        with fleet.database.read() as session:
            return drift_sites.by_site(session, tenant, name, drift_view.newest_sample(session, tenant))

    places = shared.get(("drift", tenant, name), drift_sites.LASTS_S, find)
    values = {"model": found, "samples": seen, "site": site, "places": places, "looked": drift_sites.LOOK_BACK}
    return render(request, visitor, "drift-model.html", values)


@router.get("/ui/audit")
def audit_list(
    request: Request, fleet: FleetPart, visitor: Anyone, rows: Rows, object: str = "", verify: str = ""
) -> Response:
    """The audit chain, newest first, and whether it holds."""
    tenant = visitor.caller.tenant
    with fleet.database.read() as session:
        found = views.audit_page(session, tenant, rows, object.strip())
        held = views.chain(session, tenant, found["records"], verify == "1")
    following = link("/ui/audit", object=object, after=found["next"])
    chain = None if held is None else dataclasses.asdict(held)
    values = {"found": found, "object": object, "following": following, "chain": chain}
    return render(request, visitor, "audit.html", values)


@router.get("/ui/audit/export")
def audit_export(fleet: FleetPart, visitor: Anyone, after: str | None = None) -> StreamingResponse:
    """The whole chain, or what comes behind a record, as a file: the same as the API's export."""
    found = audit_file.lines(fleet.database, visitor.caller.tenant, page(after, None).after_id or 0)
    name = f"audit-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(fleet.clock()))}.jsonl"
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return StreamingResponse(found, headers=headers, media_type=audit_file.MEDIA)


@router.get("/ui/{rest:path}")
def nowhere(visitor: Anyone, rest: str) -> Response:
    """Any other address."""
    raise MissingError("there is no such page", hint="the menu shows what there is")

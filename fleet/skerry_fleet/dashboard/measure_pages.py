"""The page of what boards measured: the performance database, and the newest leases."""

from __future__ import annotations

from fastapi import APIRouter, Query, Request, Response

from skerry_fleet import measurements
from skerry_fleet.dashboard.account_pages import Anyone
from skerry_fleet.dashboard.pages import PageRoute, link, render
from skerry_fleet.errors import InputError
from skerry_fleet.paging import Page, page
from skerry_fleet.routes.common import FleetPart

router = APIRouter(route_class=PageRoute, include_in_schema=False)
ROWS = "50"
LEASES = 10
LONGEST = 256


@router.get("/ui/measurements")
def measurement_list(
    request: Request,
    fleet: FleetPart,
    visitor: Anyone,
    after: str = Query(""),
    device: str = "",
    profile: str = "",
    source: str = "",
    lease: str = "",
) -> Response:
    """Measurements, newest first: of one board, kind of board, source model or lease where that is named."""
    said = {"device": device, "profile": profile, "source": source, "lease": lease}
    filters = {name: value.strip() for name, value in said.items()}
    for name, value in filters.items():
        if len(value) > LONGEST or not value.isprintable():
            raise InputError(f"{name} is no {LONGEST} printable characters", hint="choose one from the list")
    tenant, rows = visitor.caller.tenant, page(after, ROWS)
    with fleet.database.read() as session:
        found = measurements.list_measurements(session, tenant, rows, **filters)
        leases = measurements.list_leases(session, tenant, Page(limit=LEASES))["items"]
    narrowed = any(filters.values())
    following = link("/ui/measurements", **filters, after=found["next"]) if found["next"] else ""
    first = link("/ui/measurements", **filters) if rows.after else ""
    values = {"found": found, "filters": filters, "narrowed": narrowed, "following": following, "first": first}
    return render(request, visitor, "measurements.html", {**values, "leases": leases})

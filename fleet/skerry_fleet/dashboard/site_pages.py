"""The pages of sites and of trends, and the search: what of the fleet is looked at as a whole."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from skerry_fleet import device_list
from skerry_fleet.dashboard import search, sites, trends
from skerry_fleet.dashboard.account_pages import Anyone
from skerry_fleet.dashboard.pages import PageRoute, link, render
from skerry_fleet.dashboard.shared import Shared
from skerry_fleet.errors import InputError
from skerry_fleet.paging import Page
from skerry_fleet.routes.common import FleetPart

router = APIRouter(route_class=PageRoute, include_in_schema=False)


def shared_of(request: Request) -> Shared:
    """Return what this application's viewers share."""
    shared: Shared = request.app.state.shared
    return shared


SharedPart = Annotated[Shared, Depends(shared_of)]


@router.get("/ui/sites")
def site_list(
    request: Request, fleet: FleetPart, visitor: Anyone, shared: SharedPart, by: str = sites.SITE
) -> Response:
    """Devices by site, or by another tag, and on a map."""
    tenant, tag = visitor.caller.tenant, by.strip() or sites.SITE

    def find() -> dict[str, Any]:
        with fleet.database.read() as session:
            return sites.by_tag(session, tenant, tag)

    found = shared.get(("sites", tenant, tag), sites.LASTS_S, find)
    return render(
        request, visitor, "sites.html", {"found": found, "width": sites.MAP_WIDTH, "height": sites.MAP_HEIGHT}
    )


@router.get("/ui/trends")
def trend_list(request: Request, fleet: FleetPart, visitor: Anyone, shared: SharedPart, span: str = "week") -> Response:
    """The fleet over a day, a week, a month or a quarter."""
    if span not in trends.SPANS:
        raise InputError(f"span {span!r:.40} is none of {', '.join(trends.SPANS)}")
    tenant = visitor.caller.tenant

    def find() -> dict[str, Any]:
        with fleet.database.read() as session:
            return trends.charts(session, tenant, fleet.clock(), span)

    found = shared.get(("trends", tenant, span), trends.LASTS_S, find)
    values = {**found, "spans": list(trends.SPANS), "width": trends.WIDTH, "height": trends.HEIGHT}
    return render(request, visitor, "trends.html", values)


@router.get("/ui/search")
def find_anything(request: Request, fleet: FleetPart, visitor: Anyone, q: str = "") -> Response:
    """Devices, models, bundles, rollouts and groups by the beginning of their name; the only one there is, at once."""
    wanted = q.strip()
    with fleet.database.read() as session:
        found = search.everywhere(session, visitor.caller.tenant, wanted) if wanted else {}
        if wanted:
            listed = device_list.list_devices(session, visitor.caller.tenant, Page(limit=search.EACH), q=wanted.lower())
            found["devices"] = [
                search.Found(each["device"], link(f"/ui/devices/{each['device']}")) for each in listed["items"]
            ]
    exact = [each for kind in found.values() for each in kind if each.name == wanted]
    if len(exact) == 1:
        return RedirectResponse(exact[0].address, 303)
    return render(request, visitor, "search.html", {"q": wanted, "found": found, "each": search.EACH})

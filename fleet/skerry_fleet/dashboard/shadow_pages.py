"""The pages of shadows, at `/ui/shadows/`: what one came to, and the two ways in which it ends."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlmodel import Session

from skerry_contracts.sample import Sample
from skerry_fleet import registry
from skerry_fleet import shadow_figures as figures
from skerry_fleet import shadow_orders as orders
from skerry_fleet.dashboard import drawing, drift_view
from skerry_fleet.dashboard.account_pages import Anyone, Text
from skerry_fleet.dashboard.actions import Steering
from skerry_fleet.dashboard.pages import PageRoute, link, render
from skerry_fleet.dashboard.session import check_form
from skerry_fleet.errors import MissingError
from skerry_fleet.paging import Page, page
from skerry_fleet.records import SampleRow
from skerry_fleet.routes.common import FleetPart
from skerry_fleet.routes.shadows import PromoteRequest, promote
from skerry_fleet.shadow_tables import ShadowStatus

router = APIRouter(route_class=PageRoute, include_in_schema=False)
FEW = "20"
STATES = ("running", "waiting", "fetching", "assigned", "failed", "ended")
"""The order of a shadow's bar."""


class Step(StrEnum):
    """What can be done with a shadow that runs."""

    PROMOTE = "promote"
    END = "end"


CONSEQUENCES = {
    Step.PROMOTE: "A rollout of its bundle starts where the shadow is: one canary first, then all others, each device "
    "confirmed after half a minute of service; one failure takes everything back.",
    Step.END: "No device tries it any more. Its worker ends, its files are removed, and its figures stay here.",
}


def _few(after: str = Query("")) -> Page:
    return page(after, FEW)


@router.get("/ui/shadows/{shadow}")
def show(
    request: Request, fleet: FleetPart, visitor: Anyone, shadow: str, few: Annotated[Page, Depends(_few)]
) -> Response:
    """One shadow: how often it agrees, and where it does not. Samples are for operators, as in the API."""
    tenant = visitor.caller.tenant
    with fleet.database.read() as session:
        found = figures.view(session, orders.get(session, tenant, shadow))
        members = figures.list_devices(session, tenant, shadow, few)
        kept = figures.samples(session, tenant, shadow) if visitor.operates else []
        samples = [_shown(session, tenant, row, sample) for row, sample in kept]
    following = link(f"/ui/shadows/{shadow}", after=members["next"]) if members["next"] else ""
    steps = [step.value for step in Step] if found["status"] == ShadowStatus.RUNNING else []
    values = {"shadow": found, "members": members["items"], "samples": samples, "steps": steps}
    return render(request, visitor, "shadow.html", {**values, "following": following, "states": STATES})


@router.get("/ui/shadows/{shadow}/{step}")
def confirm(request: Request, fleet: FleetPart, visitor: Steering, shadow: str, step: str) -> Response:
    """What a step would do, and the button that takes it."""
    wanted = _step(step)
    with fleet.database.read() as session:
        found = figures.view(session, orders.get(session, visitor.caller.tenant, shadow))
    allowed = found["status"] == ShadowStatus.RUNNING
    values = {"shadow": found, "step": wanted.value, "allowed": allowed, "consequence": CONSEQUENCES[wanted]}
    return render(request, visitor, "shadow-step.html", values)


@router.post("/ui/shadows/{shadow}/{step}")
def take(
    request: Request,
    fleet: FleetPart,
    visitor: Steering,
    shadow: str,
    step: str,
    token: Text = "",
    reason: Text = "",
    group: Text = "",
) -> Response:
    """End a shadow, or start a rollout of it."""
    check_form(request, token)
    wanted = _step(step)
    actor = visitor.caller.actor(request.state.request_id)
    if wanted is Step.PROMOTE:
        made = promote(fleet, actor, shadow, PromoteRequest(group=group.strip() or None))
        return RedirectResponse(f"/ui/rollouts/{made['id']}", 303)
    with fleet.rollouts.open() as session:
        orders.end(session, fleet.pen, actor, fleet.clock(), shadow, reason.strip())
    return RedirectResponse(f"/ui/shadows/{shadow}", 303)


def _step(text: str) -> Step:
    if text not in list(Step):
        raise MissingError(f"no step {text!r:.40}", hint=f"steps: {', '.join(Step)}")
    return Step(text)


def _shown(session: Session, tenant: str, row: SampleRow, sample: Sample) -> dict[str, Any]:
    """Return a sample on which the two disagreed: its picture, and both answers."""
    first = sample.inputs[0] if sample.inputs else None
    said = sample.shadow
    return {
        "id": row.id,
        "device": row.device,
        "received_ms": row.received_ms,
        "picture": None if first is None else drawing.picture(first),
        "input": "sealed" if first is None else drift_view.describe(first),
        "live": _answer(session, tenant, sample.bundle, sample.outputs),
        "shadow": _answer(session, tenant, said.bundle, said.outputs) if said is not None else "",
    }


def _answer(session: Session, tenant: str, bundle: str, outputs: Any) -> str:
    """Return what a bundle said, as a class where it says one."""
    if not outputs:
        return "sealed"
    try:
        signature = json.loads(registry.get(session, tenant, bundle).manifest)["signature"]
    except MissingError:
        signature = {}
    return drift_view.answer(outputs, signature) or drift_view.describe(outputs[0])

"""Starting a rollout in the browser: a form, then what it would do, then, confirmed, the rollout."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlmodel import Session, col, select

from skerry_contracts.errors import ContractError
from skerry_fleet import groups, rollout_preview
from skerry_fleet.dashboard.account_pages import Text
from skerry_fleet.dashboard.actions import Steering
from skerry_fleet.dashboard.pages import PageRoute, render
from skerry_fleet.dashboard.session import Visitor, check_form
from skerry_fleet.errors import FleetError, InputError
from skerry_fleet.paging import Page
from skerry_fleet.rollout_plan import Wave
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.routes.common import FleetPart
from skerry_fleet.tables import Bundle, BundleState

router = APIRouter(route_class=PageRoute, include_in_schema=False)
CHOICES = 200
MOST = 10**9
NUMBERS = {"canary": 1, "failure_budget": 0, "exposure_budget": 5, "holdout": 0}
MEASURES = {"soak_s": 30.0, "per_minute": 0.0}
SWITCHES = ("approval", "supersede", "allow_downgrade")
BLANK = {
    "bundle": "", "group": "", "waves": "10, 50, 100",
    **{name: f"{value:g}" for name, value in (NUMBERS | MEASURES).items()}, **dict.fromkeys(SWITCHES, ""),
}  # fmt: skip


@router.get("/ui/rollouts/new")
def new_rollout(request: Request, fleet: FleetPart, visitor: Steering, bundle: str = "", group: str = "") -> Response:
    """The form."""
    return _form(request, fleet, visitor, BLANK | {"bundle": bundle, "group": group}, "")


@router.post("/ui/rollouts/new")
def start_rollout(
    request: Request,
    fleet: FleetPart,
    visitor: Steering,
    token: Text = "",
    bundle: Text = "",
    group: Text = "",
    waves: Text = "",
    canary: Text = "",
    failure_budget: Text = "",
    exposure_budget: Text = "",
    holdout: Text = "",
    soak_s: Text = "",
    per_minute: Text = "",
    approval: Text = "",
    supersede: Text = "",
    allow_downgrade: Text = "",
    confirmed: Text = "",
    change: str = Form(""),
) -> Response:
    """What the rollout would do; with `confirmed`, the rollout itself; with `change`, the form again."""
    check_form(request, token)
    said = {
        "bundle": bundle, "group": group, "waves": waves, "canary": canary, "failure_budget": failure_budget,
        "exposure_budget": exposure_budget, "holdout": holdout, "soak_s": soak_s, "per_minute": per_minute,
        "approval": approval, "supersede": supersede, "allow_downgrade": allow_downgrade,
    }  # fmt: skip
    if change:
        return _form(request, fleet, visitor, said, "")
    tenant = visitor.caller.tenant
    try:
        with fleet.database.read() as session:
            wanted = asked(session, tenant, said)
            preview = {} if confirmed else rollout_preview.preview(session, tenant, wanted)
        if not confirmed:
            values = {"said": said, "preview": preview, "wanted": wanted}
            return render(request, visitor, "rollout-preview.html", values)
        with fleet.rollouts.open() as session:
            actor = visitor.caller.actor(request.state.request_id)
            made = fleet.rollouts.create(session, actor, fleet.clock(), wanted)
    except (FleetError, ContractError) as error:
        hint = getattr(error, "hint", "")
        return _form(request, fleet, visitor, said, f"{error}{f'. {hint[:1].upper()}{hint[1:]}' if hint else ''}.")
    return RedirectResponse(f"/ui/rollouts/{made['id']}", 303)


def asked(session: Session, tenant: str, said: dict[str, str]) -> RolloutRequest:
    """Return the rollout that a form asks for.

    Raises:
        InputError: a number that is none, or no bundle.
        MismatchError: numbers that cannot be a plan.
    """
    found = session.get(Bundle, (tenant, said["bundle"])) if said["bundle"] else None
    if found is None:
        raise InputError("choose a bundle that is published")
    numbers: dict[str, Any] = {name: _number(name, said[name], int) for name in NUMBERS}
    numbers |= {name: _number(name, said[name], float) for name in MEASURES}
    shares = [_number("waves", each, int) for each in said["waves"].replace("%", " ").replace(",", " ").split()]
    request = RolloutRequest(
        model=found.model,
        bundle=found.id,
        group=said["group"] or None,
        waves=tuple(Wave(each) for each in shares),
        **numbers,
        approval=bool(said["approval"]),
        supersede=bool(said["supersede"]),
        allow_downgrade=bool(said["allow_downgrade"]),
    )
    request.plan()
    return request


def _number(name: str, text: str, kind: type) -> Any:
    words, wanted = text.strip(), name.replace("_", " ")
    try:
        number = kind(words)
    except ValueError as error:
        raise InputError(f"{wanted}: {words!r:.40} is no number") from error
    if not -MOST <= number <= MOST:  # nor is what compares with nothing
        raise InputError(f"{wanted}: {words!r:.40} is no number from {-MOST} to {MOST}")
    return number


def _form(request: Request, fleet: FleetPart, visitor: Visitor, said: dict[str, str], problem: str) -> Response:
    tenant = visitor.caller.tenant
    with fleet.database.read() as session:
        bundles = session.exec(
            select(Bundle.id, Bundle.model, Bundle.version, Bundle.target)
            .where(Bundle.tenant == tenant, Bundle.state == BundleState.PUBLISHED.value)
            .order_by(col(Bundle.created_ms).desc(), col(Bundle.id))
            .limit(CHOICES)
        ).all()
        listed = groups.list_groups(session, tenant, Page(limit=500))["items"]
    values = {"said": said, "problem": problem, "bundles": bundles, "groups": listed}
    return render(request, visitor, "rollout-new.html", values, 422 if problem else 200)

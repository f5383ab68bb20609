"""What people do on the dashboard: order rollouts. Every form brings its token."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from skerry_fleet import rollout_machine, rollout_rows
from skerry_fleet.apikeys import Role
from skerry_fleet.dashboard import views
from skerry_fleet.dashboard.account_pages import Text
from skerry_fleet.dashboard.pages import PageRoute, render
from skerry_fleet.dashboard.session import SessionGuard, Visitor, check_form
from skerry_fleet.errors import MissingError
from skerry_fleet.paging import Page
from skerry_fleet.rollout_words import Order, Status
from skerry_fleet.routes.common import FleetPart

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Steering = Annotated[Visitor, Depends(SessionGuard(Role.OPERATOR))]

CONSEQUENCES = {
    Order.APPROVE: "The bundle is offered to the canary devices now.",
    Order.PAUSE: "No further device is offered the bundle. Devices that were offered it go on.",
    Order.RESUME: "The rollout goes on where it stopped.",
    Order.ABORT: "No further device is offered the bundle. Devices that have not confirmed it go back to what they "
    "ran before; those that have confirmed it keep it.",
    Order.ROLL_BACK: "Every device that was offered the bundle goes back to what it ran before.",
}


def _order(text: str) -> Order:
    if text not in list(Order):
        raise MissingError(f"no order {text!r:.40}", hint=f"orders: {', '.join(Order)}")
    return Order(text)


@router.get("/ui/rollouts/{rollout}/{order}")
def confirm_order(request: Request, fleet: FleetPart, visitor: Steering, rollout: str, order: str) -> Response:
    """What an order would do, and the button that gives it."""
    wanted = _order(order)
    with fleet.database.read() as session:
        found: dict[str, Any] = views.rollout(session, visitor.caller.tenant, rollout, "", Page(limit=1))
    allowed = Status(found["status"]) in rollout_machine.ALLOWED[wanted]
    values = {"rollout": found, "order": wanted.value, "allowed": allowed, "consequence": CONSEQUENCES[wanted]}
    return render(request, visitor, "order.html", values)


@router.post("/ui/rollouts/{rollout}/{order}")
def give_order(
    request: Request, fleet: FleetPart, visitor: Steering, rollout: str, order: str, token: Text = "", reason: Text = ""
) -> Response:
    """Approve, pause, resume, abort or roll back."""
    check_form(request, token)
    wanted = _order(order)
    with fleet.rollouts.open() as session:
        rollout_rows.get(session, visitor.caller.tenant, rollout)
        actor = visitor.caller.actor(request.state.request_id)
        fleet.rollouts.order(session, actor, fleet.clock(), rollout, wanted, reason.strip())
    return RedirectResponse(f"/ui/rollouts/{rollout}", 303)

"""What people do on the dashboard: sign in and out, order rollouts. Every form brings its token."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from skerry_fleet import apikeys, audit, rollout_machine, rollout_rows
from skerry_fleet.apikeys import Role
from skerry_fleet.auth import fleet_of
from skerry_fleet.dashboard import views
from skerry_fleet.dashboard.pages import PageRoute, render
from skerry_fleet.dashboard.session import (
    COOKIE,
    LASTS_S,
    PATH,
    VISIT,
    SessionGuard,
    Visitor,
    check_form,
    sessions_of,
)
from skerry_fleet.errors import AuthError, MissingError
from skerry_fleet.paging import Page
from skerry_fleet.rollout_words import Order, Status
from skerry_fleet.routes.common import FleetPart

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Anyone = Annotated[Visitor, Depends(SessionGuard(Role.VIEWER))]
Steering = Annotated[Visitor, Depends(SessionGuard(Role.OPERATOR))]
Text = Annotated[str, Form()]

CONSEQUENCES = {
    Order.APPROVE: "The bundle is offered to the canary devices now.",
    Order.PAUSE: "No further device is offered the bundle. Devices that were offered it go on.",
    Order.RESUME: "The rollout goes on where it stopped.",
    Order.ABORT: "No further device is offered the bundle. Devices that have not confirmed it go back to what they "
    "ran before; those that have confirmed it keep it.",
    Order.ROLL_BACK: "Every device that was offered the bundle goes back to what it ran before.",
}


def safe_path(text: str) -> str:
    """Return where to go after signing in: one of our own pages, whatever the address said."""
    inside = text.startswith("/ui/") and "\\" not in text and "//" not in text and text.isprintable()
    return text if inside and len(text) <= 2000 else "/ui/"


def set_cookie(request: Request, response: Response, name: str, value: str, lasts_s: int | None) -> None:
    """Set a cookie that scripts cannot read and other sites cannot send; over TLS only where we are served so."""
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, lasts_s, path=PATH, httponly=True, samesite="strict", secure=secure)


@router.get("/ui/sign-in")
def sign_in_page(request: Request, fleet: FleetPart, next: str = "/ui/") -> Response:
    """The form for an API key."""
    return _sign_in_form(request, safe_path(next), "")


@router.post("/ui/sign-in")
def sign_in(request: Request, fleet: FleetPart, key: Text = "", token: Text = "", next: Text = "/ui/") -> Response:
    """A key in, a session out."""
    sessions_of(request).check_token(request.cookies.get(VISIT, ""), token)
    try:
        with fleet.database.read() as session:
            caller = apikeys.authenticate(session, key.strip())
    except AuthError as error:
        return _sign_in_form(request, safe_path(next), f"{error}. {error.hint[:1].upper()}{error.hint[1:]}.")
    now = fleet.clock()
    with fleet.database.write() as session:
        audit.write(
            session, caller.actor(request.state.request_id), now, "session.begin", f"key/{caller.key}", None, None
        )
    response = RedirectResponse(safe_path(next), 303)
    set_cookie(request, response, COOKIE, sessions_of(request).begin(caller.key, now, fleet.random), LASTS_S)
    response.delete_cookie(VISIT, path=PATH)
    return response


def _sign_in_form(request: Request, back: str, problem: str) -> Response:
    visit = request.cookies.get(VISIT) or fleet_of(request).random(12).hex()
    token = sessions_of(request).token(visit)
    status = 401 if problem else 200
    response = render(request, None, "sign-in.html", {"back": back, "problem": problem, "token": token}, status)
    set_cookie(request, response, VISIT, visit, None)
    return response


@router.post("/ui/sign-out")
def sign_out(request: Request, visitor: Anyone, token: Text = "") -> Response:
    """Forget the session in this browser."""
    check_form(request, token)
    response = RedirectResponse("/ui/sign-in", 303)
    response.delete_cookie(COOKIE, path=PATH)
    return response


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

"""Signing in and out, with a password or an API key, and the page on which people look after their own account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlmodel import Session

from skerry_fleet import apikeys, audit, passwords, users
from skerry_fleet.apikeys import Role
from skerry_fleet.auth import fleet_of
from skerry_fleet.dashboard.pages import PageRoute, render
from skerry_fleet.dashboard.session import (
    COOKIE,
    LASTS_S,
    PATH,
    VISIT,
    Holder,
    SessionGuard,
    Visitor,
    caller_of,
    check_form,
    sessions_of,
)
from skerry_fleet.errors import AuthError, FleetError, ForbiddenError, InputError
from skerry_fleet.routes.common import FleetPart
from skerry_fleet.signin import SignIn
from skerry_fleet.tables import ApiKey
from skerry_fleet.user_tables import User

if TYPE_CHECKING:
    from skerry_fleet.oidc import Provider

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Anyone = Annotated[Visitor, Depends(SessionGuard(Role.VIEWER))]
Text = Annotated[str, Form()]
SIGN_IN = "/ui/sign-in"


def safe_path(text: str) -> str:
    """Return where to go after signing in: one of our own pages, whatever the address said."""
    inside = text.startswith("/ui/") and "\\" not in text and "//" not in text and text.isprintable()
    return text if inside and len(text) <= 2000 else "/ui/"


def set_cookie(request: Request, response: Response, name: str, value: str, lasts_s: int | None) -> None:
    """Set a cookie that scripts cannot read and other sites cannot send; over TLS only where we are served so."""
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, lasts_s, path=PATH, httponly=True, samesite="strict", secure=secure)


@router.get(SIGN_IN)
def sign_in_page(request: Request, fleet: FleetPart, next: str = "/ui/") -> Response:
    """The form for a name and a password, or an API key."""
    return sign_in_form(request, safe_path(next), "")


@router.post(SIGN_IN)
def sign_in(
    request: Request,
    fleet: FleetPart,
    key: Text = "",
    name: Text = "",
    password: Text = "",
    token: Text = "",
    next: Text = "/ui/",
) -> Response:
    """A key, or a name and a password, in; a session out."""
    sessions_of(request).check_token(request.cookies.get(VISIT, ""), token)
    door: SignIn = request.app.state.sign_in
    try:
        if not name:
            with fleet.database.read() as session:
                caller = apikeys.authenticate(session, key.strip())
                row = session.get_one(ApiKey, caller.key)
            return begin(request, safe_path(next), Holder("key", row.id, row.stamp or 0))
        person = door.check(name, password, request.client.host if request.client else "")
    except FleetError as error:
        return sign_in_form(request, safe_path(next), sentences(error), error.status)
    with fleet.database.write() as session:
        door.seen(session, session.get_one(User, person.id), password)
    return begin(request, safe_path(next), Holder("user", person.id, person.stamp))


def sentences(error: FleetError) -> str:
    """Return a refusal as people read it."""
    parts = [part[:1].upper() + part[1:] for part in (str(error), error.hint) if part]
    return " ".join(part if part.endswith("?") else f"{part}." for part in parts)


def begin(request: Request, back: str, holder: Holder) -> Response:
    """Give a browser a session, note it, and go on.

    Raises:
        AuthError: whoever it is was shut out just now.
    """
    fleet = fleet_of(request)
    now = fleet.clock()
    with fleet.database.write() as session:
        caller = caller_of(session, holder)
        actor = caller.actor(request.state.request_id)
        audit.write(session, actor, now, "session.begin", f"{caller.kind}/{caller.key}", None, None)
    response = RedirectResponse(back, 303)
    set_cookie(request, response, COOKIE, sessions_of(request).begin(holder, now, fleet.random), LASTS_S)
    response.delete_cookie(VISIT, path=PATH)
    return response


def sign_in_form(request: Request, back: str, problem: str, status: int = 200) -> Response:
    """Return the page on which one signs in; it says what went wrong."""
    fleet = fleet_of(request)
    visit = request.cookies.get(VISIT) or fleet.random(12).hex()
    with fleet.database.read() as session:
        people = users.exist(session, fleet.config.tenant)
    values = {"back": back, "problem": problem, "token": sessions_of(request).token(visit), "people": people}
    provider: Provider | None = request.app.state.provider
    values["provider"] = "" if provider is None else urlsplit(provider.settings.issuer).hostname
    response = render(request, None, "sign-in.html", values, status)
    set_cookie(request, response, VISIT, visit, None)
    return response


@router.post("/ui/sign-out")
def sign_out(request: Request, visitor: Anyone, token: Text = "") -> Response:
    """Forget the session in this browser."""
    check_form(request, token)
    return _left()


def _left() -> Response:
    response = RedirectResponse(SIGN_IN, 303)
    response.delete_cookie(COOKIE, path=PATH)
    return response


@router.get("/ui/account")
def account(request: Request, fleet: FleetPart, visitor: Anyone) -> Response:
    """Who one is here, another password, and an end of all sessions."""
    return _account(request, visitor, "")


def _account(request: Request, visitor: Visitor, problem: str, status: int = 200) -> Response:
    with fleet_of(request).database.read() as session:
        row = _row(session, visitor)
        values: dict[str, Any] = {"issuer": "", "own_password": False, "created_ms": row.created_ms}
        if isinstance(row, User):
            values |= {"issuer": row.issuer, "own_password": bool(row.password)}
    values |= {"problem": problem, "shortest": passwords.SHORTEST}
    return render(request, visitor, "account.html", values, status)


def _row(session: Session, visitor: Visitor) -> User | ApiKey:
    caller = visitor.caller
    if caller.kind == "user":
        return users.get(session, caller.tenant, caller.key)
    return session.get_one(ApiKey, caller.key)


@router.post("/ui/account/sign-out")
def sign_out_everywhere(request: Request, fleet: FleetPart, visitor: Anyone, token: Text = "") -> Response:
    """End every session of this person or key, in this browser and in all others."""
    check_form(request, token)
    caller, now = visitor.caller, fleet.clock()
    with fleet.database.write() as session:
        users.end_sessions(session, _row(session, visitor))
        actor = caller.actor(request.state.request_id)
        audit.write(session, actor, now, "session.end-all", f"{caller.kind}/{caller.key}", None, None)
    return _left()


@router.post("/ui/account/password")
def change_password(
    request: Request,
    fleet: FleetPart,
    visitor: Anyone,
    token: Text = "",
    old: Text = "",
    new: Text = "",
    again: Text = "",
) -> Response:
    """Give oneself another password; every other session ends."""
    check_form(request, token)
    door: SignIn = request.app.state.sign_in
    caller = visitor.caller
    if caller.kind != "user":
        raise ForbiddenError("an API key has no password", hint="`skerry fleet user create` makes people")
    try:
        if new != again:
            raise InputError("the two new passwords differ")
        door.check(caller.key, old, request.client.host if request.client else "")
    except AuthError:
        return _account(request, visitor, "The present password is wrong.", 403)
    except FleetError as error:
        return _account(request, visitor, f"{error}.", error.status)
    try:
        with fleet.database.write() as session:
            actor = caller.actor(request.state.request_id)
            users.change(session, actor, fleet.clock(), caller.key, password=new)
            person = users.get(session, caller.tenant, caller.key)
            holder = Holder("user", person.id, person.stamp)
    except FleetError as error:
        return _account(request, visitor, f"{error}.", error.status)
    return begin(request, "/ui/account", holder)

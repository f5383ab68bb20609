"""The page on which admins look after people and API keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from skerry_fleet import apikeys, passwords, users
from skerry_fleet.apikeys import Role
from skerry_fleet.auth import fleet_of
from skerry_fleet.dashboard.account_pages import Text, sentences
from skerry_fleet.dashboard.pages import PageRoute, link, render
from skerry_fleet.dashboard.session import SessionGuard, Visitor, check_form
from skerry_fleet.errors import FleetError, MissingError
from skerry_fleet.paging import page
from skerry_fleet.routes.common import FleetPart

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Chief = Annotated[Visitor, Depends(SessionGuard(Role.ADMIN))]
ROWS = "50"
PEOPLE = "/ui/people"


def _shown(
    request: Request,
    visitor: Visitor,
    *,
    after: str = "",
    keys: str = "",
    problem: str = "",
    made: str = "",
    code: int = 200,
) -> Response:
    """Return the page; `made` is the text of a key that was just made, shown this once."""
    tenant = visitor.caller.tenant
    with fleet_of(request).database.read() as session:
        people = users.list_users(session, tenant, page(after, ROWS))
        found = apikeys.list_keys(session, tenant, page(keys, ROWS))
    values: dict[str, Any] = {
        "people": people,
        "found": found,
        "roles": [role.value for role in Role],
        "shortest": passwords.SHORTEST,
        "more_people": link(PEOPLE, after=people["next"], keys=keys),
        "more_keys": link(PEOPLE, after=after, keys=found["next"]),
        "problem": problem,
        "made": made,
    }
    return render(request, visitor, "people.html", values, code)


@router.get(PEOPLE)
def people(
    request: Request, fleet: FleetPart, visitor: Chief, after: str = Query(""), keys: str = Query("")
) -> Response:
    """Who may sign in, and which keys there are."""
    return _shown(request, visitor, after=after, keys=keys)


@router.post(PEOPLE)
def create(
    request: Request,
    fleet: FleetPart,
    visitor: Chief,
    token: Text = "",
    name: Text = "",
    role: Text = "",
    password: Text = "",
) -> Response:
    """Make a person known."""
    check_form(request, token)
    actor = visitor.caller.actor(request.state.request_id)
    try:
        with fleet.database.write() as session:
            fields = {"name": name.strip(), "role": role, "password": password}
            users.create(session, actor, fleet.clock(), fleet.random, **fields)
    except FleetError as error:
        return _shown(request, visitor, problem=sentences(error), code=error.status)
    return RedirectResponse(PEOPLE, 303)


@router.post("/ui/people/{user}/{change}")
def change(
    request: Request,
    fleet: FleetPart,
    visitor: Chief,
    user: str,
    change: str,
    token: Text = "",
    role: Text = "",
    password: Text = "",
) -> Response:
    """Give a person another role or password, shut them out, or let them in again."""
    check_form(request, token)
    wanted: dict[str, dict[str, Any]] = {
        "role": {"role": role},
        "password": {"password": password},
        "disable": {"disabled": True},
        "enable": {"disabled": False},
    }
    if change not in wanted:
        raise MissingError(f"no change {change!r:.40}", hint=f"changes: {', '.join(wanted)}")
    actor = visitor.caller.actor(request.state.request_id)
    try:
        with fleet.database.write() as session:
            users.change(session, actor, fleet.clock(), user, **wanted[change])
    except MissingError:
        raise
    except FleetError as error:
        return _shown(request, visitor, problem=sentences(error), code=error.status)
    return RedirectResponse(PEOPLE, 303)


@router.post("/ui/keys")
def create_key(
    request: Request, fleet: FleetPart, visitor: Chief, token: Text = "", name: Text = "", role: Text = ""
) -> Response:
    """Make an API key; its text is on the page that answers, and nowhere else."""
    check_form(request, token)
    actor = visitor.caller.actor(request.state.request_id)
    try:
        with fleet.database.write() as session:
            _, text = apikeys.create(session, actor, fleet.clock(), fleet.random, name.strip(), role)
    except FleetError as error:
        return _shown(request, visitor, problem=sentences(error), code=error.status)
    return _shown(request, visitor, made=text, code=201)


@router.post("/ui/keys/{key_id}/revoke")
def revoke_key(request: Request, fleet: FleetPart, visitor: Chief, key_id: str, token: Text = "") -> Response:
    """Make a key worthless."""
    check_form(request, token)
    try:
        with fleet.database.write() as session:
            apikeys.revoke(session, visitor.caller.actor(request.state.request_id), fleet.clock(), key_id)
    except MissingError:
        raise
    except FleetError as error:
        return _shown(request, visitor, problem=sentences(error), code=error.status)
    return RedirectResponse(PEOPLE, 303)

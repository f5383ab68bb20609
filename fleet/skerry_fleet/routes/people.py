"""/api/v1: people who sign in."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from skerry_fleet import users
from skerry_fleet.routes.common import Admin, FleetPart, OncePart, PagePart, actor_of, body, reply

router = APIRouter(prefix="/api/v1")


@dataclasses.dataclass(frozen=True, slots=True)
class UserRequest:
    """A new person."""

    name: str
    role: str
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class UserPatch:
    """What changes of a person; what is left out stays."""

    role: str | None = None
    disabled: bool | None = None
    password: str | None = dataclasses.field(default=None, repr=False)


@router.get("/users")
def list_users(fleet: FleetPart, caller: Admin, page: PagePart) -> Response:
    """People by name."""
    with fleet.database.read() as session:
        return reply(users.list_users(session, caller.tenant, page))


@router.post("/users", status_code=201)
def create_user(
    request: Request,
    fleet: FleetPart,
    caller: Admin,
    wanted: Annotated[UserRequest, Depends(body(UserRequest))],
    once: OncePart,
) -> Response:
    """Make a person known; they sign in to the dashboard."""
    now = fleet.clock()
    with fleet.database.write() as session:

        def make() -> dict[str, Any]:
            fields = {"name": wanted.name, "role": wanted.role, "password": wanted.password}
            return users.create(session, actor_of(request, caller), now, fleet.random, **fields)

        return reply(once.do(session, caller, now, make), 201)


@router.patch("/users/{user}")
def change_user(
    request: Request,
    fleet: FleetPart,
    caller: Admin,
    user: str,
    wanted: Annotated[UserPatch, Depends(body(UserPatch))],
) -> Response:
    """Change a person's role or password, or let them in no more; their sessions end."""
    actor, now = actor_of(request, caller), fleet.clock()
    with fleet.database.write() as session:
        changed = users.change(
            session, actor, now, user, role=wanted.role, disabled=wanted.disabled, password=wanted.password
        )
        return reply(changed)


@router.post("/users/{user}/sign-out")
def sign_out_user(request: Request, fleet: FleetPart, caller: Admin, user: str) -> Response:
    """End a person's sessions in every browser."""
    with fleet.database.write() as session:
        return reply(users.sign_out(session, actor_of(request, caller), fleet.clock(), user))

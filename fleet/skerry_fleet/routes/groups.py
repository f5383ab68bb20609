"""/api/v1: groups of devices."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from sqlmodel import Session

from skerry_fleet import group_queries, groups
from skerry_fleet.routes.common import FleetPart, OncePart, Operator, PagePart, SeenPart, Viewer, actor_of, body, reply

router = APIRouter(prefix="/api/v1")


@dataclasses.dataclass(frozen=True, slots=True)
class GroupRequest:
    """A new group; with a query, the fleet chooses its devices."""

    name: str
    description: str = ""
    query: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GroupPatch:
    """What changes of a group; left out, it stays."""

    description: str | None = None
    query: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Members:
    """Devices to put into a group."""

    devices: tuple[str, ...]


@router.get("/groups")
def list_groups(fleet: FleetPart, caller: Viewer, page: PagePart, q: str = "") -> Response:
    """Groups by name."""
    with fleet.database.read() as session:
        return reply(groups.list_groups(session, caller.tenant, page, q))


@router.get("/groups/{group}")
def show_group(fleet: FleetPart, caller: Viewer, group: str) -> Response:
    """One group; its entity tag stands for its members, or its query."""
    with fleet.database.read() as session:
        return _shown(session, caller.tenant, group)


@router.post("/groups", status_code=201)
def create_group(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    wanted: Annotated[GroupRequest, Depends(body(GroupRequest))],
    once: OncePart,
) -> Response:
    """Make a group."""
    actor, now = actor_of(request, caller), fleet.clock()
    with fleet.rollouts.open() as session:

        def make() -> dict[str, Any]:
            made = groups.create(session, actor, now, wanted.name, wanted.description)
            if wanted.query is None:
                return made
            session.flush()
            group_queries.define(session, fleet.rollouts, actor, now, wanted.name, wanted.query)
            members = groups.members_of(session, caller.tenant, wanted.name)
            return groups.show(session, caller.tenant, wanted.name, len(members))

        return reply(once.do(session, caller, now, make), 201)


@router.patch("/groups/{group}")
def edit_group(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    group: str,
    patch: Annotated[GroupPatch, Depends(body(GroupPatch))],
    seen: SeenPart,
) -> Response:
    """Change a group's description or query; an empty group becomes one whose devices the fleet chooses."""
    actor, now = actor_of(request, caller), fleet.clock()
    with fleet.rollouts.open() as session:
        if seen.tags is not None:
            seen.still(_facts(session, caller.tenant, group))
        if patch.description is not None:
            groups.describe(session, actor, now, group, patch.description)
        if patch.query is not None:
            group_queries.define(session, fleet.rollouts, actor, now, group, patch.query)
        session.flush()
        return _shown(session, caller.tenant, group)


@router.post("/groups/{group}/devices")
def add_to_group(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    group: str,
    members: Annotated[Members, Depends(body(Members))],
    seen: SeenPart,
) -> Response:
    """Put devices into a group; they join its rollouts."""
    now = fleet.clock()
    with fleet.rollouts.open() as session:
        if seen.tags is not None:
            seen.still(_facts(session, caller.tenant, group))
        added = groups.add(session, actor_of(request, caller), now, group, members.devices)
        session.flush()
        for device in added:
            fleet.rollouts.joined(session, now, caller.tenant, device)
        group_queries.touch(session, fleet.rollouts, now, caller.tenant, added)
    return reply({"group": group, "added": added})


@router.delete("/groups/{group}/devices/{device}")
def remove_from_group(
    request: Request, fleet: FleetPart, caller: Operator, group: str, device: str, seen: SeenPart
) -> Response:
    """Take a device out of a group; what it runs stays."""
    now = fleet.clock()
    with fleet.rollouts.open() as session:
        if seen.tags is not None:
            seen.still(_facts(session, caller.tenant, group))
        groups.remove(session, actor_of(request, caller), now, group, device)
        group_queries.touch(session, fleet.rollouts, now, caller.tenant, [device])
    return reply({"group": group, "removed": device})


def _facts(session: Session, tenant: str, group: str) -> Any:
    """Return what of a group people change."""
    query = group_queries.of(session, tenant, group)
    return groups.members_of(session, tenant, group) if query is None else {"query": query}


def _shown(session: Session, tenant: str, group: str) -> Response:
    members = groups.members_of(session, tenant, group)
    return reply(groups.show(session, tenant, group, len(members)), facts=_facts(session, tenant, group))

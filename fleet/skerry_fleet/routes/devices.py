"""/api/v1: devices and groups."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from skerry_fleet import carried, carried_update, devices, groups
from skerry_fleet.errors import InputError
from skerry_fleet.routes.common import FleetPart, OncePart, Operator, PagePart, SeenPart, Viewer, actor_of, body, reply

router = APIRouter(prefix="/api/v1")


@dataclasses.dataclass(frozen=True, slots=True)
class DevicePatch:
    """Groups and tags replace what a device has; left out, they stay."""

    groups: tuple[str, ...] | None = None
    tags: dict[str, str] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GroupRequest:
    """A new group."""

    name: str
    description: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Members:
    """Devices to put into a group."""

    devices: tuple[str, ...]


@router.get("/devices")
def list_devices(
    fleet: FleetPart, caller: Viewer, page: PagePart, group: str = "", q: str = "", online: str = ""
) -> Response:
    """Devices by name."""
    wanted = {"": None, "true": True, "false": False}
    if online not in wanted:
        raise InputError("online is true or false")
    with fleet.database.read() as session:
        return reply(devices.list_devices(session, caller.tenant, page, group=group, q=q, online=wanted[online]))


@router.get("/devices/{device}")
def show_device(fleet: FleetPart, caller: Viewer, device: str) -> Response:
    """One device in full."""
    with fleet.database.read() as session:
        return _shown(devices.show(session, caller.tenant, device))


@router.patch("/devices/{device}")
def patch_device(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    device: str,
    patch: Annotated[DevicePatch, Depends(body(DevicePatch))],
    seen: SeenPart,
) -> Response:
    """Change a device's groups or tags; in a new group it joins that group's rollouts."""
    actor, now = actor_of(request, caller), fleet.clock()
    with fleet.rollouts.open() as session:
        seen.still(_changeable(devices.show(session, caller.tenant, device)))
        if patch.tags is not None:
            devices.set_tags(session, actor, now, device, patch.tags)
        if patch.groups is not None and devices.set_groups(session, actor, now, device, list(patch.groups)):
            session.flush()
            fleet.rollouts.joined(session, now, caller.tenant, device)
        session.flush()
        return _shown(devices.show(session, caller.tenant, device))


@router.delete("/devices/{device}")
def decommission_device(request: Request, fleet: FleetPart, caller: Operator, device: str, seen: SeenPart) -> Response:
    """End a device's membership."""
    now = fleet.clock()
    with fleet.rollouts.open() as session:
        seen.still(_changeable(devices.show(session, caller.tenant, device)))
        fleet.rollouts.left(session, now, caller.tenant, device)
        devices.decommission(session, actor_of(request, caller), now, device)
    fleet.shut_out(f"{caller.tenant}/{device}")
    return reply({"device": device, "status": "decommissioned"})


@router.get("/devices/{device}/events")
def device_events(fleet: FleetPart, caller: Viewer, device: str, page: PagePart) -> Response:
    """A device's progress, newest first."""
    with fleet.database.read() as session:
        return reply(devices.events(session, caller.tenant, device, page))


async def _raw(request: Request) -> bytes:
    return await request.body()


@router.post("/carried")
def take_carried(fleet: FleetPart, caller: Operator, part: Annotated[bytes, Depends(_raw)]) -> Response:
    """One part of what a device handed out by file in, the acknowledgement to carry back out."""
    return reply(carried.take_in(fleet, caller.tenant, part))


@router.post("/devices/{device}/update")
def hand_out_update(fleet: FleetPart, caller: Operator, device: str) -> Response:
    """A device's newest assignment with everything it would fetch, as one file."""
    return StreamingResponse(
        carried_update.hand_out(fleet, caller.tenant, device), media_type="application/octet-stream"
    )


@router.get("/groups")
def list_groups(fleet: FleetPart, caller: Viewer, page: PagePart) -> Response:
    """Groups by name."""
    with fleet.database.read() as session:
        return reply(groups.list_groups(session, caller.tenant, page))


@router.get("/groups/{group}")
def show_group(fleet: FleetPart, caller: Viewer, group: str) -> Response:
    """One group; its entity tag stands for its members."""
    with fleet.database.read() as session:
        members = groups.members_of(session, caller.tenant, group)
        return reply(groups.show(session, caller.tenant, group, len(members)), facts=members)


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
    with fleet.database.write() as session:

        def make() -> dict[str, Any]:
            return groups.create(session, actor, now, wanted.name, wanted.description)

        return reply(once.do(session, caller, now, make), 201)


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
            seen.still(groups.members_of(session, caller.tenant, group))
        added = groups.add(session, actor_of(request, caller), now, group, members.devices)
        session.flush()
        for device in added:
            fleet.rollouts.joined(session, now, caller.tenant, device)
    return reply({"group": group, "added": added})


@router.delete("/groups/{group}/devices/{device}")
def remove_from_group(
    request: Request, fleet: FleetPart, caller: Operator, group: str, device: str, seen: SeenPart
) -> Response:
    """Take a device out of a group; what it runs stays."""
    with fleet.database.write() as session:
        if seen.tags is not None:
            seen.still(groups.members_of(session, caller.tenant, group))
        groups.remove(session, actor_of(request, caller), fleet.clock(), group, device)
    return reply({"group": group, "removed": device})


def _changeable(shown: dict[str, Any]) -> Any:
    """Return what of a device people change; the rest is what it says of itself."""
    return {"groups": shown["groups"], "tags": shown["tags"]}


def _shown(shown: dict[str, Any]) -> Response:
    return reply(shown, facts=_changeable(shown))

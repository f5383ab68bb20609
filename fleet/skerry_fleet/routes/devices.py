"""/api/v1: devices."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from skerry_fleet import carried, carried_update, device_list, device_state, devices, group_queries, leaving, tags
from skerry_fleet.errors import InputError
from skerry_fleet.routes.common import Admin, FleetPart, Operator, PagePart, SeenPart, Viewer, actor_of, body, reply

router = APIRouter(prefix="/api/v1")
SHORT = 200
"""A longer page is not made while all others wait."""


@dataclasses.dataclass(frozen=True, slots=True)
class DevicePatch:
    """Groups and tags replace what a device has; left out, they stay."""

    groups: tuple[str, ...] | None = None
    tags: dict[str, str] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TagsRequest:
    """Tags to set and to take away, and whose: exactly one of `devices`, `group` and `query`."""

    set: dict[str, str] | None = None
    remove: tuple[str, ...] | None = None
    devices: tuple[str, ...] | None = None
    group: str | None = None
    query: str | None = None


@router.get("/devices")
async def list_devices(
    fleet: FleetPart, caller: Viewer, page: PagePart, group: str = "", q: str = "", online: str = "", query: str = ""
) -> Response:
    """Devices by name; those that a query means where one is given."""
    wanted = {"": None, "true": True, "false": False}
    if online not in wanted:
        raise InputError("online is true or false")
    asked, now = group_queries.tree(query) if query else None, fleet.clock()
    found = functools.partial(
        device_list.list_devices,
        tenant=caller.tenant,
        page=page,
        group=group,
        q=q,
        online=wanted[online],
        asked=asked,
        now=now,
    )
    return reply(await fleet.database.ask(found, short=page.limit <= SHORT and asked is None))


@router.get("/devices/{device}")
def show_device(fleet: FleetPart, caller: Viewer, device: str) -> Response:
    """One device in full."""
    with fleet.database.read() as session:
        return _shown(devices.show(session, caller.tenant, device))


@router.get("/devices/{device}/state")
def show_state(fleet: FleetPart, caller: Viewer, device: str) -> Response:
    """What a device is to run, what it says it runs, why, and how they differ."""
    with fleet.database.read() as session:
        return reply(device_state.state(session, caller.tenant, device))


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
            tags.replace(session, fleet.rollouts, actor, now, device, patch.tags)
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
        leaving.decommission(session, actor_of(request, caller), now, device)
    fleet.shut_out(f"{caller.tenant}/{device}")
    return reply({"device": device, "status": "decommissioned"})


@router.post("/devices/{device}/revoke")
def revoke_device(request: Request, fleet: FleetPart, caller: Operator, device: str, seen: SeenPart) -> Response:
    """Shut out a device's certificates and its token; it stays a member, and comes back by a claim that names it."""
    with fleet.database.write() as session:
        seen.still(_changeable(devices.show(session, caller.tenant, device)))
        count = leaving.revoke(session, actor_of(request, caller), fleet.clock(), device)
    fleet.shut_out(f"{caller.tenant}/{device}")
    return reply({"device": device, "certificates": count})


@router.get("/decommissioned")
def list_decommissioned(fleet: FleetPart, caller: Viewer, page: PagePart) -> Response:
    """Devices that are members no more and were not deleted, by name."""
    with fleet.database.read() as session:
        return reply(leaving.list_gone(session, caller.tenant, page))


@router.delete("/decommissioned/{device}")
def delete_device(request: Request, fleet: FleetPart, caller: Admin, device: str) -> Response:
    """Delete a decommissioned device with its telemetry; the audit stays."""
    with fleet.database.write() as session:
        return reply(leaving.forget(session, actor_of(request, caller), fleet.clock(), device))


@router.get("/tags")
def list_tags(fleet: FleetPart, caller: Viewer, page: PagePart) -> Response:
    """The tags that devices have, by key."""
    with fleet.database.read() as session:
        return reply(tags.list_keys(session, caller.tenant, page))


@router.post("/tags")
def change_tags(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    wanted: Annotated[TagsRequest, Depends(body(TagsRequest))],
    dry_run: bool = False,
) -> Response:
    """Set and take away tags of many devices: named, of a group, or meant by a query."""
    actor, now = actor_of(request, caller), fleet.clock()
    change = tags.Change(wanted.set or {}, wanted.remove or ())
    with fleet.database.read() as session:
        chosen = tags.chosen(session, caller.tenant, now, wanted.devices, wanted.group, wanted.query)
        changed = tags.change(session, None, actor, now, chosen, change)
    for part in tags.chunks([] if dry_run else changed):
        with fleet.rollouts.open() as session:
            tags.change(session, fleet.rollouts, actor, now, part, change)
    return reply({"devices": len(chosen), "changed": len(changed), "such_as": changed[: tags.SHOWN]})


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


def _changeable(shown: dict[str, Any]) -> Any:
    """Return what of a device people change; the rest is what it says of itself."""
    return {"groups": shown["groups"], "tags": shown["tags"]}


def _shown(shown: dict[str, Any]) -> Response:
    return reply(shown, facts=_changeable(shown))

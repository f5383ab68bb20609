"""Groups of devices: named sets. A device may be in several. People put devices in and take them out, or a query
chooses them (group_queries.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from skerry_contracts import names
from skerry_contracts.errors import MismatchError
from skerry_fleet import audit
from skerry_fleet.audit import Actor
from skerry_fleet.errors import ConflictError, InputError, MissingError
from skerry_fleet.group_tables import GroupQuery
from skerry_fleet.paging import MAX_LETTER, Page, listing
from skerry_fleet.tables import Device, DeviceStatus, Group, GroupMember

_QUERIES = (col(GroupQuery.tenant) == col(Group.tenant)) & (col(GroupQuery.group) == col(Group.name))


def create(session: Session, actor: Actor, now: float, name: str, description: str = "") -> dict[str, Any]:
    """Make an empty group.

    Raises:
        InputError: a name that may not be one.
        ConflictError: there is one of that name.
    """
    try:
        names.name(name, "name")
    except MismatchError as error:
        raise InputError(str(error)) from error
    if session.get(Group, (actor.tenant, name)) is not None:
        raise ConflictError(f"there is a group {name} already")
    row = Group(tenant=actor.tenant, name=name, description=description[:1000], created_ms=int(now * 1000))
    session.add(row)
    audit.write(session, actor, now, "group.create", f"group/{name}", None, {"description": row.description})
    return {"name": name, "description": row.description, "devices": 0, "query": None}


def describe(session: Session, actor: Actor, now: float, name: str, description: str) -> None:
    """Replace a group's description.

    Raises:
        MissingError: no such group.
    """
    row = get(session, actor.tenant, name)
    before, row.description = row.description, description[:1000]
    if before != row.description:
        session.add(row)
        after = {"description": row.description}
        audit.write(session, actor, now, "group.describe", f"group/{name}", {"description": before}, after)


def get(session: Session, tenant: str, name: str) -> Group:
    """Return a group.

    Raises:
        MissingError: no such group.
    """
    row = session.get(Group, (tenant, name))
    if row is None:
        raise MissingError(f"no group {name!r:.80}", hint="`skerry fleet group create` makes one")
    return row


def add(session: Session, actor: Actor, now: float, name: str, devices: Iterable[str]) -> list[str]:
    """Put devices into a group and return those that were not in it.

    Raises:
        MissingError: no such group, or one of the devices is not there; nothing is changed.
        ConflictError: a query chooses the members.
    """
    get(session, actor.tenant, name)
    _by_hand(session, actor.tenant, name)
    added = []
    for device in dict.fromkeys(devices):
        known = session.get(Device, (actor.tenant, device))
        if known is None or known.status != DeviceStatus.ACTIVE:
            raise MissingError(f"no device {device!r:.80}")
        if session.get(GroupMember, (actor.tenant, name, device)) is None:
            session.add(GroupMember(tenant=actor.tenant, group=name, device=device))
            added.append(device)
    if added:
        audit.write(session, actor, now, "group.add", f"group/{name}", None, {"devices": added})
    return added


def remove(session: Session, actor: Actor, now: float, name: str, device: str) -> None:
    """Take a device out of a group.

    Raises:
        MissingError: no such group, or the device is not in it.
        ConflictError: a query chooses the members.
    """
    _by_hand(session, actor.tenant, name)
    row = session.get(GroupMember, (actor.tenant, name, device))
    if row is None:
        raise MissingError(f"device {device!r:.80} is not in group {name!r:.80}")
    session.delete(row)
    audit.write(session, actor, now, "group.remove", f"group/{name}", {"devices": [device]}, None)


def list_groups(session: Session, tenant: str, page: Page, q: str = "") -> dict[str, Any]:
    """Return one page of groups with the number of devices in each; those whose names begin with `q`."""
    counts = (
        select(GroupMember.group, func.count().label("devices"))
        .where(GroupMember.tenant == tenant)
        .group_by(col(GroupMember.group))
        .subquery()
    )
    rows = session.exec(
        select(Group.name, Group.description, func.coalesce(counts.c.devices, 0), GroupQuery.query)
        .join(counts, counts.c.group == Group.name, isouter=True)
        .join(GroupQuery, _QUERIES, isouter=True)
        .where(Group.tenant == tenant, Group.name > page.after, col(Group.name) >= q, col(Group.name) < q + MAX_LETTER)
        .order_by(col(Group.name))
        .limit(page.limit + 1)
    ).all()
    return listing(
        rows,
        page,
        lambda row: {"name": row[0], "description": row[1], "devices": row[2], "query": row[3]},
        lambda row: str(row[0]),
    )


def show(session: Session, tenant: str, name: str, devices: int) -> dict[str, Any]:
    """Return one group as lists show it.

    Raises:
        MissingError: no such group.
    """
    row, chosen = get(session, tenant, name), session.get(GroupQuery, (tenant, name))
    query = None if chosen is None else chosen.query
    return {"name": row.name, "description": row.description, "devices": devices, "query": query}


def members_of(session: Session, tenant: str, group: str) -> list[str]:
    """Return everything that is in a group.

    Raises:
        MissingError: no such group.
    """
    get(session, tenant, group)
    query = select(GroupMember.device).where(GroupMember.tenant == tenant, GroupMember.group == group)
    return list(session.exec(query.order_by(col(GroupMember.device))).all())


def members(session: Session, tenant: str, group: str) -> list[str]:
    """Return the active devices of a group; of the whole fleet where the group is empty text."""
    query = select(Device.name).where(Device.tenant == tenant, Device.status == DeviceStatus.ACTIVE.value)
    if group:
        query = query.join(
            GroupMember,
            (col(GroupMember.tenant) == col(Device.tenant)) & (col(GroupMember.device) == col(Device.name)),
        ).where(GroupMember.group == group)
    return list(session.exec(query.order_by(col(Device.name))).all())


def dynamic(session: Session, tenant: str) -> set[str]:
    """Return the groups whose members a query chooses."""
    return set(session.exec(select(GroupQuery.group).where(GroupQuery.tenant == tenant)))


def _by_hand(session: Session, tenant: str, name: str) -> None:
    """Refuse to change the members that a query chooses."""
    if session.get(GroupQuery, (tenant, name)) is not None:
        raise ConflictError(
            f"a query chooses the devices of group {name}", hint="`skerry fleet group edit --query` changes it"
        )


def groups_of(session: Session, tenant: str, devices: Iterable[str]) -> dict[str, list[str]]:
    """Return the groups of each device."""
    found: dict[str, list[str]] = {device: [] for device in devices}
    # Sorted here: asked for groups in order, SQLite may walk all members in that order.
    rows = session.exec(
        select(GroupMember.device, GroupMember.group).where(
            GroupMember.tenant == tenant, col(GroupMember.device).in_(list(found))
        )
    ).all()
    for device, group in sorted(rows):
        found[device].append(group)
    return found

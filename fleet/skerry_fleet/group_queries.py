"""Dynamic groups: a query chooses the members, and the fleet writes them down as it does those of other groups.

So a dynamic group is whatever a group is to rollouts, shadows, mutes and routes. Members are chosen when the query is
set, when a device enrols or its tags change, and every few seconds for what devices say of themselves. A device that
begins to match joins the group's rollouts as a late one; one that ceases to leaves them only if it was not offered
anything yet: what is under way on a device is brought to its end.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Collection, Iterable, Sequence

import sqlalchemy
from sqlmodel import Session, col, select

from skerry_fleet import audit, groups
from skerry_fleet.audit import Actor
from skerry_fleet.database import Database
from skerry_fleet.errors import InputError
from skerry_fleet.group_tables import GroupQuery
from skerry_fleet.query.reading import read
from skerry_fleet.query.sql import condition
from skerry_fleet.query.words import Comparison, Node, Pattern
from skerry_fleet.rollouts import Rollouts
from skerry_fleet.tables import Device, DeviceState, DeviceStatus, GroupMember

EVERY_S = 5.0
IDLE = 10.0
"""Looking at queries takes at most one part in so many of the time."""
MOST = 500
"""Devices that join or leave in one transaction where rollouts are to be told."""
SHOWN = 20
_CHUNK = 500
SYSTEM = "system:groups"
_JOIN = sqlalchemy.text(
    'INSERT INTO device_group_member (tenant, "group", device) SELECT tenant, :group, name FROM device'
    " WHERE tenant = :tenant AND name = :device AND status = 'active' ON CONFLICT DO NOTHING"
)
_LEAVE = sqlalchemy.text(
    'DELETE FROM device_group_member WHERE tenant = :tenant AND "group" = :group AND device = :device'
)
tree = functools.lru_cache(maxsize=1024)(read)
"""A query's text, read to its tree; see `read`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shift:
    """Who begins to match a group's query, and who ceases to."""

    joins: tuple[str, ...]
    leaves: tuple[str, ...]


def define(session: Session, rollouts: Rollouts, actor: Actor, now: float, group: str, query: str) -> None:
    """Set the query of a group, and choose its members.

    Raises:
        MissingError: no such group.
        InputError: no query, or people have put devices into the group.
    """
    groups.get(session, actor.tenant, group)
    _check(session, actor.tenant, tree(query))
    row = session.get(GroupQuery, (actor.tenant, group))
    if row is None and groups.members_of(session, actor.tenant, group):
        raise InputError(f"group {group} has members that people chose", hint="make another group for the query")
    before = None if row is None else {"query": row.query}
    row = row or GroupQuery(tenant=actor.tenant, group=group, query="", changed_ms=0)
    row.query, row.changed_ms, row.changed_by = query, int(now * 1000), actor.name
    session.add(row)
    audit.write(session, actor, now, "group.query", f"group/{group}", before, {"query": query})
    session.flush()
    apply(session, rollouts, now, actor.tenant, group, shift(session, actor.tenant, group, query, now))


def of(session: Session, tenant: str, group: str) -> str | None:
    """Return a group's query; None where people choose its members."""
    row = session.get(GroupQuery, (tenant, group))
    return None if row is None else row.query


def matching(session: Session, tenant: str, query: str, now: float, among: Collection[str] | None = None) -> list[str]:
    """Return the names of the devices that a query means, of all or of these.

    Raises:
        InputError: no query.
    """
    joined = (col(DeviceState.tenant) == col(Device.tenant)) & (col(DeviceState.name) == col(Device.name))
    wanted = select(Device.name).join(DeviceState, joined)
    wanted = wanted.where(Device.tenant == tenant, Device.status == DeviceStatus.ACTIVE.value)
    wanted = wanted.where(condition(session, tree(query), now))
    if among is None:
        return sorted(session.exec(wanted))
    found: list[str] = []
    listed = sorted(among)
    for at in range(0, len(listed), _CHUNK):
        found += session.exec(wanted.where(col(Device.name).in_(listed[at : at + _CHUNK])))
    return found


def shift(session: Session, tenant: str, group: str, query: str, now: float) -> Shift:
    """Return how a group's members differ from what its query means."""
    wanted = set(matching(session, tenant, query, now))
    members = set(groups.members_of(session, tenant, group))
    return Shift(tuple(sorted(wanted - members)), tuple(sorted(members - wanted)))


def apply(session: Session, rollouts: Rollouts, now: float, tenant: str, group: str, found: Shift) -> None:
    """Let devices in and out of a group; where rollouts must be told, only so many now, and the rest at later looks."""
    covered = rollouts.covers(tenant, group)
    joins, leaves = (found.joins[:MOST], found.leaves[:MOST]) if covered else (found.joins, found.leaves)
    for statement, names in ((_JOIN, joins), (_LEAVE, leaves)):
        if names:
            rows = [{"tenant": tenant, "group": group, "device": name} for name in names]
            session.connection().execute(statement, rows)
    if not joins and not leaves:
        return
    after = {"joined": len(joins), "left": len(leaves), "such_as": [*joins[:SHOWN], *leaves[:SHOWN]]}
    audit.write(session, Actor(tenant, SYSTEM), now, "group.match", f"group/{group}", None, after)
    if covered:
        for name in joins:
            rollouts.joined(session, now, tenant, name)
        rollouts.unmatched(session, now, tenant, group, leaves)


def touch(session: Session, rollouts: Rollouts, now: float, tenant: str, names: Collection[str]) -> None:
    """Look at these devices anew for every dynamic group: they enrolled, or their tags changed."""
    session.flush()
    for row in session.exec(select(GroupQuery).where(GroupQuery.tenant == tenant)).all():
        wanted = set(matching(session, tenant, row.query, now, names))
        listed, members = sorted(names), set[str]()
        for at in range(0, len(listed), _CHUNK):
            inside = select(GroupMember.device).where(GroupMember.tenant == tenant, GroupMember.group == row.group)
            members |= set(session.exec(inside.where(col(GroupMember.device).in_(listed[at : at + _CHUNK]))))
        found = Shift(tuple(sorted(wanted - members)), tuple(sorted(members - wanted)))
        apply(session, rollouts, now, tenant, row.group, found)


class GroupWatch:
    """Looks at every dynamic group now and then, for what devices say of themselves and what time changes."""

    def __init__(self, database: Database, rollouts: Rollouts) -> None:
        self._database = database
        self._rollouts = rollouts
        self._due_s = 0.0

    def tick(self, now: float) -> None:
        """Look, if it is time; only where members change is anybody kept from writing."""
        began_s = time.monotonic()
        if began_s < self._due_s:
            return
        with self._database.read() as session:
            rows = session.exec(select(GroupQuery.tenant, GroupQuery.group, GroupQuery.query)).all()
            shifts = [(*row, shift(session, *row, now)) for row in rows]
        for tenant, group, query, found in shifts:
            if found.joins or found.leaves:
                with self._rollouts.open() as session:
                    if of(session, tenant, group) == query:  # nobody was quicker
                        apply(session, self._rollouts, now, tenant, group, found)
        ended_s = time.monotonic()
        self._due_s = ended_s + max(EVERY_S, IDLE * (ended_s - began_s))


def _check(session: Session, tenant: str, node: Node) -> None:
    """Refuse to name groups that are not there, or are chosen by a query themselves."""
    for name in sorted(set(_groups(node))):
        groups.get(session, tenant, name)
        if of(session, tenant, name) is not None:
            raise InputError(f"group {name} has a query itself", hint="write what it asks into this one")


def _groups(node: Node) -> Iterable[str]:
    if isinstance(node, Comparison):
        named: Sequence[object] = node.values if node.field == "group" else ()
        yield from (value.head for value in named if isinstance(value, Pattern) and value.tail is None)
        return
    for part in node.parts:
        yield from _groups(part)

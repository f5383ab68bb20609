"""Tags: what people know of devices that these do not say of themselves. A few bounded pairs of texts a device."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy
from sqlmodel import Session, col, select

from skerry_contracts.codec import canonical_json
from skerry_fleet import audit, devices, group_queries, groups
from skerry_fleet.audit import Actor
from skerry_fleet.errors import InputError
from skerry_fleet.paging import Page, listing
from skerry_fleet.rollouts import Rollouts
from skerry_fleet.tables import Device, DeviceStatus
from skerry_fleet.tag_rules import MAX_TAGS, check

SHOWN = 20
CHUNK = 1000
"""Devices whose tags change in one transaction."""
_LIST = {
    "sqlite": "SELECT e.key AS key, count(*) AS devices, count(DISTINCT e.value) AS values_ FROM device d,"
    " json_each(d.tags) e WHERE d.tenant = :tenant AND d.status = 'active' AND e.key > :after"
    " GROUP BY e.key ORDER BY e.key LIMIT :most",
    "postgresql": "SELECT e.key AS key, count(*) AS devices, count(DISTINCT e.value) AS values_ FROM device d,"
    " jsonb_each_text(CAST(replace(d.tags, '\\u0000', '\\ufffd') AS jsonb)) e"
    " WHERE d.tenant = :tenant AND d.status = 'active'"
    ' AND e.key COLLATE "C" > :after GROUP BY e.key ORDER BY e.key COLLATE "C" LIMIT :most',
}


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """Tags to set, and keys to take away."""

    put: Mapping[str, str]
    drop: Collection[str] = ()

    def __post_init__(self) -> None:
        check(self.put)
        both = sorted(set(self.put) & set(self.drop))
        if both:
            raise InputError(f"tag {both[0]!r:.70} is to be set and taken away", hint="name it once")

    def to(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return a device's tags after the change.

        Raises:
            InputError: there would be too many.
        """
        after = {key: value for key, value in {**tags, **self.put}.items() if key not in self.drop}
        if len(after) > max(MAX_TAGS, len(tags)):
            raise InputError(f"tags: at most {MAX_TAGS} a device")
        return after


def chosen(
    session: Session, tenant: str, now: float, names: Sequence[str] | None, group: str | None, query: str | None
) -> list[str]:
    """Return the devices that a change of many is about: named, of a group, or meant by a query.

    Raises:
        InputError: not exactly one of these, or no query.
        MissingError: no such group or device.
    """
    if sum(each is not None for each in (names, group, query)) != 1:
        raise InputError("say which devices: by one of devices, group and query")
    if names is not None:
        for name in names:
            devices.get(session, tenant, name)
        return sorted(set(names))
    if query is not None:
        return group_queries.matching(session, tenant, query, now)
    groups.get(session, tenant, group or "")
    return groups.members(session, tenant, group or "")


def change(
    session: Session, rollouts: Rollouts | None, actor: Actor, now: float, names: Sequence[str], wanted: Change
) -> list[str]:
    """Change the tags of devices; return those that changed. Without `rollouts`, say only which would.

    Raises:
        InputError: a device would have too many.
    """
    changed = {}
    for at in range(0, len(names), CHUNK):
        query = select(Device.name, Device.tags).where(Device.tenant == actor.tenant)
        query = query.where(Device.status == DeviceStatus.ACTIVE.value, col(Device.name).in_(names[at : at + CHUNK]))
        for name, text in session.exec(query):
            before = json.loads(text)
            after = wanted.to(before)
            if after != before:
                changed[name] = canonical_json(after).decode()
    if changed and rollouts is not None:
        statement = sqlalchemy.text("UPDATE device SET tags = :tags WHERE tenant = :tenant AND name = :name")
        rows = [{"tenant": actor.tenant, "name": name, "tags": tags} for name, tags in changed.items()]
        session.connection().execute(statement, rows)
        told: dict[str, Any] = {"set": dict(wanted.put), "removed": sorted(wanted.drop)}
        if len(changed) <= SHOWN:
            for name in changed:
                audit.write(session, actor, now, "device.tag", f"device/{name}", None, told)
        else:  # a record each would take longer than all the rest
            audit.write(session, actor, now, "device.tag", "device/many", None, {**told, "devices": sorted(changed)})
        group_queries.touch(session, rollouts, now, actor.tenant, changed)
    return sorted(changed)


def replace(session: Session, rollouts: Rollouts, actor: Actor, now: float, name: str, wanted: dict[str, str]) -> None:
    """Replace all tags of a device.

    Raises:
        MissingError: no such device.
        InputError: tags that may not be.
    """
    before = json.loads(devices.get(session, actor.tenant, name).tags)
    check(wanted, before)
    drop = before.keys() - wanted.keys()
    put = {key: value for key, value in wanted.items() if before.get(key) != value}
    change(session, rollouts, actor, now, [name], Change(put, drop))


def chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Return parts of a long list, each for a transaction of its own."""
    for at in range(0, len(names), CHUNK):
        yield names[at : at + CHUNK]


def list_keys(session: Session, tenant: str, page: Page) -> dict[str, Any]:
    """Return one page of the tags that devices have, with how many have each and how many values it has."""
    statement = sqlalchemy.text(_LIST[session.get_bind().dialect.name])
    values = {"tenant": tenant, "after": page.after, "most": page.limit + 1}
    rows = session.connection().execute(statement, values).fetchall()
    return listing(
        rows, page, lambda row: {"key": row.key, "devices": row.devices, "values": row.values_}, lambda row: row.key
    )

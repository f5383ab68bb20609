"""The list of devices: what people and programs ask for most, and beside ingest. One statement, one row."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import sqlalchemy
from sqlmodel import Session, col, select

from skerry_fleet import groups
from skerry_fleet.paging import Page
from skerry_fleet.query.sql import condition
from skerry_fleet.query.words import Node
from skerry_fleet.sql.as_json import WORDS
from skerry_fleet.tables import Device, DeviceState, DeviceStatus, GroupMember

CONDITIONS = {
    "q": "d.name >= :q AND d.name < :past",  # a range: the primary key serves it
    "online": "s.online = :online",
    "group": 'd.name IN (SELECT device FROM device_group_member WHERE tenant = :tenant AND "group" = :group)',
    "among": "d.name IN :among",
}
"""What a list can be narrowed by."""


def list_devices(
    session: Session,
    tenant: str,
    page: Page,
    *,
    group: str = "",
    q: str = "",
    online: bool | None = None,
    asked: Node | None = None,
    now: float = 0.0,
) -> dict[str, Any]:
    """Return one page of devices by name: those of a group, whose name begins with `q`, that are online or not, that a
    query means.

    Raises:
        MissingError: no such group.
    """
    values: dict[str, Any] = {"tenant": tenant, "after": page.after, "most": page.limit + 1}
    if q:
        values |= {"q": q, "past": q + "\U0010ffff"}
    if online is not None:
        values["online"] = online
    if group:
        groups.get(session, tenant, group)
        values["group"] = group
    if asked is not None:
        values["among"] = _meant(session, asked, now, values)
        if not values["among"]:
            return {"items": [], "next": None}
    connection = session.connection()
    statement = _statement(connection.dialect.name, tuple(name for name in CONDITIONS if name in values))
    found = connection.execute(statement, values).scalar_one()
    rows: list[dict[str, Any]] = found if isinstance(found, list) else msgspec.json.decode(found)
    rows.sort(key=lambda row: str(row["device"]))
    for row in rows:
        row["groups"].sort()
        row["models"].sort(key=lambda each: each["model"])
    shown = rows[: page.limit]
    return {"items": shown, "next": shown[-1]["device"] if len(rows) > page.limit else None}


def _meant(session: Session, asked: Node, now: float, values: dict[str, Any]) -> list[str]:
    """Return the names of this page's devices that a query means, and that nothing else leaves out."""
    joined = (col(DeviceState.tenant) == col(Device.tenant)) & (col(DeviceState.name) == col(Device.name))
    query = select(Device.name).join(DeviceState, joined)
    query = query.where(Device.tenant == values["tenant"], Device.status == DeviceStatus.ACTIVE.value)
    query = query.where(Device.name > values["after"], condition(session, asked, now))
    if "q" in values:
        query = query.where(Device.name >= values["q"], Device.name < values["past"])
    if "online" in values:
        query = query.where(col(DeviceState.online).is_(values["online"]))
    if "group" in values:
        inside = select(GroupMember.device).where(GroupMember.tenant == values["tenant"])
        query = query.where(col(Device.name).in_(inside.where(GroupMember.group == values["group"])))
    return list(session.exec(query.order_by(col(Device.name)).limit(values["most"])).all())


@functools.cache
def _statement(database: str, conditions: tuple[str, ...]) -> sqlalchemy.TextClause:
    words = WORDS[database]
    group = '"group"'
    narrowed = "".join(f" AND {CONDITIONS[each]}" for each in conditions)
    of_device = "tenant = l.tenant AND {} = l.name"
    model = words.object(model="model", version="version", bundle="bundle", state="state")
    device = words.object(
        device="l.name",
        online=words.flag("l.online"),
        silent=words.flag("l.silent"),
        last_seen_ms="l.last_seen_ms",
        profile=words.of("l.hardware", "profile"),
        agent_version=words.of("l.hardware", "agent_version"),
        tags=words.kept("l.tags"),
        groups=f"(SELECT {words.array(group)} FROM device_group_member WHERE {of_device.format('device')})",
        models=f"(SELECT {words.array(model)} FROM device_model WHERE {of_device.format('name')})",
    )
    listed = (
        "SELECT d.tenant, d.name, d.hardware, d.tags, s.online, s.silent, s.last_seen_ms"
        " FROM device d JOIN device_state s ON s.tenant = d.tenant AND s.name = d.name"
        f" WHERE d.tenant = :tenant AND d.status = 'active' AND d.name > :after{narrowed} ORDER BY d.name LIMIT :most"
    )
    statement = sqlalchemy.text(f"SELECT {words.array(device)} FROM ({listed}) l")
    return statement.bindparams(sqlalchemy.bindparam("among", expanding=True)) if "among" in conditions else statement

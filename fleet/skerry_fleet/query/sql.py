"""A device query's tree as a condition on the tables of devices, every value bound.

What a device lacks is equal to nothing: `tag.site!=lab` and `=out=` take devices without the tag, all else leaves them.
"""

from __future__ import annotations

from operator import eq, ge, gt, le, lt
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Numeric, and_, cast, exists, false, func, not_, or_
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Session, col, select

from skerry_fleet.group_tables import GroupQuery
from skerry_fleet.placement import DeviceShard
from skerry_fleet.query.words import Comparison, Every, Moment, Node, Pattern, Value
from skerry_fleet.tables import Bundle, Device, DeviceModel, DeviceState, GroupMember

Condition = ColumnElement[bool]
Column = Any
"""A column, or an expression in its place: SQLModel and SQLAlchemy name its type differently."""
_ORDER = {"<": lt, "<=": le, ">": gt, ">=": ge}
_NUMBERS = {"cores", "memory_bytes"}
_MODELS = {"model": DeviceModel.version, "bundle": DeviceModel.bundle, "state": DeviceModel.state}
_COLUMNS: dict[str, Any] = {
    "name": Device.name,
    "claim": Device.claim,
    "enrolled": Device.created_ms,
    "online": DeviceState.online,
    "silent": DeviceState.silent,
    "last_seen": DeviceState.last_seen_ms,
}


def condition(session: Session, node: Node, now: float) -> Condition:
    """Return the condition, over `Device` joined with its `DeviceState`, for the session's database."""
    return _Maker(session.get_bind().dialect.name == "postgresql", now).make(node)


class _Maker:
    """Makes conditions for one kind of database."""

    def __init__(self, postgres: bool, now: float) -> None:
        self._postgres = postgres
        self._now = now

    def make(self, node: Node) -> Condition:
        """Return a node's condition."""
        if isinstance(node, Comparison):
            holds = or_(*(self._holds(node, value) for value in node.values))
            return not_(holds) if node.operator in ("!=", "=out=") else holds
        parts = [self.make(part) for part in node.parts]
        return and_(*parts) if isinstance(node, Every) else or_(*parts)

    def _holds(self, node: Comparison, value: Value) -> Condition:
        """Return whether a field compares with one value; false, never null, where the device has none."""
        if node.field == "feature":
            return self._listed("cpu_features", value)
        if node.field == "group":
            mine = (col(GroupMember.tenant) == Device.tenant) & (col(GroupMember.device) == Device.name)
            known = (col(GroupQuery.tenant) == GroupMember.tenant) & (col(GroupQuery.group) == GroupMember.group)
            put = ~exists(select(GroupQuery.group).where(known))  # a query over queries would go round
            return exists(select(GroupMember.group).where(mine, put, _matches(col(GroupMember.group), value)))
        if node.field in _MODELS or node.field == "release":
            return self._of_model(node, value)
        return func.coalesce(self._compares(self._column(node), node.operator, value), false())

    def _column(self, node: Comparison) -> Column:
        if node.field in _COLUMNS:
            return col(_COLUMNS[node.field])
        if node.field == "lost":
            return col(DeviceState.lost_ms) > 0
        if node.field == "shard":
            mine = (col(DeviceShard.tenant) == Device.tenant) & (col(DeviceShard.device) == Device.name)
            return cast(func.coalesce(select(DeviceShard.shard).where(mine).scalar_subquery(), 0), BigInteger)
        if node.field == "tag":
            return self._text(col(Device.tags), node.key)
        path = ("engines", node.key) if node.field == "engine" else (node.field,)
        found = self._text(col(Device.hardware), *path)
        # A device may say any number, beyond 64 bits as well.
        return cast(found, Numeric) if node.field in _NUMBERS and self._postgres else found

    def _text(self, column: Column, *path: str) -> Column:
        """Return the text at a path of names inside a column of JSON; null where there is none."""
        if self._postgres:
            return func.jsonb_extract_path_text(cast(_safe(column), JSONB), *path)
        # What a query names was checked when it was read (reading.KEY): no name holds a quote.
        return func.json_extract(_safe(column), "$" + "".join(f'."{name}"' for name in path))

    def _listed(self, name: str, value: Value) -> Condition:
        """Return whether a list of texts in the device's hardware has one that is meant."""
        rows: Any
        if self._postgres:
            rows = func.jsonb_array_elements_text(cast(_safe(col(Device.hardware)), JSONB)[name]).table_valued("value")
        else:
            rows = func.json_each(_safe(col(Device.hardware)), f"$.{name}").table_valued("value")
        return exists(select(rows.c.value).where(_matches(rows.c.value, value)))

    def _of_model(self, node: Comparison, value: Value) -> Condition:
        mine = (col(DeviceModel.tenant) == Device.tenant) & (col(DeviceModel.name) == Device.name)
        query = select(DeviceModel.name).where(mine, DeviceModel.model == node.key)
        if node.field == "release":
            runs = (col(Bundle.tenant) == DeviceModel.tenant) & (col(Bundle.id) == DeviceModel.bundle)
            query = query.join(Bundle, runs).where(self._compares(col(Bundle.release), node.operator, value))
        else:
            query = query.where(_matches(col(_MODELS[node.field]), value))
        return exists(query)

    def _compares(self, column: Column, operator: str, value: Value) -> Condition:
        if isinstance(value, Pattern):
            return _matches(column, value)
        number = value.at_ms(self._now) if isinstance(value, Moment) else value
        found: Condition = column.is_(number) if isinstance(value, bool) else _ORDER.get(operator, eq)(column, number)
        return found


def _safe(column: Column) -> Column:
    """Return JSON in which no text holds a NUL: a device may have sent one, and databases break on it."""
    return func.replace(column, "\\u0000", "\\ufffd")


def _matches(column: Column, value: Value) -> Condition:
    """Return whether a text is meant: letter by letter on every database (`LIKE` is not, on SQLite)."""
    if not isinstance(value, Pattern):
        raise TypeError(f"{value!r} is no text")
    head, middle, tail = value.head, value.middle, value.tail
    parts: list[Condition] = [column == head if tail is None else column.is_not(None)]
    if head and tail is not None:
        parts.append((column >= head) & (func.substr(column, 1, len(head)) == head))  # the first serves an index
    if middle:
        parts.append(func.replace(column, middle, "") != column)
    if tail:
        long_enough = func.length(column) >= len(head) + len(tail)
        parts.append(long_enough & (func.substr(column, func.length(column) - len(tail) + 1) == tail))
    return and_(*parts)

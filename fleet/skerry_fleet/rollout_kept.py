"""The rows of a rollout's devices, written by thousands: making an object of each would cost more than all the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy
from sqlmodel import Session

from skerry_fleet.rollout_words import Member, Place, rank
from skerry_fleet.sql import bulk
from skerry_fleet.sql.changes import Insert


@dataclasses.dataclass(slots=True)
class Kept:
    """What a device's row holds besides its place: where the device goes back to, its health before the offer (JSON of
    ModelHealth), and its last word.
    """

    previous: str | None = None
    baseline: str = ""
    phase: str = ""
    reason: str = ""
    detail: str = ""


_COLUMNS = ("tenant", "rollout", "device", "model", "active", "place", "attempts", "floor", "since_ms", "due_ms")
_KEPT = Kept.__slots__
_ROW = Insert(
    "rollout_device",
    (*_COLUMNS, *_KEPT),
    "ON CONFLICT (tenant, rollout, device) DO UPDATE SET"
    f" {', '.join(f'{name} = excluded.{name}' for name in (*_COLUMNS[5:], *_KEPT))}",
)


_READ = sqlalchemy.text(
    "SELECT d.device, d.place, d.attempts, d.floor, d.since_ms, d.due_ms, s.online,"
    f" {', '.join(f'd.{name}' for name in _KEPT)} FROM rollout_device d"
    " LEFT JOIN device_state s ON s.tenant = d.tenant AND s.name = d.device"
    " WHERE d.tenant = :tenant AND d.rollout = :rollout AND d.active"
)


def read(session: Session, tenant: str, rollout: str) -> Iterator[tuple[Member, Kept]]:
    """Yield where each device stands in a rollout, and what is kept of it."""
    rows = session.connection().execute(_READ, {"tenant": tenant, "rollout": rollout}).fetchall()
    for device, place, attempts, floor, since_ms, due_ms, online, *told in rows:
        kept = Kept(*told)
        due = None if due_ms is None else due_ms / 1000
        member = Member(
            device, rank(rollout, device), Place(place), bool(online), attempts, floor, since_ms / 1000, due
        )
        member.reason = kept.reason
        yield member, kept


def write(session: Session, row: dict[str, Any], members: Iterable[tuple[Member, Kept]]) -> None:
    """Write where devices stand in a rollout (`row`: its tenant, name and model), and what is kept of them."""
    rows = []
    for member, kept in members:
        kept.reason = member.reason or kept.reason
        place = {"device": member.device, "active": True, "place": member.place.value, "attempts": member.attempts}
        due_ms = None if member.due is None else int(member.due * 1000)
        place |= {"floor": member.floor, "since_ms": int(member.since * 1000), "due_ms": due_ms}
        rows.append({**row, **place, **{name: getattr(kept, name) for name in _KEPT}})
    if rows:
        session.flush()
        bulk.many(session, _ROW, rows)

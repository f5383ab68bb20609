"""Routes and mutes: who is told of what, and what is not told for a while. A target is never shown again."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete
from sqlmodel import Session, col, select

from skerry_contracts import names
from skerry_contracts.codec import canonical_json
from skerry_contracts.errors import MismatchError
from skerry_fleet import audit, groups, webhooks
from skerry_fleet.alert_words import RANK, Kind, Severity
from skerry_fleet.audit import Actor
from skerry_fleet.config import RandomBytes
from skerry_fleet.errors import ConflictError, InputError, MissingError
from skerry_fleet.incident_tables import Mute, Notice, Route
from skerry_fleet.notices import WAITING
from skerry_fleet.paging import MAX_INT64, NOTHING, Page, beginning, listing, narrowed
from skerry_fleet.vault import seal_route

MAX_LEVEL = 9
MAX_MUTE_S = 366 * 86_400.0
TEST = "test"


def create(
    session: Session,
    actor: Actor,
    now: float,
    random: RandomBytes,
    *,
    name: str,
    target: str,
    kinds: Sequence[str] = (),
    severity: str = Severity.WARNING,
    group: str = "",
    level: int = 0,
) -> dict[str, Any]:
    """Make a route whose target `webhooks.check` has passed; of a webhook the signing secret is returned, once.

    Raises:
        InputError: a name, kind, severity or level that is none.
        MissingError: no such group.
        ConflictError: there is a route of that name.
    """
    try:
        names.name(name, "name")
    except MismatchError as error:
        raise InputError(str(error)) from error
    for kind in kinds:
        check_kind(kind)
    if severity not in RANK:
        raise InputError(f"severity {severity!r:.40} is none of {', '.join(Severity)}")
    if not 0 <= level <= MAX_LEVEL:
        raise InputError(f"level {level} is none from 0 to {MAX_LEVEL}", hint="0 hears at once")
    if group:
        groups.get(session, actor.tenant, group)
    if session.get(Route, (actor.tenant, name)) is not None:
        raise ConflictError(f"there is a route {name} already", hint="delete it first")
    secret = webhooks.SECRET_PREFIX + base64.b64encode(random(32)).decode() if webhooks.is_webhook(target) else ""
    row = Route(
        tenant=actor.tenant,
        name=name,
        target=target,
        secret=secret,
        kinds=" ".join(dict.fromkeys(kinds)),
        severity=severity,
        group=group,
        level=level,
        created_ms=int(now * 1000),
        created_by=actor.name,
    )
    seal_route(session, row)
    session.add(row)
    audit.write(session, actor, now, "route.create", f"route/{name}", None, view(row))
    return {**view(row), "signing_secret": secret}


def remove(session: Session, actor: Actor, now: float, name: str) -> dict[str, Any]:
    """Delete a route, and what still waits for it.

    Raises:
        MissingError: no such route.
    """
    row = get(session, actor.tenant, name)
    waiting = (Notice.tenant == actor.tenant, Notice.route == name, Notice.status == WAITING)
    session.exec(delete(Notice).where(*waiting))  # type: ignore[arg-type]  # SQLModel's columns
    session.delete(row)
    audit.write(session, actor, now, "route.delete", f"route/{name}", view(row), None)
    return view(row)


def get(session: Session, tenant: str, name: str) -> Route:
    """Return a route.

    Raises:
        MissingError: no such route.
    """
    row = session.get(Route, (tenant, name))
    if row is None:
        raise MissingError(f"no route {name!r:.80}", hint="`skerry fleet route list` shows what there is")
    return row


def list_routes(session: Session, tenant: str, page: Page, q: str = "") -> dict[str, Any]:
    """Return one page of routes by name, targets cut short; those that begin with `q`."""
    query = select(Route).where(Route.tenant == tenant, Route.name > page.after).order_by(col(Route.name))
    query = beginning(query, col(Route.name), q)
    return listing(session.exec(query.limit(page.limit + 1)).all(), page, view, lambda row: row.name)


def list_notices(session: Session, tenant: str, page: Page, only: Mapping[str, str] = NOTHING) -> dict[str, Any]:
    """Return one page of messages, newest first: what was told to whom, and what waits and why."""
    query = narrowed(select(Notice).where(Notice.tenant == tenant), Notice, only)
    if page.after_id is not None:
        query = query.where(col(Notice.id) < page.after_id)
    rows = session.exec(query.order_by(col(Notice.id).desc()).limit(page.limit + 1)).all()
    return listing(rows, page, lambda row: row.model_dump(exclude={"tenant", "body"}), lambda row: row.id)


def view(row: Route) -> dict[str, Any]:
    """Return a route as it may be shown."""
    shown = row.model_dump(exclude={"tenant", "secret", "target", "shown"})
    return {**shown, "kinds": row.kinds.split(), "target": row.shown or ""}


def test_event(tenant: str, name: str, now: float, random: RandomBytes) -> tuple[str, str, str]:
    """Return a message that only tries a route: id, title, body."""
    title = f"[test] route {name} of {tenant}: this is only a test"
    event = f"{tenant}/{TEST}/{random(8).hex()}"
    body = {
        "specversion": "1.0",
        "id": event,
        "source": f"/skerry/fleet/{tenant}",
        "type": "skerry.test",
        "subject": f"route/{name}",
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
        "datacontenttype": "application/json",
        "data": {"title": title, "first_alerts": []},
    }
    return event, title, canonical_json(body).decode()


def mute(
    session: Session, actor: Actor, now: float, *, kind: str, group: str, hours: float, reason: str
) -> dict[str, Any]:
    """Tell nobody of a kind (empty: any) about devices of a group (empty: all) for some hours.

    Raises:
        InputError: no such kind, or hours that are none.
        MissingError: no such group.
    """
    if kind:
        check_kind(kind)
    if group:
        groups.get(session, actor.tenant, group)
    if not (math.isfinite(hours) and 0 < hours * 3600 <= MAX_MUTE_S):
        raise InputError("hours must be greater than 0 and at most a year")
    now_ms = int(now * 1000)
    row = Mute(
        tenant=actor.tenant,
        kind=kind,
        group=group,
        reason=reason[:500],
        until_ms=now_ms + int(hours * 3_600_000),
        created_ms=now_ms,
        created_by=actor.name,
    )
    session.add(row)
    session.flush()
    audit.write(session, actor, now, "mute.create", f"mute/{row.id}", None, mute_view(row))
    return mute_view(row)


def unmute(session: Session, actor: Actor, now: float, number: str) -> dict[str, Any]:
    """End a mute now.

    Raises:
        MissingError: no such mute, or it is over.
    """
    known = number.isascii() and number.isdigit() and len(number) < 20 and int(number) <= MAX_INT64
    row = session.get(Mute, int(number)) if known else None
    if row is None or row.tenant != actor.tenant or row.until_ms <= int(now * 1000):
        raise MissingError(f"no mute {number!r:.40}", hint="`skerry fleet mute list` shows what there is")
    before, row.until_ms = {"until_ms": row.until_ms}, int(now * 1000)
    session.add(row)
    audit.write(session, actor, now, "mute.end", f"mute/{row.id}", before, {"until_ms": row.until_ms})
    return mute_view(row)


def list_mutes(session: Session, tenant: str, now: float, page: Page) -> dict[str, Any]:
    """Return one page of the mutes that hold, newest first."""
    query = select(Mute).where(Mute.tenant == tenant, Mute.until_ms > int(now * 1000))
    if page.after_id is not None:
        query = query.where(col(Mute.id) < page.after_id)
    rows = session.exec(query.order_by(col(Mute.id).desc()).limit(page.limit + 1)).all()
    return listing(rows, page, mute_view, lambda row: row.id)


def mute_view(row: Mute) -> dict[str, Any]:
    """Return a mute as the API shows it."""
    return row.model_dump(exclude={"tenant"})


def check_kind(kind: str) -> None:
    """Refuse a kind that is none.

    Raises:
        InputError: it is none.
    """
    if kind not in list(Kind):
        raise InputError(f"kind {kind!r:.40} is none of {', '.join(Kind)}")

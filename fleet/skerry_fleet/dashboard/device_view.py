"""The page of one device: its health, its history, and the answer to "why does it run this?"."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from skerry_fleet import devices
from skerry_fleet.paging import Page
from skerry_fleet.tables import Bundle, Rollout, RolloutDevice


def device(session: Session, tenant: str, name: str, page: Page) -> dict[str, Any]:
    """Return everything the page shows.

    Raises:
        MissingError: no such device.
        InputError: not a cursor.
    """
    found = devices.show(session, tenant, name)
    running = {each["model"]: each for each in found["models"]}
    beat = found["heartbeat"]
    return {
        **found,
        "adopted": beat["sequence"] if beat else None,
        "why": [_why(session, tenant, name, wanted, running.get(wanted["model"])) for wanted in found["desired"]],
        "history": devices.events(session, tenant, name, page),
    }


def _why(
    session: Session, tenant: str, device: str, wanted: dict[str, Any], running: dict[str, Any] | None
) -> dict[str, Any]:
    """Return one model's chain: who asked, what was decided for this device, and what it does."""
    rollout = session.get(Rollout, (tenant, wanted["rollout"]))
    place = session.get(RolloutDevice, (tenant, wanted["rollout"], device))
    bundle, confirmed = (_bundle(session, tenant, wanted[which]) for which in ("bundle", "confirmed"))
    return {
        "model": wanted["model"],
        "bundle": bundle,
        "confirmed": confirmed,
        "back": wanted["allow_downgrade"],
        "rollout": None if rollout is None else rollout.model_dump(exclude={"plan", "options", "counts"}),
        "place": None if place is None else place.model_dump(exclude={"baseline"}),
        "running": running,
        "agrees": running is not None and running["bundle"] == wanted["bundle"],
    }


def _bundle(session: Session, tenant: str, bundle: str | None) -> dict[str, Any] | None:
    row = session.get(Bundle, (tenant, bundle)) if bundle else None
    return None if row is None else {"id": row.id, "version": row.version, "release": row.release, "target": row.target}

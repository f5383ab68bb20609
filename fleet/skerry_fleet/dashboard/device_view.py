"""The page of one device: its health, its history, and the answer to "why does it run this?"."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, select

from skerry_fleet import device_state, devices
from skerry_fleet.alert_words import AlertState
from skerry_fleet.paging import Page
from skerry_fleet.records import Alert

ALERTS = 10


def device(session: Session, tenant: str, name: str, page: Page) -> dict[str, Any]:
    """Return everything the page shows.

    Raises:
        MissingError: no such device.
        InputError: not a cursor.
    """
    found = devices.show(session, tenant, name)
    seen = device_state.state(session, tenant, name)
    return {
        **found,
        "adopted": seen["adopted"],
        "why": [
            {**each, "bundle": each["desired"], "running": each["reported"]}
            for each in seen["models"]
            if each["difference"] != device_state.Difference.NOT_DESIRED
        ],
        "history": devices.events(session, tenant, name, page),
        "alerts": _alerts(session, tenant, name),
    }


def _alerts(session: Session, tenant: str, name: str) -> list[dict[str, Any]]:
    """Return what of a device, or of its models, is not resolved, the newest first."""
    of_device = (col(Alert.subject) == name) | col(Alert.subject).startswith(f"{name}/", autoescape=True)
    query = select(Alert).where(Alert.tenant == tenant, Alert.state != AlertState.RESOLVED.value, of_device)
    rows = session.exec(query.order_by(col(Alert.id).desc()).limit(ALERTS))
    return [row.model_dump(include={"kind", "severity", "state", "text", "last_ms"}) for row in rows]

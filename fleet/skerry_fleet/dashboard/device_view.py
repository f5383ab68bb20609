"""The page of one device: its health, its history, and the answer to "why does it run this?"."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from skerry_fleet import device_state, devices
from skerry_fleet.paging import Page


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
    }

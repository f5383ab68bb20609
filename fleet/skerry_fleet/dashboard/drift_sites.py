"""Where a model drifts: its devices by the tag `site`, those that see drift in their own stream, and their samples."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import sqlalchemy
from sqlmodel import Session

from skerry_fleet import device_drift
from skerry_fleet.dashboard.sites import SITE
from skerry_fleet.sql.as_json import WORDS

LASTS_S = 5.0
SITES, NAMED = 50, 3
LOOK_BACK = 5000
"""Samples, and heartbeats with alarms, that are looked through: a page must not read a whole table."""


@dataclasses.dataclass(slots=True)
class Place:
    """One site. `drifting` are the names of its devices that see drift of the model now, the first few of `alarms`."""

    name: str
    devices: int = 0
    samples: int = 0
    seen_ms: int = 0
    alarms: int = 0
    drifting: list[str] = dataclasses.field(default_factory=list)


def by_site(session: Session, tenant: str, model: str, newest: int) -> dict[str, Any]:
    """Return the sites where a model runs or ran, those with most alarms first, then those with most samples.

    `newest` is the number of the newest sample there is; the model's samples among the last `LOOK_BACK` are counted.
    """
    connection = session.connection()
    running, sent, alarming = _statements(connection.dialect.name)
    values = {"tenant": tenant, "model": model}
    places: dict[str, Place] = {}
    for name, devices, seen_ms in connection.execute(running, values):
        places[name] = Place(name, devices, seen_ms=int(seen_ms or 0))
    for name, count in connection.execute(sent, {**values, "since": newest - LOOK_BACK}):
        places.setdefault(name, Place(name)).samples = count
    alarms = connection.execute(alarming, {"tenant": tenant, "most": LOOK_BACK + 1}).fetchall()
    for name, device, heartbeat in alarms[:LOOK_BACK]:
        if any(told == model for told, _ in device_drift.named(heartbeat)):
            place = places.setdefault(name, Place(name))
            place.alarms += 1
            if len(place.drifting) < NAMED:
                place.drifting.append(device)
    found = sorted(places.values(), key=lambda each: (-each.alarms, -each.samples, -each.devices, each.name))
    return {
        "sites": found[:SITES],
        "more": max(0, len(found) - SITES),
        "named": any(each.name for each in found),
        "more_alarms": len(alarms) > LOOK_BACK,
    }


def at_site(database: str, site: str) -> sqlalchemy.TextClause:
    """Return the condition that a row of the table `device` has this site."""
    return sqlalchemy.text(f"{WORDS[database].of('device.tags', SITE)} = :site").bindparams(site=site)


@functools.lru_cache(maxsize=4)
def _statements(database: str) -> tuple[sqlalchemy.TextClause, ...]:
    site = WORDS[database].of("d.tags", SITE)
    running = (
        f"SELECT {site}, count(*), max(s.last_seen_ms) FROM device_model m"
        " JOIN device d ON d.tenant = m.tenant AND d.name = m.name AND d.status = 'active'"
        " JOIN device_state s ON s.tenant = m.tenant AND s.name = m.name"
        " WHERE m.tenant = :tenant AND m.model = :model GROUP BY 1"
    )
    sent = (
        f"SELECT {site}, count(*) FROM sample x JOIN device d ON d.tenant = x.tenant AND d.name = x.device"
        " WHERE x.tenant = :tenant AND x.id > :since AND x.model = :model GROUP BY 1"
    )
    alarming = (
        f"SELECT {site}, s.name, {device_drift.DRIFTING} FROM device_state s"
        " JOIN device d ON d.tenant = s.tenant AND d.name = s.name AND d.status = 'active'"
        f" WHERE s.tenant = :tenant AND {device_drift.DRIFTING} <> '' ORDER BY s.name LIMIT :most"
    )
    return sqlalchemy.text(running), sqlalchemy.text(sent), sqlalchemy.text(alarming)

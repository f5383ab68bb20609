"""Devices by where they are, or by any other tag: how many, how they are, what they run; and where that is on a map."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import sqlalchemy
from sqlmodel import Session

from skerry_fleet.errors import InputError
from skerry_fleet.query.reading import KEY
from skerry_fleet.sql.as_json import WORDS

SITES = 500
"""More values than this are counted together: such a tag names devices, not places."""
SITE = "site"
LASTS_S = 5.0
VERSIONS = 3
_PLAIN = re.compile(r"[A-Za-z0-9 ._/-]+")
_NORTH, _SOUTH = 84.0, -57.0
"""What the map shows: all coasts with people on them."""
MAP_WIDTH, MAP_HEIGHT = 720, 282
_SMALLEST, _LARGEST = 4.0, 14.0


def by_tag(session: Session, tenant: str, tag: str) -> dict[str, Any]:
    """Return the sites that a tag names, by name, those without it last; and a place on the map for each that has one.

    Raises:
        InputError: a tag that cannot be one.
    """
    if not KEY.fullmatch(tag):
        raise InputError(f"tag {tag!r:.40} cannot be one", hint="such as site")
    connection = session.connection()
    counts, versions, alerts = _statements(connection.dialect.name, tag)
    values = {"tenant": tenant}
    found: dict[str, dict[str, Any]] = {}
    more = 0
    for name, devices, online, silent, latitude, longitude in connection.execute(counts, values).fetchall():
        if len(found) >= SITES and name:
            more += 1
            continue
        place = _place(latitude, longitude)
        site = {"name": name, "devices": devices, "online": int(online or 0), "silent": int(silent or 0)}
        query = f"tag.{tag}=='{name}'" if _PLAIN.fullmatch(name) else ""
        found[name] = {**site, "alerts": 0, "versions": [], "more_versions": 0, "place": place, "query": query}
    for name, model, version, devices in connection.execute(versions, values).fetchall():
        if name in found:
            found[name]["versions"].append({"model": model, "version": version, "devices": devices})
    for name, open_alerts in connection.execute(alerts, values).fetchall():
        if name in found:
            found[name]["alerts"] = open_alerts
    without = found.pop("", None)
    for site in found.values():
        site["versions"].sort(key=lambda each: -each["devices"])
        site["more_versions"] = max(0, len(site["versions"]) - VERSIONS)
        del site["versions"][VERSIONS:]
    sites = [found[name] for name in sorted(found)]
    return {"tag": tag, "sites": sites, "without": without, "more": more, "spots": _spots(sites)}


@functools.lru_cache(maxsize=64)
def _statements(database: str, tag: str) -> tuple[sqlalchemy.TextClause, ...]:
    words = WORDS[database]
    site, latitude, longitude = (words.of("d.tags", name) for name in (tag, "latitude", "longitude"))
    mine = "d.tenant = :tenant AND d.status = 'active'"
    counts = (
        f"SELECT {site}, count(*), sum(CASE WHEN s.online THEN 1 ELSE 0 END),"
        f" sum(CASE WHEN s.silent THEN 1 ELSE 0 END), max({latitude}), max({longitude}) FROM device d"
        f" JOIN device_state s ON s.tenant = d.tenant AND s.name = d.name WHERE {mine} GROUP BY 1 ORDER BY 1"
    )
    versions = (
        f"SELECT {site}, m.model, m.version, count(*) FROM device d"
        f" JOIN device_model m ON m.tenant = d.tenant AND m.name = d.name WHERE {mine} GROUP BY 1, 2, 3"
    )
    alerts = (
        f"SELECT {site}, count(*) FROM alert a JOIN device d ON d.tenant = a.tenant AND d.name = a.subject"
        f" WHERE a.state = 'open' AND {mine} GROUP BY 1"
    )
    return sqlalchemy.text(counts), sqlalchemy.text(versions), sqlalchemy.text(alerts)


def _place(latitude: str, longitude: str) -> tuple[float, float] | None:
    """Return latitude and longitude in degrees; None where the tags say none."""
    try:
        north, east = float(latitude), float(longitude)
    except ValueError:
        return None
    inside = math.isfinite(north) and math.isfinite(east) and abs(north) <= 90 and abs(east) <= 180
    return (north, east) if inside else None


def _spots(sites: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a circle for each site with a place, its area by its devices, the largest first so that none is hidden."""
    placed = [site for site in sites if site["place"] is not None]
    most = max((site["devices"] for site in placed), default=1)
    found = []
    for site in sorted(placed, key=lambda each: -each["devices"]):
        north, east = site["place"]
        share = site["online"] / site["devices"]
        tone = "bad" if share < 0.5 else "warn" if share < 0.9 or site["silent"] or site["alerts"] else "good"
        found.append(
            {
                "x": round(2 * (east + 180), 1),
                "y": round(2 * (_NORTH - min(_NORTH, max(_SOUTH, north))), 1),
                "r": round(max(_SMALLEST, _LARGEST * math.sqrt(site["devices"] / most)), 1),
                "tone": tone,
                "site": site,
            }
        )
    return found

"""Outages: many devices of a broker shard lost within moments, or a broker itself. Each is one alert and one incident.

Everything that is counted is asked of the database (`device_state.lost_ms`, written by ingest from wills), so that a
restart in the middle neither forgets an outage nor tells of it twice. An outage begins when at least `devices` and
`share` of the shard's devices were lost within `WINDOW_S` and are still away, and ends when fewer than half as many
are: or an hour after the last loss, for whoever never comes back is told of as silent by then.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import sqlalchemy
from sqlmodel import Session, col, select

from skerry_fleet import alerts, incidents
from skerry_fleet.alert_words import AlertState, Kind
from skerry_fleet.records import Alert

WINDOW_S = 30.0
LONGEST_S = 3600.0
COUNTED_S = 30.0
"""How long the number of a shard's devices stays true enough."""
PATIENCE = 4.0
"""So many times as long as a count took, ingest waits with the next one: the tick counts in any case."""

_LOST = sqlalchemy.text(
    "SELECT s.tenant, COALESCE(p.shard, 0) AS shard, count(*) AS devices, max(s.lost_ms) AS newest_ms"
    " FROM device_state s LEFT JOIN device_shard p ON p.tenant = s.tenant AND p.device = s.name"
    " WHERE s.lost_ms > :since_ms AND s.lost_ms > 0 GROUP BY s.tenant, COALESCE(p.shard, 0)"
)
_ONLINE = sqlalchemy.text(
    "SELECT s.tenant, COALESCE(p.shard, 0) AS shard, count(*) AS devices"
    " FROM device_state s LEFT JOIN device_shard p ON p.tenant = s.tenant AND p.device = s.name"
    " WHERE s.online GROUP BY s.tenant, COALESCE(p.shard, 0)"
)
Place = tuple[str, int]
"""A tenant and a shard."""


@dataclasses.dataclass(frozen=True, slots=True)
class OutageLimits:
    """When an outage begins: so many devices, that share of a shard's (0 devices: never), or a broker gone so long (0:
    never).
    """

    devices: int = 20
    share: float = 0.1
    broker_s: float = 5.0


class Outages:
    """Looks for outages, in the writer's transaction. In memory is only what can be counted again."""

    def __init__(self, limits: OutageLimits) -> None:
        self._limits = limits
        self._population: tuple[float, dict[Place, int]] = (0.0, {})
        self._not_before_s = 0.0
        self._gone: dict[int, float] = {}

    def lost(self, session: Session, now: float) -> None:
        """Look at once, because wills have come in; a look that would cost ingest too much is left to the tick."""
        began_s = time.monotonic()
        if began_s >= self._not_before_s:
            self.look(session, now)
            ended_s = time.monotonic()
            self._not_before_s = ended_s + PATIENCE * (ended_s - began_s)

    def look(self, session: Session, now: float) -> None:
        """Begin outages, bring the counts of those that stand up to date, and end them."""
        if not self._limits.devices:
            return
        session.flush()
        rows = _standing(session, Kind.MASS_OFFLINE)
        standing = {(each.tenant, int(each.subject.partition("/")[2])): each for each in rows}
        recent = _counts(session, now - WINDOW_S)
        together: dict[int, int] = {}
        for place, alert in standing.items():
            away, newest_ms = _counts(session, alert.first_ms / 1000 - WINDOW_S).get(place, (0, 0))
            _note(session, now, alert, place, away)
            together[alert.incident or 0] = together.get(alert.incident or 0, 0) + away
            few = 2 * away < self._least(session, now, place, recent)
            if few or max(newest_ms, alert.first_ms) < (now - LONGEST_S) * 1000:
                alerts.resolve(session, place[0], now, Kind.MASS_OFFLINE, alert.subject)
        for place, (away, _) in sorted(recent.items()):
            if place not in standing and away >= self._least(session, now, place, recent):
                (tenant, shard), of = place, scope(place[1])
                text = _text(shard, away, away)
                alert = alerts.raise_alert(session, tenant, now, Kind.MASS_OFFLINE, of, text, scope=of)
                alert.count = away
                together[alert.incident or 0] = together.get(alert.incident or 0, 0) + away
        for incident, devices in together.items():
            incidents.count(session, incident, devices)

    def brokers(self, session: Session, tenant: str, now: float, reached: Sequence[bool]) -> None:
        """Take in which shards' brokers the fleet is connected to."""
        known = {alert.subject for alert in _standing(session, Kind.BROKER_LOST) if alert.tenant == tenant}
        for shard, there in enumerate(reached):
            of = scope(shard)
            if there:
                self._gone.pop(shard, None)
                if of in known:
                    alerts.resolve(session, tenant, now, Kind.BROKER_LOST, of)
            elif now - self._gone.setdefault(shard, now) >= self._limits.broker_s > 0 and of not in known:
                text = f"the fleet has no connection to the broker of shard {shard}: nothing of its devices is heard"
                alerts.raise_alert(session, tenant, now, Kind.BROKER_LOST, of, text, scope=of)

    def _least(self, session: Session, now: float, place: Place, recent: dict[Place, tuple[int, int]]) -> float:
        """Return how many lost devices of a shard are an outage."""
        counted_s, devices = self._population
        if now - counted_s > COUNTED_S or now < counted_s:
            devices = {(row.tenant, row.shard): row.devices for row in session.connection().execute(_ONLINE)}
            for key, (away, _) in recent.items():
                devices[key] = devices.get(key, 0) + away
            self._population = (now, devices)
        return max(self._limits.devices, self._limits.share * devices.get(place, 0))


def scope(shard: int) -> str:
    """Return what incidents of a shard are about, and the subject of its outages.

    >>> scope(2)
    'shard/2'
    """
    return f"shard/{shard}"


def _standing(session: Session, kind: Kind) -> Sequence[Alert]:
    query = select(Alert).where(Alert.kind == kind.value, Alert.state != AlertState.RESOLVED.value)
    return session.exec(query.order_by(col(Alert.id))).all()


def _counts(session: Session, since: float) -> dict[Place, tuple[int, int]]:
    """Return how many devices of each shard were lost since and are away, and when the last of them was."""
    rows = session.connection().execute(_LOST, {"since_ms": int(since * 1000)})
    return {(row.tenant, row.shard): (row.devices, row.newest_ms) for row in rows}


def _note(session: Session, now: float, alert: Alert, place: Place, away: int) -> None:
    most = max(alert.count, away)
    text = _text(place[1], most, away)
    if alert.text != text:
        alert.text, alert.count, alert.last_ms = text, most, max(alert.last_ms, int(now * 1000))
        session.add(alert)


def _text(shard: int, most: int, away: int) -> str:
    devices = "1 device" if most == 1 else f"{most} devices"
    return f"{devices} of broker shard {shard} lost their connections within moments; away now: {away}"

"""Drift that devices see in their own streams, as one alert a model: however many devices say so, and how often.

A heartbeat names the alarms that stand. What was not in the device's heartbeat before counts once; the alert closes
when no device names the model any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy
from sqlmodel import Session

from skerry_contracts.device import Drift, Heartbeat
from skerry_contracts.errors import ContractError
from skerry_fleet import alerts, reading
from skerry_fleet.alerts import Kind
from skerry_fleet.ingest import Incoming
from skerry_fleet.tables import Bundle

DRIFTING = "(CASE WHEN s.heartbeat LIKE '%\"drift\"%' THEN s.heartbeat ELSE '' END)"
"""SQL: the newest heartbeat of device_state `s`, where it may name an alarm."""

_ANYWHERE = f"SELECT {DRIFTING} AS heartbeat FROM device_state s WHERE s.tenant = :tenant AND {DRIFTING} <> ''"


def observe(session: Session, beats: Iterable[Incoming], before: Mapping[tuple[str, str], str]) -> None:
    """Take in heartbeats that are newer than any before, in their order and written already.

    `before` maps (tenant, device) to the JSON of its heartbeat until now; it may be empty where that names no alarm.
    """
    known = {key: named(heartbeat) for key, heartbeat in before.items()}
    gone: dict[tuple[str, str], float] = {}
    for beat in beats:
        key, now = (beat.tenant, beat.device), beat.received_ms / 1000
        record: Heartbeat = beat.record
        told = {(each.model, each.source): each for each in record.drift or ()}
        for name in told.keys() - known.get(key, frozenset()):
            _raise(session, beat.tenant, beat.device, now, told[name])
        for model, _ in known.get(key, frozenset()) - told.keys():
            gone[beat.tenant, model] = now
        known[key] = frozenset(told)
    standing = {tenant: _standing(session, tenant) for tenant in {tenant for tenant, _ in gone}}
    for (tenant, model), now in sorted(gone.items()):
        if model not in standing[tenant]:
            alerts.resolve(session, tenant, now, Kind.DEVICE_DRIFT, _subject(model))


def named(heartbeat: str) -> frozenset[tuple[str, str]]:
    """Return (model, source) of the alarms that a heartbeat's JSON names."""
    try:
        record = reading.decode(Heartbeat, heartbeat.encode()) if heartbeat else None
    except ContractError:  # written by another version
        return frozenset()
    return frozenset((each.model, each.source) for each in (record.drift if record else None) or ())


def _raise(session: Session, tenant: str, device: str, now: float, drift: Drift) -> None:
    bundle = session.get(Bundle, (tenant, drift.bundle))
    if bundle is None or bundle.model != drift.model:
        return  # a device cannot fill the list with models that nobody published
    moved = f"from {drift.before:.4g} to {drift.after:.4g} over its last {drift.predictions} predictions"
    text = f"{device}: the mean of {drift.source:.80} went {moved}"
    alerts.raise_alert(session, tenant, now, Kind.DEVICE_DRIFT, _subject(drift.model), text, scope=drift.model)


def _standing(session: Session, tenant: str) -> set[str]:
    rows = session.connection().execute(sqlalchemy.text(_ANYWHERE), {"tenant": tenant})
    return {model for row in rows for model, _ in named(row.heartbeat)}


def _subject(model: str) -> str:
    return f"{model}/on-device"

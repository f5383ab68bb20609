"""Committed telemetry: one batch, one transaction, plain SQL (an ORM here costs ninety times as much).

Only one writer exists (`Database.write`), so what is read at the start of the transaction still holds at its end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import sqlalchemy
from sqlmodel import Session

from skerry_contracts.assignment import Receipt
from skerry_contracts.codec import encode
from skerry_contracts.device import Heartbeat, Presence, Progress
from skerry_contracts.shadow import ShadowReport
from skerry_fleet import device_drift, presence
from skerry_fleet.database import Database, announce
from skerry_fleet.ingest import Batch, Incoming, Written, made
from skerry_fleet.presence import Seen

Key = tuple[str, str]
Known = tuple[Seen, tuple[str, int], str]
"""Presence of a device, (boot id, seq) of its newest heartbeat, and that heartbeat where it may name drift."""
_CHUNK = 500


def _insert(table: str, columns: str, conflict: str) -> str:
    names = columns.split()
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)}) {conflict}"


_ONCE = "ON CONFLICT (tenant, device, boot_id, seq) DO NOTHING"
_NUMBER = "tenant device boot_id seq received_ms model"
_INSERT = {
    "progress": _insert(
        "progress", f"{_NUMBER} rollout bundle sequence phase reason detail received_bytes total_bytes", _ONCE
    ),
    "sample": _insert("sample", f"{_NUMBER} record", _ONCE),
    "sketch": _insert("sketch", f"{_NUMBER} record", _ONCE),
    "shadow": _insert(
        "shadow_report", f"{_NUMBER} shadow against chosen compared disagreed dropped failed cpu_s record", _ONCE
    ),
    "receipt": _insert("receipt", f"{_NUMBER} bundle variant record", _ONCE),
}
_SHADOW = (
    "UPDATE shadow_device SET state = :state, reason = :reason, detail = :detail, told_boot = :boot_id,"
    " told_seq = :seq, told_ms = :received_ms WHERE tenant = :tenant AND shadow = :shadow AND device = :device"
    " AND state NOT IN ('failed', 'ended')"
    " AND (told_boot < :boot_id OR (told_boot = :boot_id AND told_seq < :seq))"
)
_STATE = (
    "UPDATE device_state SET boot_id = :boot_id, session = :session, online = :online, silent = :silent,"
    " last_seen_ms = :last_seen_ms WHERE tenant = :tenant AND name = :name"
)
_BEAT = (
    "UPDATE device_state SET heartbeat_boot = :boot_id, heartbeat_seq = :seq, heartbeat = :heartbeat"
    " WHERE tenant = :tenant AND name = :name"
)
_REPLACED = "version bundle variant state latency_p50_ms latency_p95_ms rss_bytes mean_confidence updated_ms"
_ADDED = "predictions errors restarts"
_MODEL = _insert(
    "device_model",
    f"tenant name model {_REPLACED} {_ADDED}",
    "ON CONFLICT (tenant, name, model) DO UPDATE SET "
    + ", ".join(
        [f"{name} = excluded.{name}" for name in _REPLACED.split()]
        + [f"{name} = device_model.{name} + excluded.{name}" for name in _ADDED.split()]
    ),
)
_GONE = "DELETE FROM device_model WHERE tenant = :tenant AND name = :name AND updated_ms < :updated_ms"
_HARDWARE = "UPDATE device SET hardware = :hardware WHERE tenant = :tenant AND name = :name AND hardware <> :hardware"
_DEAD = _insert("dead_letter", "tenant device topic reason payload size_bytes received_ms", "")
_TRIM = "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - :keep"
_KNOWN = (
    "SELECT device.tenant, device.name, s.boot_id, s.session, s.online, s.silent, s.last_seen_ms, s.heartbeat_boot,"
    f" s.heartbeat_seq, {device_drift.DRIFTING} AS drifting"
    " FROM device JOIN device_state s ON s.tenant = device.tenant AND s.name = device.name"
    " WHERE device.status = 'active' AND device.tenant = :tenant AND device.name IN :names"
)


class SqlIngestStore:
    """The store that the fleet manager runs on. Dead letters without a tenant are kept under `tenant`."""

    def __init__(self, database: Database, dead_letters: int, tenant: str) -> None:
        self._database = database
        self._dead_letters = dead_letters
        self._tenant = tenant

    def write(self, batch: Batch) -> Written:
        """Keep a batch; see `IngestStore`."""
        with self._database.write() as session:
            known = _known(session, batch.messages)
            unknown = frozenset((each.tenant, each.device) for each in batch.messages) - set(known)
            messages = [each for each in batch.messages if (each.tenant, each.device) in known]
            for channel, statement in _INSERT.items():
                rows = [_row(each) for each in messages if each.channel == channel]
                _many(session, statement, rows)
            _many(session, _SHADOW, [_shadow_state(each) for each in messages if each.channel == "shadow"])
            beats = _beats(session, messages, known)
            device_drift.observe(session, beats, {key: drifting for key, (_, _, drifting) in known.items()})
            turned = _presence(session, messages, known)
            self._bury(session, batch, unknown)
        return Written(unknown, tuple(beats), tuple(turned))

    def _bury(self, session: Session, batch: Batch, unknown: Iterable[Key]) -> None:
        strange = set(unknown)
        rows = [
            {
                "tenant": dead.tenant or self._tenant,
                "device": dead.device,
                "topic": dead.topic,
                "reason": dead.reason,
                "payload": dead.payload,
                "size_bytes": dead.size_bytes,
                "received_ms": dead.received_ms,
            }
            for dead in batch.dead
        ]
        rows += [
            {
                "tenant": each.tenant,
                "device": each.device,
                "topic": each.channel,
                "reason": "no such device, or decommissioned",
                "payload": each.payload[:256],
                "size_bytes": len(each.payload),
                "received_ms": each.received_ms,
            }
            for each in batch.messages
            if (each.tenant, each.device) in strange
        ]
        if rows:
            _many(session, _DEAD, rows)
            _many(session, _TRIM, [{"keep": self._dead_letters}])


def _known(session: Session, messages: Iterable[Incoming]) -> dict[Key, Known]:
    """Return presence and newest heartbeat of every active device among the senders."""
    wanted: dict[str, set[str]] = {}
    for each in messages:
        wanted.setdefault(each.tenant, set()).add(each.device)
    statement = sqlalchemy.text(_KNOWN).bindparams(sqlalchemy.bindparam("names", expanding=True))
    found = {}
    for tenant, devices in wanted.items():
        listed = sorted(devices)
        for at in range(0, len(listed), _CHUNK):
            for row in session.connection().execute(statement, {"tenant": tenant, "names": listed[at : at + _CHUNK]}):
                seen = Seen(row.boot_id, row.session, bool(row.online), bool(row.silent), row.last_seen_ms)
                newest = (str(row.heartbeat_boot), int(row.heartbeat_seq))
                found[row.tenant, row.name] = (seen, newest, row.drifting)
    return found


def _row(message: Incoming) -> dict[str, Any]:
    record = message.record
    row = {
        "tenant": message.tenant,
        "device": message.device,
        "boot_id": message.boot_id,
        "seq": message.seq,
        "received_ms": message.received_ms,
        "model": record.model,
    }
    if isinstance(record, Progress):
        told = ("rollout", "bundle", "sequence", "detail", "received_bytes", "total_bytes")
        row.update({name: getattr(record, name) for name in told})
        row.update(phase=record.phase.value, reason=record.reason.value)
        return row
    if isinstance(record, Receipt):
        row.update(bundle=record.bundle, variant=record.variant)
    if isinstance(record, ShadowReport):
        fields = ("shadow", "against", "chosen", "compared", "disagreed", "dropped", "failed", "cpu_s")
        row.update({name: getattr(record, name) for name in fields})
    row["record"] = message.payload.decode()
    return row


def _shadow_state(message: Incoming) -> dict[str, Any]:
    """Return how a shadow fares: an older word changes nothing, nor does any after the last."""
    record: ShadowReport = message.record
    row = {name: getattr(message, name) for name in ("tenant", "device", "boot_id", "seq", "received_ms")}
    said = {"shadow": record.shadow, "state": record.state.value, "reason": record.reason.value}
    return {**row, **said, "detail": record.detail[:500]}


def _beats(session: Session, messages: list[Incoming], known: dict[Key, Known]) -> list[Incoming]:
    """Write what is new in the heartbeats; return them in the order they were made."""
    newest: dict[Key, Incoming] = {}
    fresh = []
    for each in sorted((each for each in messages if isinstance(each.record, Heartbeat)), key=made):
        key = (each.tenant, each.device)
        if made(each) > (made(newest[key]) if key in newest else known[key][1]):
            newest[key] = each
            fresh.append(each)
    last = list(newest.values())
    _many(session, _MODEL, [row for each in fresh for row in _model_rows(each)])
    _many(
        session,
        _BEAT,
        [
            {**_name(each), "boot_id": each.boot_id, "seq": each.seq, "heartbeat": each.payload.decode()}
            for each in last
        ],
    )
    _many(session, _GONE, [{**_name(each), "updated_ms": each.received_ms} for each in last])
    with_hardware = [each for each in last if each.record.hardware is not None]
    _many(
        session,
        _HARDWARE,
        [{**_name(each), "hardware": encode(each.record.hardware).decode()} for each in with_hardware],
    )
    return fresh


def _model_rows(message: Incoming) -> list[dict[str, Any]]:
    heartbeat: Heartbeat = message.record
    return [
        {
            **_name(message),
            "model": each.model,
            "version": each.version,
            "bundle": each.bundle,
            "variant": each.variant,
            "state": each.state.value,
            "predictions": each.predictions,
            "errors": each.errors,
            "restarts": each.restarts,
            "latency_p50_ms": each.latency_p50_ms,
            "latency_p95_ms": each.latency_p95_ms,
            "rss_bytes": each.rss_bytes,
            "mean_confidence": each.mean_confidence,
            "updated_ms": message.received_ms,
        }
        for each in heartbeat.models
    ]


def _presence(session: Session, messages: list[Incoming], known: dict[Key, Known]) -> list[tuple[str, str, bool]]:
    """Write who was heard, in the order of arrival; return devices that went online or offline."""
    now: dict[Key, Seen] = {}
    for each in messages:
        if each.carried:
            continue
        key = (each.tenant, each.device)
        seen = now.get(key, known[key][0])
        if isinstance(each.record, Presence):
            now[key] = presence.said(seen, each.record, each.received_ms)
        elif isinstance(each.record, Heartbeat):
            now[key] = presence.beat(seen, each.record, each.received_ms)
        else:
            now[key] = presence.heard(seen, each.received_ms)
    rows, turned = [], []
    for (tenant, device), seen in now.items():
        before = known[tenant, device][0]
        if seen == before:
            continue
        rows.append({"tenant": tenant, "name": device, **dataclasses.asdict(seen)})
        if before.silent and not seen.silent:
            presence.returned(session, tenant, device, seen.last_seen_ms / 1000)
        if before.online is not seen.online:
            turned.append((tenant, device, seen.online))
            announce(session, tenant, "device", device=device, change="online" if seen.online else "offline")
    _many(session, _STATE, rows)
    return turned


def _name(message: Incoming) -> dict[str, Any]:
    return {"tenant": message.tenant, "name": message.device}


def _many(session: Session, statement: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        session.connection().execute(sqlalchemy.text(statement), rows)

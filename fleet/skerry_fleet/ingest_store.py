"""Committed telemetry: one batch, one transaction, rows by the thousand (an ORM here costs ninety times as much).

Only one writer exists (`Database.write`), so what is read at the start of the transaction still holds at its end.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy
from sqlmodel import Session

from skerry_contracts.assignment import Receipt
from skerry_contracts.codec import encode
from skerry_contracts.device import Heartbeat, Presence, Progress
from skerry_contracts.shadow import ShadowReport
from skerry_fleet import device_drift, measurements, presence, rollups
from skerry_fleet.database import Database, announce
from skerry_fleet.ingest import Batch, Incoming, Written, made
from skerry_fleet.outages import Outages
from skerry_fleet.presence import Seen
from skerry_fleet.sql import bulk
from skerry_fleet.sql.changes import Change, Delete, Insert, Row, Update

Key = tuple[str, str]
Many = Callable[[Change, Sequence[Row]], None]
"""Makes a change for many rows, in the batch's transaction."""
Known = tuple[Seen, tuple[str, int], str]
"""Presence of a device, (boot id, seq) of its newest heartbeat, and that heartbeat where it may name drift."""
_SEEN = tuple(field.name for field in dataclasses.fields(Seen))


_ONCE = "ON CONFLICT (tenant, device, boot_id, seq) DO NOTHING"


def _feed(table: str, columns: str) -> Insert:
    """Return how new rows of a feed are kept: a message that came before changes nothing."""
    return Insert(table, ("tenant", "device", "boot_id", "seq", "received_ms", "model", *columns.split()), _ONCE)


_FEEDS = {
    "progress": _feed("progress", "rollout bundle sequence phase reason detail received_bytes total_bytes"),
    "sample": _feed("sample", "record"),
    "sketch": _feed("sketch", "record"),
    "shadow": _feed("shadow_report", "shadow against chosen compared disagreed dropped failed cpu_s record"),
    "receipt": _feed("receipt", "bundle variant record"),
}
# One statement after the other: each depends on what the one before it left of the same row.
_SHADOW = (
    "UPDATE shadow_device SET state = :state, reason = :reason, detail = :detail, told_boot = :boot_id,"
    " told_seq = :seq, told_ms = :received_ms WHERE tenant = :tenant AND shadow = :shadow AND device = :device"
    " AND state NOT IN ('failed', 'ended')"
    " AND (told_boot < :boot_id OR (told_boot = :boot_id AND told_seq < :seq))"
)
_DEVICE = ("tenant", "name")
_BEAT = ("heartbeat_boot", "heartbeat_seq", "heartbeat")
_STATES = {True: Update("device_state", _DEVICE, (*_SEEN, *_BEAT)), False: Update("device_state", _DEVICE, _SEEN)}
_REPLACED = (
    *("version", "bundle", "variant", "state"),
    *("latency_p50_ms", "latency_p95_ms", "rss_bytes", "mean_confidence", "updated_ms"),
)
_ADDED = ("predictions", "errors", "restarts")
_MODEL = Insert(
    "device_model",
    (*_DEVICE, "model", *_REPLACED, *_ADDED),
    "ON CONFLICT (tenant, name, model) DO UPDATE SET "
    + ", ".join(
        [f"{name} = excluded.{name}" for name in _REPLACED]
        + [f"{name} = device_model.{name} + excluded.{name}" for name in _ADDED]
    ),
)
_GONE = Delete("device_model", _DEVICE, ("updated_ms",), "device_model.updated_ms < :updated_ms")
_HARDWARE = Update("device", _DEVICE, ("hardware",), "device.hardware <> :hardware")
_DEAD = Insert("dead_letter", ("tenant", "device", "topic", "reason", "payload", "size_bytes", "received_ms"))
_TRIM = "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - :keep"
_KNOWN = (
    "SELECT device.name, s.boot_id, s.session, s.online, s.silent, s.last_seen_ms, s.lost_ms,"
    f" s.heartbeat_boot, s.heartbeat_seq, {device_drift.DRIFTING} AS drifting"
    " FROM device JOIN device_state s ON s.tenant = device.tenant AND s.name = device.name"
    " WHERE device.status = 'active' AND device.tenant = :tenant AND device.name {among}"
)


class SqlIngestStore:
    """The store that the fleet manager runs on. Dead letters without a tenant are kept under `tenant`. `outages` looks
    at once when connections are lost.
    """

    def __init__(self, database: Database, dead_letters: int, tenant: str, outages: Outages | None = None) -> None:
        self._database = database
        self._dead_letters = dead_letters
        self._tenant = tenant
        self._outages = outages

    def write(self, batch: Batch) -> Written:
        """Keep a batch; see `IngestStore`."""
        with self._database.write() as session:
            known = _known(session, batch.messages)
            unknown = frozenset((each.tenant, each.device) for each in batch.messages) - set(known)
            messages = [each for each in batch.messages if (each.tenant, each.device) in known]
            many = functools.partial(bulk.many, session)
            for channel, change in _FEEDS.items():
                many(change, [_row(each) for each in messages if each.channel == channel])
            shadows = [_shadow_state(each) for each in messages if each.channel == "shadow"]
            if shadows:
                session.connection().execute(sqlalchemy.text(_SHADOW), shadows)
            if measured := [each for each in messages if each.channel == "measured"]:
                measurements.keep(session, measured)
            beats, last = _fresh(messages, known)
            seen, turned = _presence(session, messages, known)
            _states(many, seen, last)
            _models(many, beats, last)
            rollups.beats(many, beats)
            device_drift.observe(session, beats, {key: drifting for key, (_, _, drifting) in known.items() if drifting})
            if self._outages is not None and any(not online for _, _, online in turned):
                self._outages.lost(session, max(each.received_ms for each in messages) / 1000)
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
            bulk.many(session, _DEAD, rows)
            session.connection().execute(sqlalchemy.text(_TRIM), {"keep": self._dead_letters})


def _known(session: Session, messages: Iterable[Incoming]) -> dict[Key, Known]:
    """Return presence and newest heartbeat of every active device among the senders."""
    wanted: dict[str, set[str]] = {}
    for each in messages:
        wanted.setdefault(each.tenant, set()).add(each.device)
    found = {}
    for tenant, devices in wanted.items():
        rows = bulk.among(session, _KNOWN, devices, tenant=tenant)
        for name, boot_id, number, on, silent, seen_ms, lost_ms, boot, seq, drifting in rows:
            seen = Seen(boot_id, number, bool(on), bool(silent), seen_ms, lost_ms)
            found[tenant, name] = (seen, (boot, seq), drifting)
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


def _fresh(messages: list[Incoming], known: dict[Key, Known]) -> tuple[list[Incoming], dict[Key, Incoming]]:
    """Return the heartbeats that are newer than any before, in the order they were made, and each device's last."""
    newest: dict[Key, Incoming] = {}
    fresh = []
    for each in sorted((each for each in messages if isinstance(each.record, Heartbeat)), key=made):
        key = (each.tenant, each.device)
        if made(each) > (made(newest[key]) if key in newest else known[key][1]):
            newest[key] = each
            fresh.append(each)
    return fresh, newest


def _states(many: Many, seen: dict[Key, Seen], last: dict[Key, Incoming]) -> None:
    """Write each device's presence and newest heartbeat: one row, changed once."""
    rows: dict[bool, list[Row]] = {True: [], False: []}
    for (tenant, device), now in seen.items():
        row: Row = {"tenant": tenant, "name": device, **{name: getattr(now, name) for name in _SEEN}}
        beat = last.get((tenant, device))
        if beat is not None:
            row |= {"heartbeat_boot": beat.boot_id, "heartbeat_seq": beat.seq, "heartbeat": beat.payload.decode()}
        rows[beat is not None].append(row)
    for with_beat, change in _STATES.items():
        many(change, rows[with_beat])


def _models(many: Many, fresh: list[Incoming], newest: dict[Key, Incoming]) -> None:
    """Write what devices run."""
    last = list(newest.values())
    many(_MODEL, _merged(row for each in fresh for row in _model_rows(each)))
    many(_GONE, [{**_name(each), "updated_ms": each.received_ms} for each in last])
    with_hardware = [each for each in last if each.record.hardware is not None]
    many(_HARDWARE, [{**_name(each), "hardware": encode(each.record.hardware).decode()} for each in with_hardware])


def _merged(rows: Iterable[Row]) -> list[Row]:
    """Return one row for each model of a device: the last one's words, and counts added up."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        key = (row["tenant"], row["name"], row["model"])
        before = found.get(key)
        found[key] = row if before is None else {**row, **{name: before[name] + row[name] for name in _ADDED}}
    return list(found.values())


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


def _presence(
    session: Session, messages: list[Incoming], known: dict[Key, Known]
) -> tuple[dict[Key, Seen], list[tuple[str, str, bool]]]:
    """Take in who was heard, in the order of arrival; return what is known now, and who went online or offline."""
    now: dict[Key, Seen] = {}
    for each in messages:
        key = (each.tenant, each.device)
        seen = now.get(key, known[key][0])
        if each.carried:
            now[key] = seen
        elif isinstance(each.record, Presence):
            now[key] = presence.said(seen, each.record, each.received_ms)
        elif isinstance(each.record, Heartbeat):
            now[key] = presence.beat(seen, each.record, each.received_ms)
        else:
            now[key] = presence.heard(seen, each.received_ms)
    turned = []
    for (tenant, device), seen in now.items():
        before = known[tenant, device][0]
        if before.silent and not seen.silent:
            presence.returned(session, tenant, device, seen.last_seen_ms / 1000)
        if before.online is not seen.online:
            turned.append((tenant, device, seen.online))
            announce(session, tenant, "device", device=device, change="online" if seen.online else "offline")
    return now, turned


def _name(message: Incoming) -> dict[str, Any]:
    return {"tenant": message.tenant, "name": message.device}

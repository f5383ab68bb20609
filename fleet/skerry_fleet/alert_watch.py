"""The fleet looked over for what is wrong, a slice of devices at a time, by the rules of `alert_rules.py`.

What lies before the last look (counters, how long a model is degraded) is kept in memory alone: after a start, counting
begins anew, and alerts that stand are judged again from then on. A silent device is not judged: nothing new is known.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy
from sqlmodel import Session, col, select

from skerry_fleet import alerts, placement
from skerry_fleet.alert_rules import RULES, Change, Counted, Facts, Limits, ModelFacts, changes
from skerry_fleet.alert_words import AlertState, Kind, device_of
from skerry_fleet.confirmed import Confirmations
from skerry_fleet.records import Alert
from skerry_fleet.trust import authority

SLICE = 1000
"""Devices looked at in one tick."""
ROUND_S = 60.0
_DEVICES = sqlalchemy.text(
    "SELECT d.tenant, d.name, d.created_ms, d.certificate_pem, d.next_certificate_pem, s.silent, s.boot_id, s.session,"
    " s.heartbeat FROM device d JOIN device_state s ON s.tenant = d.tenant AND s.name = d.name"
    " WHERE d.status = 'active' AND (d.tenant, d.name) > (:tenant, :name) ORDER BY d.tenant, d.name LIMIT :most"
)
_MODELS = sqlalchemy.text(
    "SELECT tenant, name, model, state, restarts, bundle FROM device_model"
    " WHERE (tenant, name) > (:tenant, :name) AND (tenant, name) <= (:last_tenant, :last_name)"
)
_SHADOWS = sqlalchemy.text(
    "SELECT d.tenant, d.device, d.shadow, d.reason FROM shadow_device d JOIN shadow s"
    " ON s.tenant = d.tenant AND s.id = d.shadow WHERE s.status = 'running' AND d.state = 'failed'"
)
Key = tuple[str, str]


class _Spool(msgspec.Struct):
    dropped: int = 0


class _Beat(msgspec.Struct):
    """What the rules need of a heartbeat."""

    disk_free_bytes: int
    spool: _Spool


_BEAT = msgspec.json.Decoder(_Beat)


@dataclasses.dataclass(slots=True)
class _Past:
    """What is remembered of one device."""

    boot_id: str
    session: int
    connected: int = 0
    connections: Counted = dataclasses.field(default_factory=lambda: Counted(0))
    dropped: Counted | None = None
    restarts: dict[str, Counted] = dataclasses.field(default_factory=dict)
    degraded: dict[str, tuple[bool, float]] = dataclasses.field(default_factory=dict)
    certificate: tuple[int, float, float] = (0, 0.0, 0.0)


class AlertWatch:
    """Looks at every device about once a minute. `limits` as configured."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._past: dict[Key, _Past] = {}
        self._standing: dict[Key, dict[Kind, set[str]]] = {}
        self._shadows: dict[Key, dict[str, str]] = {}
        self._confirmed = Confirmations()
        self._seen: set[Key] = set()
        self._begun = -math.inf
        self._at: Key | None = None

    def look(self, session: Session, now: float) -> list[tuple[str, Change]]:
        """Look at the next slice, if it is time, and return what changes, with its tenant. Reads only."""
        if self._at is None:
            if now - self._begun < ROUND_S:
                return []
            self._begin(session, now)
        after = self._at or ("", "")
        rows = session.connection().execute(_DEVICES, {"tenant": after[0], "name": after[1], "most": SLICE}).fetchall()
        found: list[tuple[str, Change]] = []
        if rows:
            last: Key = (rows[-1].tenant, rows[-1].name)
            models = self._models(session, after, last)
            for row in rows:
                key = (row.tenant, row.name)
                self._seen.add(key)
                if not row.silent and row.heartbeat:
                    facts = self._facts(row, models.get(key, ()), now)
                    found += [(row.tenant, each) for each in changes(self._limits, facts, self._standing.get(key, {}))]
            self._at = last
        if len(rows) < SLICE:
            self._at = None
            found += self._gone()
        return found

    def apply(self, session: Session, now: float, found: Iterable[tuple[str, Change]]) -> None:
        """Begin and end alerts."""
        for tenant, each in found:
            if each.text is None:
                alerts.resolve(session, tenant, now, each.kind, each.subject)
                continue
            scope = each.scope
            if each.kind is Kind.FLAPPING:
                scope = f"shard/{placement.shard_of(session, tenant, each.subject)}"
            alerts.raise_alert(session, tenant, now, each.kind, each.subject, each.text, scope=scope)

    def _begin(self, session: Session, now: float) -> None:
        self._begun, self._seen, self._standing, self._shadows = now, set(), {}, {}
        query = select(Alert.tenant, Alert.kind, Alert.subject).where(
            col(Alert.kind).in_([kind.value for kind in RULES]), Alert.state != AlertState.RESOLVED.value
        )
        for tenant, kind, subject in session.exec(query):
            kinds = self._standing.setdefault((tenant, device_of(kind, subject)), {})
            kinds.setdefault(Kind(kind), set()).add(subject)
        for row in session.connection().execute(_SHADOWS):
            self._shadows.setdefault((row.tenant, row.device), {})[row.shadow] = row.reason
        self._confirmed.load(session)

    def _gone(self) -> list[tuple[str, Change]]:
        """End the alerts of devices that are no more, and forget these."""
        self._past = {key: past for key, past in self._past.items() if key in self._seen}
        return [
            (key[0], Change(kind, subject, None))
            for key, kinds in self._standing.items()
            if key not in self._seen
            for kind, subjects in kinds.items()
            for subject in sorted(subjects)
        ]

    @staticmethod
    def _models(session: Session, after: Key, last: Key) -> Mapping[Key, list[Any]]:
        words = {"tenant": after[0], "name": after[1], "last_tenant": last[0], "last_name": last[1]}
        found: dict[Key, list[Any]] = {}
        for row in session.connection().execute(_MODELS, words):
            found.setdefault((row.tenant, row.name), []).append(row)
        return found

    def _facts(self, row: Any, models: Iterable[Any], now: float) -> Facts:
        key = (row.tenant, row.name)
        past = self._past.setdefault(key, _Past(row.boot_id, row.session))
        if row.boot_id != past.boot_id:
            past.connected += 1  # sessions are counted from the boot on
        else:
            past.connected += max(0, row.session - past.session)
        past.boot_id, past.session = row.boot_id, row.session
        try:
            beat = _BEAT.decode(row.heartbeat)
        except (msgspec.DecodeError, ValueError):  # written by another version
            beat = None
        if beat is not None and past.dropped is None:
            past.dropped = Counted(beat.spool.dropped)
        return Facts(
            row.name,
            None if beat is None else beat.disk_free_bytes,
            past.connections.take(past.connected, now),
            0 if beat is None or past.dropped is None else past.dropped.take(beat.spool.dropped, now),
            _certificate(past, row.next_certificate_pem or row.certificate_pem, now),
            tuple(self._model(past, row, each, now) for each in models),
            self._shadows.get(key, {}),
        )

    def _model(self, past: _Past, device: Any, row: Any, now: float) -> ModelFacts:
        degraded = row.state == "degraded"
        # What was there before the first look may have lasted for ever, or for a moment: it is timed from now on.
        state, since = past.degraded.get(row.model, (degraded, now))
        past.degraded[row.model] = state, since = (state, since) if state is degraded else (degraded, now)
        counted = past.restarts.setdefault(row.model, Counted(row.restarts))
        release, confirmed, since_s = self._confirmed.of(device.tenant, device.name, row.model, row.bundle)
        since_s = max(since_s, device.created_ms / 1000)
        return ModelFacts(
            row.model, state, now - since, counted.take(row.restarts, now), release, confirmed, now - since_s
        )


def _certificate(past: _Past, pem: str, now: float) -> tuple[float, float] | None:
    """Return what a certificate has left and its life; it is parsed once."""
    if not pem:
        return None
    if past.certificate[0] != hash(pem):
        past.certificate = (hash(pem), *authority.life_s(pem))
    _, begins, ends = past.certificate
    return ends - now, ends - begins

"""Prometheus metrics, in a registry of their own, and the rate of messages for people."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlmodel import Session, col, func, select

from skerry_contracts.topics import CHANNELS, Direction
from skerry_fleet import alerts, devices, rollout_rows
from skerry_fleet.alert_words import AlertState, Kind, Severity
from skerry_fleet.config import Clock
from skerry_fleet.database import Database
from skerry_fleet.incident_tables import Incident, Notice
from skerry_fleet.ingest import Committed
from skerry_fleet.notices import WAITING
from skerry_fleet.records import Alert
from skerry_fleet.tables import DeviceState, Rollout

WINDOW_S = 10
_ANSWER_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """What is counted while the fleet runs. `waiting` and `connected` are asked of the link while there is one."""

    def __init__(self, database: Database, tenant: str, clock: Clock) -> None:
        self._clock = clock
        self._recent: deque[tuple[int, int]] = deque(maxlen=WINDOW_S + 1)
        self.waiting: Callable[[], int] = lambda: 0
        self.connected: Callable[[], bool] = lambda: False
        self.registry = registry = CollectorRegistry()
        self.messages = Counter("skerry_ingest_messages", "Messages committed", ["channel"], registry=registry)
        self.bytes = Counter("skerry_ingest_bytes", "Bytes of payload committed", registry=registry)
        self.dead = Counter("skerry_ingest_dead_letters", "Messages refused", registry=registry)
        self.acked = Counter("skerry_ingest_acknowledgements", "Ack messages published", registry=registry)
        self.failed = Counter("skerry_ingest_failures", "Batches that could not be committed", registry=registry)
        self.commit_s = Histogram("skerry_ingest_commit_seconds", "Time of one commit", registry=registry)
        self.issued = Counter("skerry_assignments_published", "Assignments published", registry=registry)
        self.requests = Counter(
            "skerry_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.answer_s = Histogram(
            "skerry_http_answer_seconds", "Time until an answer begins", registry=registry, buckets=_ANSWER_S
        )
        self.limited = Counter("skerry_http_limited", "Requests refused by a rate limit", ["by"], registry=registry)
        for by in ("key", "address"):  # named before they happen, so that the first one is seen as a rise
            self.limited.labels(by)
        for channel in CHANNELS.values():
            if channel.direction is Direction.UP:
                self.messages.labels(channel.name)
        ProcessCollector(registry=registry)
        registry.register(_Gauges(database, tenant, self))

    def committed(self, committed: Committed) -> None:
        """Count one batch."""
        for channel, count in committed.channels.items():
            self.messages.labels(channel).inc(count)
        self.bytes.inc(committed.size_bytes)
        self.dead.inc(committed.dead)
        second = int(self._clock())
        count = sum(committed.channels.values()) + committed.dead
        if self._recent and self._recent[-1][0] == second:
            count += self._recent.pop()[1]
        self._recent.append((second, count))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer, by its route and not by its path, so that names make no new series."""
        self.requests.labels(method, route, str(status)).inc()
        self.answer_s.observe(seconds)

    def messages_per_s(self) -> float:
        """Return messages a second over the last ten full seconds."""
        now = int(self._clock())
        return sum(count for second, count in list(self._recent) if now - WINDOW_S <= second < now) / WINDOW_S

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _Gauges(Collector):
    """Counts that are asked of the database when somebody looks."""

    def __init__(self, database: Database, tenant: str, metrics: Metrics) -> None:
        self._database = database
        self._tenant = tenant
        self._metrics = metrics

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the present counts."""
        with self._database.read() as session:
            totals = devices.totals(session, self._tenant)
            silent = devices.count_silent(session, self._tenant)
            open_alerts = alerts.count_open(session, self._tenant)
            troubles = _troubles(session, self._tenant)
            rollouts = rollout_rows.count_active(session, self._tenant)
            places = _places(session, self._tenant)
        yield GaugeMetricFamily("skerry_devices", "Active devices", totals["devices"])
        yield GaugeMetricFamily("skerry_devices_online", "Devices online", totals["online"])
        yield GaugeMetricFamily("skerry_devices_silent", "Devices unheard for longer than silent_after_s", silent)
        yield GaugeMetricFamily("skerry_alerts_open", "Alerts nobody has acknowledged", open_alerts)
        yield GaugeMetricFamily("skerry_rollouts_active", "Rollouts under way", rollouts)
        yield GaugeMetricFamily("skerry_messages_per_second", "Over ten seconds", self._metrics.messages_per_s())
        yield GaugeMetricFamily("skerry_ingest_waiting", "Messages not committed yet", self._metrics.waiting())
        yield GaugeMetricFamily("skerry_broker_connected", "1: every broker has us", self._metrics.connected())
        build = GaugeMetricFamily("skerry_build_info", "Always 1; the version is a label", labels=["version"])
        build.add_metric([version("skerry")], 1)
        yield build
        by_version = GaugeMetricFamily("skerry_model_devices", "Devices by model", labels=["model", "version"])
        for each in totals["models"]:
            by_version.add_metric([each["model"], each["version"]], each["devices"])
        yield by_version
        yield places
        yield from troubles


def _troubles(session: Session, tenant: str) -> list[GaugeMetricFamily]:
    """Return what is wrong and what is still to be told; every label there is, so that a first is seen as a rise."""
    stands = select(Alert.kind, func.count()).where(Alert.tenant == tenant, Alert.state != AlertState.RESOLVED.value)
    kinds = dict(session.exec(stands.group_by(col(Alert.kind))).all())
    lasts = select(Incident.severity, func.count()).where(
        Incident.tenant == tenant, Incident.state != AlertState.RESOLVED.value
    )
    severities = dict(session.exec(lasts.group_by(col(Incident.severity))).all())
    found = []
    for name, words, label, counts, labels in (
        ("skerry_alerts_unresolved", "Alerts whose cause stands", "kind", kinds, Kind),
        ("skerry_incidents_unresolved", "Incidents that are not over", "severity", severities, Severity),
    ):
        family = GaugeMetricFamily(name, words, labels=[label])
        for each in labels:
            family.add_metric([each.value], counts.get(each.value, 0))
        found.append(family)
    lost = select(func.count()).where(DeviceState.tenant == tenant, DeviceState.lost_ms > 0)
    waiting = select(func.count()).where(Notice.tenant == tenant, Notice.status == WAITING)
    for name, words, query_of in (
        ("skerry_devices_lost", "Devices whose connection was lost and that are not back", lost),
        ("skerry_notices_waiting", "Messages about incidents that are not delivered yet", waiting),
    ):
        found.append(GaugeMetricFamily(name, words, session.exec(query_of).one()))
    return found


def _places(session: Session, tenant: str) -> GaugeMetricFamily:
    """Return where the devices of rollouts under way are; finished ones are left out, so that series end."""
    found = GaugeMetricFamily("skerry_rollout_devices", "Devices by place", labels=["rollout", "model", "place"])
    query = select(Rollout.id, Rollout.model, Rollout.counts)
    for rollout, model, counts in session.exec(
        query.where(Rollout.tenant == tenant, col(Rollout.status).in_(rollout_rows.UNDER_WAY)).order_by(Rollout.id)
    ):
        for place, count in json.loads(counts).items():
            found.add_metric([rollout, model, place], count)
    return found

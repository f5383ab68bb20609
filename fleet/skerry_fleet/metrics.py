"""Prometheus metrics, in a registry of their own, and the rate of messages for people."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from skerry_fleet import alerts, devices, rollout_rows
from skerry_fleet.config import Clock
from skerry_fleet.database import Database
from skerry_fleet.ingest import Committed

WINDOW_S = 10


class Metrics:
    """What is counted while the fleet runs."""

    def __init__(self, database: Database, tenant: str, clock: Clock) -> None:
        self._clock = clock
        self._recent: deque[tuple[int, int]] = deque(maxlen=WINDOW_S + 1)
        self.registry = CollectorRegistry()
        self.messages = Counter("skerry_ingest_messages", "Messages committed", ["channel"], registry=self.registry)
        self.bytes = Counter("skerry_ingest_bytes", "Bytes of payload committed", registry=self.registry)
        self.dead = Counter("skerry_ingest_dead_letters", "Messages refused", registry=self.registry)
        self.acked = Counter("skerry_ingest_acknowledgements", "Ack messages published", registry=self.registry)
        self.failed = Counter("skerry_ingest_failures", "Batches that could not be committed", registry=self.registry)
        self.commit_s = Histogram("skerry_ingest_commit_seconds", "Time of one commit", registry=self.registry)
        self.issued = Counter("skerry_assignments_published", "Assignments published", registry=self.registry)
        self.registry.register(_Gauges(database, tenant, self))

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

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the present counts."""
        with self._database.read() as session:
            totals = devices.totals(session, self._tenant)
            open_alerts = alerts.count_open(session, self._tenant)
            rollouts = rollout_rows.count_active(session, self._tenant)
        yield GaugeMetricFamily("skerry_devices", "Active devices", totals["devices"])
        yield GaugeMetricFamily("skerry_devices_online", "Devices online", totals["online"])
        yield GaugeMetricFamily("skerry_alerts_open", "Alerts nobody has acknowledged", open_alerts)
        yield GaugeMetricFamily("skerry_rollouts_active", "Rollouts under way", rollouts)
        yield GaugeMetricFamily("skerry_messages_per_second", "Over ten seconds", self._metrics.messages_per_s())
        by_version = GaugeMetricFamily("skerry_model_devices", "Devices by model", labels=["model", "version"])
        for each in totals["models"]:
            by_version.add_metric([each["model"], each["version"]], each["devices"])
        yield by_version

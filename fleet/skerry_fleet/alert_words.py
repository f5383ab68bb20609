"""The words of alerts and incidents: what can be wrong, how bad it is, and what belongs together."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What an alert is about. The subject is a device, `<device>/<model>`, `<device>/<shadow>`, a rollout, a
    `<model>/<monitor>` or a `shard/<number>`.
    """

    DEVICE_SILENT = "device-silent"
    MASS_OFFLINE = "mass-offline"
    BROKER_LOST = "broker-lost"
    UPDATE_FAILED = "update-failed"
    ROLLED_BACK = "rollout-rolled-back"
    DRIFT = "drift"
    DEVICE_DRIFT = "device-drift"
    STALE_MODEL = "stale-model"
    FLAPPING = "flapping"
    DISK_LOW = "disk-low"
    CERTIFICATE = "certificate"
    MODEL_DEGRADED = "model-degraded"
    CRASH_LOOP = "model-crash-loop"
    SHADOW_FAILED = "shadow-failed"
    SPOOL_DROPPING = "spool-dropping"


class AlertState(StrEnum):
    """Open until a person has seen it or the cause is gone. Incidents have the same states."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """How much it matters, least first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


OUTAGES = {Kind.MASS_OFFLINE, Kind.BROKER_LOST}
"""One cause that takes many devices away: such an alert begins an incident of its own, and others join it."""
_CRITICAL = {Kind.ROLLED_BACK, *OUTAGES}
SEVERITY = {kind: Severity.CRITICAL if kind in _CRITICAL else Severity.WARNING for kind in Kind}
RANK = {severity.value: rank for rank, severity in enumerate(Severity)}
_NO_DEVICE = {Kind.ROLLED_BACK, Kind.DRIFT, Kind.DEVICE_DRIFT, *OUTAGES}
_FAMILIES = {
    Kind.DEVICE_SILENT: "presence",
    Kind.MASS_OFFLINE: "presence",
    Kind.BROKER_LOST: "presence",
    Kind.FLAPPING: "presence",
    Kind.UPDATE_FAILED: "rollout",
    Kind.ROLLED_BACK: "rollout",
    Kind.DRIFT: "drift",
    Kind.DEVICE_DRIFT: "drift",
    Kind.MODEL_DEGRADED: "model",
    Kind.CRASH_LOOP: "model",
}


def family(kind: str) -> str:
    """Return what kinds have in common that one cause brings about; most stand alone.

    >>> family("flapping"), family("disk-low")
    ('presence', 'disk-low')
    """
    return _FAMILIES.get(Kind(kind), kind)


def device_of(kind: str, subject: str) -> str:
    """Return the device that an alert is about; empty where it is about none.

    >>> device_of("model-degraded", "kitchen-1/digits"), device_of("drift", "digits/input")
    ('kitchen-1', '')
    """
    return "" if Kind(kind) in _NO_DEVICE else subject.partition("/")[0]


def worse(one: str, other: str) -> str:
    """Return the more severe of two."""
    return max(one, other, key=lambda each: RANK.get(each, 0))

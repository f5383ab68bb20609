"""What is wrong with a device: one table of pure rules over what the fleet knows of it. No clock, no database.

A rule says what is wrong now, as text by subject. It is told which of its alerts stand, and lets go of one later than
it began it (another threshold, or a time), so that what sways around a limit makes one alert. `changes` compares with
what stands: no alert begins twice, and each ends once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping

from skerry_fleet.alert_words import Kind
from skerry_fleet.config import FleetConfig

HOUR_S = 3600.0
SHARE_OF_LIFE = 0.25
"""Certificates are renewed after two thirds of their life: with a quarter left, renewal has failed for a while."""
DISK_AGAIN = 1.5
"""So many times the limit must be free before a low disk is well again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """When something is wrong; 0 turns a rule off."""

    disk_bytes: float = 100e6
    flaps: int = 6
    """Connections made anew within an hour."""
    restarts: int = 3
    """Restarts of a model's worker within an hour."""
    degraded_s: float = 300.0
    certificate_s: float = 7 * 86_400.0
    stale_s: float = 86_400.0
    spool: int = 1
    """Kept messages dropped within an hour."""

    @classmethod
    def of(cls, config: FleetConfig) -> Limits:
        """Return what the settings say."""
        return cls(
            disk_bytes=config.alert_disk_mb * 1e6,
            flaps=config.alert_flaps,
            restarts=config.alert_restarts,
            degraded_s=config.alert_degraded_s,
            certificate_s=config.alert_certificate_days * 86_400,
            stale_s=config.alert_stale_hours * 3600,
            spool=config.alert_spool,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model on a device. `degraded` has been so, or not so, for `held_s`. `restarts`: within the last hour.

    `release` is what runs, `confirmed` what its group's newest finished rollout brought, `confirmed_s` that long ago;
    None where there is none that fits.
    """

    model: str
    degraded: bool = False
    held_s: float = 0.0
    restarts: int = 0
    release: int | None = None
    confirmed: int | None = None
    confirmed_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """One device that is heard of. Counts are of the last hour, times to the present.

    `certificate` is (seconds it has left, seconds of its whole life), of the newest it was given.
    """

    device: str
    disk_free_bytes: int | None = None
    connections: int = 0
    dropped: int = 0
    certificate: tuple[float, float] | None = None
    models: tuple[ModelFacts, ...] = ()
    failed_shadows: Mapping[str, str] = dataclasses.field(default_factory=dict)


Stands = Collection[str]
"""Subjects of the rule's alerts that are not resolved."""
Judge = Callable[[Limits, Facts, Stands], dict[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """An alert that begins (`text`), or ends (None). `scope` is what its incident is about."""

    kind: Kind
    subject: str
    text: str | None
    scope: str = ""


def _disk(limits: Limits, facts: Facts, stands: Stands) -> dict[str, str]:
    limit = limits.disk_bytes * (DISK_AGAIN if facts.device in stands else 1)
    if facts.disk_free_bytes is None or facts.disk_free_bytes >= limit:
        return {}
    return {facts.device: f"{facts.device} has {facts.disk_free_bytes / 1e6:.0f} MB of its disk left"}


def _flapping(limits: Limits, facts: Facts, stands: Stands) -> dict[str, str]:
    limit = limits.flaps / 2 if facts.device in stands else limits.flaps
    if not limits.flaps or facts.connections <= limit:
        return {}
    return {facts.device: f"{facts.device} connected anew {facts.connections} times within an hour"}


def _certificate(limits: Limits, facts: Facts, stands: Stands) -> dict[str, str]:
    if facts.certificate is None:
        return {}
    left_s, life_s = facts.certificate
    if left_s >= min(limits.certificate_s, SHARE_OF_LIFE * life_s):
        return {}
    when = f"ends in {left_s / 86_400:.1f} days" if left_s > 0 else "has ended"
    return {facts.device: f"the certificate of {facts.device} {when}, and the device does not renew it"}


def _spool(limits: Limits, facts: Facts, stands: Stands) -> dict[str, str]:
    if not limits.spool or facts.dropped < limits.spool:
        return {}
    return {facts.device: f"{facts.device} dropped {facts.dropped} kept messages within an hour: its spool is full"}


def _degraded(limits: Limits, facts: Facts, stands: Stands) -> dict[str, str]:
    found = {}
    for each in facts.models if limits.degraded_s else ():
        subject = f"{facts.device}/{each.model}"
        lasting = each.held_s >= limits.degraded_s
        if (each.degraded and lasting) or (subject in stands and not (lasting and not each.degraded)):
            found[subject] = f"{each.model} on {facts.device} is degraded"
    return found


def _crashing(limits: Limits, facts: Facts, stands: Stands) -> dict[str, str]:
    found = {}
    for each in facts.models if limits.restarts else ():
        subject = f"{facts.device}/{each.model}"
        if each.restarts > (0 if subject in stands else limits.restarts):
            found[subject] = f"{each.model} on {facts.device} was started anew {each.restarts} times within an hour"
    return found


def _stale(limits: Limits, facts: Facts, stands: Stands) -> dict[str, str]:
    found = {}
    for each in facts.models if limits.stale_s else ():
        if each.release is None or each.confirmed is None or each.release >= each.confirmed:
            continue
        if each.confirmed_s >= limits.stale_s:
            since = f"release {each.confirmed} is confirmed for {each.confirmed_s / HOUR_S:.0f} h"
            found[f"{facts.device}/{each.model}"] = (
                f"{facts.device} runs release {each.release} of {each.model}; {since}"
            )
    return found


def _shadow(limits: Limits, facts: Facts, stands: Stands) -> dict[str, str]:
    return {
        f"{facts.device}/{shadow}": f"shadow {shadow} failed on {facts.device}: {reason}"
        for shadow, reason in facts.failed_shadows.items()
    }


RULES: dict[Kind, Judge] = {
    Kind.DISK_LOW: _disk,
    Kind.FLAPPING: _flapping,
    Kind.CERTIFICATE: _certificate,
    Kind.SPOOL_DROPPING: _spool,
    Kind.MODEL_DEGRADED: _degraded,
    Kind.CRASH_LOOP: _crashing,
    Kind.STALE_MODEL: _stale,
    Kind.SHADOW_FAILED: _shadow,
}
_SCOPED = {Kind.MODEL_DEGRADED, Kind.CRASH_LOOP, Kind.STALE_MODEL, Kind.SHADOW_FAILED}


def changes(limits: Limits, facts: Facts, standing: Mapping[Kind, Stands]) -> list[Change]:
    """Return what begins and what ends on one device. `standing`: by kind, the subjects of its unresolved alerts."""
    found = []
    for kind, judge in RULES.items():
        stands = standing.get(kind, ())
        wrong = judge(limits, facts, stands)
        for subject in sorted(wrong.keys() | set(stands)):
            if (subject in wrong) is not (subject in stands):
                scope = subject.partition("/")[2] if kind in _SCOPED else ""
                found.append(Change(kind, subject, wrong.get(subject), scope))
    return found


class Counted:
    """What a growing number grew by within the last hour. The first value is only where counting begins; a smaller one
    than before is a counter begun anew.
    """

    __slots__ = ("_grown", "_value")

    def __init__(self, value: int) -> None:
        self._value = value
        self._grown: tuple[tuple[float, int], ...] = ()

    def take(self, value: int, now: float) -> int:
        """Take in the number's present value and return its growth within the last hour."""
        if value > self._value:
            self._grown += ((now, value - self._value),)
        self._value = value
        if self._grown and self._grown[0][0] <= now - HOUR_S:
            self._grown = tuple(each for each in self._grown if each[0] > now - HOUR_S)
        return sum(growth for _, growth in self._grown)

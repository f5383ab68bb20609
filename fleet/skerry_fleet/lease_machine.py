"""What becomes of a lease on a board: (lease, event, now) -> (lease, effects), pure.

    queued ──Granted──▶ granted ──Uploaded──▶ measuring ──Told──▶ done, failed
      ▲ Silent ────────────┘                      │ Silent, its time is up
      └─ any of these: Cancelled ▶ cancelled; its compiler unheard ▶ failed

A lease lives by being renewed; whatever happens to the compiler, the fleet or the board, it ends, and what was ordered
is withdrawn exactly once.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

from skerry_contracts.measuring import MeasureState

TTL_S = 60.0  # unheard for so long, a compiler is gone
GRACE_S = 90.0  # beyond the time to measure: for the order to arrive and the candidates to be fetched


class LeaseStatus(StrEnum):
    """Where a lease stands. The last three are final."""

    QUEUED = "queued"
    GRANTED = "granted"
    MEASURING = "measuring"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (LeaseStatus.GRANTED, LeaseStatus.MEASURING)
FINAL = (LeaseStatus.DONE, LeaseStatus.FAILED, LeaseStatus.CANCELLED)


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """A lease. Times are seconds since 1970 by the fleet's clock; `until_s` bounds the measuring (0: none yet)."""

    status: LeaseStatus
    renewed_s: float
    device: str = ""
    until_s: float = 0.0
    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Granted:
    """A board is free for it."""

    device: str


@dataclasses.dataclass(frozen=True, slots=True)
class Renewed:
    """Its compiler was heard."""


@dataclasses.dataclass(frozen=True, slots=True)
class Uploaded:
    """The candidates are here, checked and listed; measuring may take `seconds`."""

    seconds: int


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """The board said how it ended."""

    state: MeasureState
    words: str


@dataclasses.dataclass(frozen=True, slots=True)
class Silent:
    """The board is offline, or no longer one of ours."""

    words: str


@dataclasses.dataclass(frozen=True, slots=True)
class Cancelled:
    """A person, or the compiler, wants it no more."""

    words: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = Granted | Renewed | Uploaded | Told | Silent | Cancelled | Tick


class Effect(StrEnum):
    """What is to be done: sign an assignment with the order in it, or one without and forget the candidates."""

    ORDER = "order"
    WITHDRAW = "withdraw"


def advance(lease: Lease, event: Event, now: float) -> tuple[Lease, tuple[Effect, ...]]:
    """Return the lease after an event, and what is to be done."""
    status = lease.status
    if status in FINAL:
        return lease, ()
    match event:
        case Granted(device=device) if status is LeaseStatus.QUEUED:
            return dataclasses.replace(lease, status=LeaseStatus.GRANTED, device=device, reason=""), ()
        case Renewed():
            return dataclasses.replace(lease, renewed_s=now), ()
        case Uploaded(seconds=seconds) if status is LeaseStatus.GRANTED:
            until_s = now + seconds + GRACE_S
            measuring = dataclasses.replace(
                lease, status=LeaseStatus.MEASURING, renewed_s=now, until_s=until_s, reason=""
            )
            return measuring, (Effect.ORDER,)
        case Told(state=state, words=words) if status is LeaseStatus.MEASURING:
            # What stopped for want of time may have measured some: the compiler has whatever came.
            good = state in (MeasureState.DONE, MeasureState.STOPPED)
            return _end(lease, LeaseStatus.DONE if good else LeaseStatus.FAILED, words)
        case Silent(words=words) if status is LeaseStatus.GRANTED:
            return dataclasses.replace(lease, status=LeaseStatus.QUEUED, device="", reason=words), ()
        case Silent(words=words) if status is LeaseStatus.MEASURING:
            return _end(lease, LeaseStatus.FAILED, words)
        case Cancelled(words=words):
            return _end(lease, LeaseStatus.CANCELLED, words)
        case Tick() if now - lease.renewed_s > TTL_S:
            return _end(lease, LeaseStatus.FAILED, f"its compiler was not heard for {TTL_S:.0f} s")
        case Tick() if status is LeaseStatus.MEASURING and now > lease.until_s:
            return _end(lease, LeaseStatus.FAILED, f"{lease.device} gave no end within its time")
    return lease, ()


def _end(lease: Lease, status: LeaseStatus, words: str) -> tuple[Lease, tuple[Effect, ...]]:
    ordered = lease.status is LeaseStatus.MEASURING
    after = dataclasses.replace(lease, status=status, reason=words[:500])
    return after, (Effect.WITHDRAW,) if ordered else ()

"""The words of the rollout machine: plan, places, events, effects and the state they move.

A rollout's **exposure** is every device that was offered the bundle and has not confirmed it (in flight, soaking,
silent, waiting to retry), plus every device that failed. The machine never offers where exposure would pass the
allowance, so a bad bundle can harm no more devices than that, however slowly bad news travels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from enum import StrEnum

from skerry_contracts.device import Phase, Reason
from skerry_fleet.rollout_plan import Plan


class Status(StrEnum):
    """Where a rollout stands."""

    AWAITING_APPROVAL = "awaiting-approval"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    ABORTED = "aborted"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    SUPERSEDED = "superseded"


class Place(StrEnum):
    """Where one device stands in a rollout."""

    WAITING = "waiting"
    OFFERED = "offered"
    RETRYING = "retrying"
    SOAKING = "soaking"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    RETURNING = "returning"
    RETURNED = "returned"


UNCONFIRMED = (Place.OFFERED, Place.RETRYING, Place.SOAKING)
BLOCKING = (Status.AWAITING_APPROVAL, Status.RUNNING, Status.PAUSED)
"""A device in such a rollout is not taken over by another one unless that is asked for."""
WATCHED = (Status.RUNNING, Status.PAUSED, Status.COMPLETE)
"""Such a rollout is taken back where it harms."""
OVER = (Status.ROLLED_BACK, Status.SUPERSEDED)
"""Nothing can happen to such a rollout any more."""


def rank(rollout: str, device: str) -> int:
    """Return a device's place in a rollout's order: the same everywhere, different in every rollout."""
    return int.from_bytes(hashlib.sha256(f"{rollout}\0{device}".encode()).digest()[:8], "big")


@dataclasses.dataclass(slots=True)
class Member:
    """One device. `floor`: words about assignments older than this one are not about this rollout's last order."""

    device: str
    rank: int
    place: Place = Place.WAITING
    reachable: bool = False
    attempts: int = 0
    floor: int = 0
    since: float = 0.0
    due: float | None = None
    reason: str = ""
    queued: bool = False


@dataclasses.dataclass(slots=True)
class State:
    """One rollout. Owned by its caller and changed in place by `step`: a copy for each event would cost O(devices).

    `stage` is 0 for the canary, then the wave's number; `allowance` the exposure granted so far (it never falls);
    `size_bytes` of the bundle; `paced` when the next offer would be due at an even pace; `left` how many offers may
    still be made before the caller raises it again, so that what they lead to is carried out in portions;
    `changed` the devices whose row must be saved. The heaps may hold entries that are out of date; they are checked
    when they come up.
    """

    rollout: str
    bundle: str
    plan: Plan
    status: Status
    stage: int = 0
    allowance: int = 0
    reason: str = ""
    size_bytes: int = 0
    paced: float = 0.0
    left: int = sys.maxsize
    members: dict[str, Member] = dataclasses.field(default_factory=dict)
    counts: dict[Place, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(Place, 0))
    ready_count: int = 0
    ready: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    timers: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    changed: set[str] = dataclasses.field(default_factory=set)

    @property
    def exposure(self) -> int:
        """Devices exposed and unconfirmed, and devices that failed."""
        return sum(self.counts[place] for place in UNCONFIRMED) + self.counts[Place.FAILED]

    @property
    def offered(self) -> int:
        """Devices that were ever offered the bundle and still belong."""
        return len(self.members) - self.counts[Place.WAITING]


# Events ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Joined:
    """A device belongs from now on."""

    device: str
    reachable: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """A device belongs no longer: decommissioned, or taken over by another rollout."""

    device: str


@dataclasses.dataclass(frozen=True, slots=True)
class Reached:
    """A device came within reach, or went out of it."""

    device: str
    reachable: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Issued:
    """The assignment that carries the machine's last order to a device has this sequence."""

    device: str
    sequence: int


@dataclasses.dataclass(frozen=True, slots=True)
class Reported:
    """A device's progress."""

    device: str
    bundle: str
    sequence: int
    phase: Phase
    reason: Reason


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """A device's heartbeat: the bundle it runs of this model (None: none), under which assignment, and whether it
    serves.
    """

    device: str
    bundle: str | None
    sequence: int
    serving: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Regressed:
    """A device that runs the bundle does worse with it than before: error rate, latency or confidence."""

    device: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Harmed:
    """Devices with the bundle do worse than like ones without it, beyond chance."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


class Order(StrEnum):
    """What a person or program may ask of a rollout."""

    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    ROLL_BACK = "rollback"


@dataclasses.dataclass(frozen=True, slots=True)
class Ordered:
    """Somebody ordered it."""

    order: Order
    reason: str = ""


RolloutEvent = Joined | Left | Reached | Issued | Reported | Heard | Regressed | Harmed | Tick | Ordered

# Effects ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """Assign the rollout's bundle to the device, in a new assignment."""

    device: str


@dataclasses.dataclass(frozen=True, slots=True)
class Revert:
    """Assign the bundle the device had before, in a new assignment."""

    device: str


@dataclasses.dataclass(frozen=True, slots=True)
class Confirmed:
    """The device has proved the bundle: from now on it is what the device goes back to."""

    device: str


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """The device failed: somebody should know."""

    device: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Moved:
    """The rollout itself moved: its status or its stage."""

    status: Status
    stage: int
    reason: str


Effect = Offer | Revert | Confirmed | Failed | Moved

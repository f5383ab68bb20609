"""The update machine's words: what is remembered of one model, what can happen to it, and what is then to be done.

A record is written to the ledger after every change. `ticket` counts the stages of a model's updates: what a running
effect reports back carries the ticket it was started with, so that an answer to a question nobody asks any more
changes nothing.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

from skerry_contracts.assignment import AssignedModel
from skerry_contracts.device import Phase, Reason


class Stage(StrEnum):
    """Where a model's update stands on this device."""

    IDLE = "idle"
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    TRIAL = "trial"
    OBSERVING = "observing"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines in seconds of monotonic time; see config.AgentConfig."""

    download_s: float
    window_s: float
    trial_s: float
    observe_s: float
    observe_predictions: int
    retry_first_s: float
    retry_max_s: float
    retry_failed_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What the trial of a bundle found on this device."""

    variant: str
    golden_passed: int = 0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    rss_bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """One line of an accepted assignment."""

    sequence: int
    expires_s: int
    assigned: AssignedModel

    @property
    def bundle(self) -> str:
        """The bundle that is to run."""
        return self.assigned.bundle


@dataclasses.dataclass(frozen=True, slots=True)
class Installed:
    """A bundle that is here, whole, and passed its trial (or was put here by the device's maker)."""

    bundle: str
    version: str
    release: int
    measured: Measured
    sequence: int = 0
    rollout: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """All that is remembered of one model. `floor` is the highest release ever committed; it never falls.

    `active` serves; `previous` is what a failed observation goes back to; `factory` is never removed. `order` is what
    the fleet wants last, `following` what it wanted meanwhile. `deadline_s`, `retry_at_s` and `serve_at_s` (of the next
    attempt to serve `active`, where nothing serves) are monotonic and set anew by every boot. `boots` counts boots that
    found a trial or an observation under way, `trials` those of the order that proved nothing against its bundle,
    `doubts` ends of its candidate that proved little. `trouble` is why the last attempt to fetch failed.
    """

    model: str
    stage: Stage = Stage.IDLE
    ticket: int = 0
    active: Installed | None = None
    previous: Installed | None = None
    factory: Installed | None = None
    order: Order | None = None
    following: Order | None = None
    floor: int = 0
    measured: Measured | None = None
    deadline_s: float | None = None
    retry_at_s: float | None = None
    serve_at_s: float | None = None
    attempts: int = 0
    boots: int = 0
    served: int = 0
    trials: int = 0
    doubts: int = 0
    trouble: Reason | None = None
    trouble_detail: str = ""

    @property
    def fetching(self) -> bool:
        """Whether parts of a bundle are here or coming that no installed manifest names."""
        waiting = self.stage == Stage.IDLE and self.order is not None and self.retry_at_s is not None
        waiting = waiting and self.trouble is not Reason.EXPIRED
        return self.stage == Stage.DOWNLOADING or waiting


@dataclasses.dataclass(frozen=True, slots=True)
class Offered:
    """An accepted assignment names this model."""

    order: Order


@dataclasses.dataclass(frozen=True, slots=True)
class Unnamed:
    """An accepted assignment no longer names this model."""

    sequence: int


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """The update repository lists the manifest, it fits this device, and there is space."""

    ticket: int


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """Every blob is in the store, checked and durable."""

    ticket: int


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """The bundle must not be installed. Final, unless the reason is want of space or a failing disk."""

    ticket: int
    reason: Reason
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Delayed:
    """Fetching failed in a way that may pass. `jitter` is a random number from 0 to 1 that shapes the wait."""

    ticket: int
    reason: Reason
    detail: str
    jitter: float


@dataclasses.dataclass(frozen=True, slots=True)
class TrialPassed:
    """The candidate gave the right answers in its own worker."""

    ticket: int
    measured: Measured


@dataclasses.dataclass(frozen=True, slots=True)
class TrialFailed:
    """The candidate did not."""

    ticket: int
    reason: Reason
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """The live worker answered well this many times since the last report."""

    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Unhealthy:
    """The bundle that serves cannot be trusted with the work: it crashes, hangs, says NaN, or its files are damaged."""

    bundle: str
    reason: Reason
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Boot:
    """The agent starts. `factory` is the bundle the device's maker put here, if any."""

    factory: Installed | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """The factory bundle, which could not be read when the agent started, can be read now."""

    factory: Installed


@dataclasses.dataclass(frozen=True, slots=True)
class Online:
    """The fleet can be reached again: waiting attempts need not wait longer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. `wall_s` is trusted seconds since 1970; `window_open`: now is a time to activate; `unloaded`: a
    person freed the model's worker.
    """

    wall_s: float
    window_open: bool
    unloaded: bool = False


Event = (
    Offered | Unnamed | Listed | Fetched | Refused | Delayed | TrialPassed | TrialFailed | Served | Unhealthy
    | Boot | Found | Online | Tick
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class StartFetch:
    """Ask the update repository for the order's manifest; answers: Listed, Refused, Delayed."""


@dataclasses.dataclass(frozen=True, slots=True)
class StartBlobs:
    """Fetch what the manifest names; answers: Fetched, Refused, Delayed."""


@dataclasses.dataclass(frozen=True, slots=True)
class StopFetch:
    """Stop fetching; what was received stays for the next attempt."""


@dataclasses.dataclass(frozen=True, slots=True)
class StartTrial:
    """Load the candidate beside the live one and ask its golden vectors; answers: TrialPassed, TrialFailed."""


@dataclasses.dataclass(frozen=True, slots=True)
class StopTrial:
    """End the candidate's worker."""


@dataclasses.dataclass(frozen=True, slots=True)
class Swap:
    """Make the candidate's worker the live one; the record already says so."""


@dataclasses.dataclass(frozen=True, slots=True)
class Serve:
    """Make a bundle serve with a fresh worker, in place of whatever does."""

    installed: Installed


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """End the live worker: nothing is to serve."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Tell the fleet about one step of an order."""

    order: Order
    phase: Phase
    reason: Reason = Reason.OK
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class SignReceipt:
    """Sign and send the device's word on what it installed."""

    installed: Installed


@dataclasses.dataclass(frozen=True, slots=True)
class Collect:
    """Bundles may have become garbage."""


Effect = (
    StartFetch | StartBlobs | StopFetch | StartTrial | StopTrial | Swap | Serve | Stop | Report | SignReceipt | Collect
)

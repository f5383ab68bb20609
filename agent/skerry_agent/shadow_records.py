"""The words of a shadow's machine: what is remembered of it, what can happen to it, and what is then to be done."""

from __future__ import annotations

import dataclasses
from enum import StrEnum

from skerry_agent.records import Order
from skerry_contracts.device import Reason
from skerry_contracts.shadow import Shadow, ShadowState


class Stage(StrEnum):
    """Where a shadow stands on this device. The last two are final."""

    FETCHING = "fetching"
    READY = "ready"
    FAILED = "failed"
    OVER = "over"


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """All that is remembered of one model's shadow; written to the ledger after every change.

    `strikes` counts crashes, hangs and the like since it last proved itself; `variant` says which of the fitting
    variants is tried next. `deadline_s` and `retry_at_s` are monotonic and set anew by every boot.
    """

    model: str
    order: Order
    terms: Shadow
    stage: Stage = Stage.FETCHING
    ticket: int = 0
    deadline_s: float | None = None
    retry_at_s: float | None = None
    attempts: int = 0
    strikes: int = 0
    variant: int = 0
    starting: bool = False
    reason: Reason = Reason.OK
    detail: str = ""

    @property
    def final(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.stage in (Stage.FAILED, Stage.OVER)


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """The update repository lists the manifest, it fits this device and the live model, and there is space."""

    ticket: int


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """Every blob is in the store, checked and durable."""

    ticket: int


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """The candidate must not be tried; final."""

    ticket: int
    reason: Reason
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Delayed:
    """Fetching failed for now. `jitter` is from 0 to 1."""

    ticket: int
    reason: Reason
    detail: str
    jitter: float


@dataclasses.dataclass(frozen=True, slots=True)
class Loading:
    """There is room for its worker: it is about to be started."""


@dataclasses.dataclass(frozen=True, slots=True)
class Proven:
    """Its worker has answered often enough."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rested:
    """Its worker was ended in order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Struck:
    """It crashed, hung, leaked, lied or did not start. `final`: once is enough."""

    reason: Reason
    detail: str = ""
    final: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """Its files are gone or damaged: fetch them again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Boot:
    """The agent starts. `here`: its manifest is in the store."""

    here: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Online:
    """The fleet can be reached again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. `wall_s` is trusted seconds since 1970; `serves`: the bundle that serves now."""

    wall_s: float
    serves: str = ""


Event = Listed | Fetched | Refused | Delayed | Loading | Proven | Rested | Struck | Lost | Boot | Online | Tick


@dataclasses.dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the update repository for the manifest; answers: Listed, Refused, Delayed."""


@dataclasses.dataclass(frozen=True, slots=True)
class FetchBlobs:
    """Fetch what the manifest names; answers: Fetched, Refused, Delayed."""


@dataclasses.dataclass(frozen=True, slots=True)
class StopFetch:
    """Stop fetching."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """It may run from now on, where there is room; answers: Loading, Struck, Lost."""


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """Start its worker; answers: Proven, Rested, Struck, Lost."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """End its worker, and ask for no other."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Tell the fleet how it fares."""

    state: ShadowState
    reason: Reason = Reason.OK
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Collect:
    """Its files have become garbage."""


Wish = Fetch | FetchBlobs | StopFetch | Ready | Load | Stop | Report | Collect

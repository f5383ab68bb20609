"""What becomes of a measuring: (record, event, now) -> (record, wishes), pure; the daemon and the simulator run this
code.

    fetching ──Listed, Fetched──▶ running ──Over──▶ over
        │ Refused, its time is up    │ its time is up, Boot
        └────────────────────────────┴──▶ over

It touches neither updates nor shadows, and is never taken up again: a device that starts anew while it measures (a
power cut, or a candidate that took it down) says so, and the compiler may ask once more.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

from skerry_contracts.device import Reason
from skerry_contracts.measuring import MAX_DETAIL, MeasureOrder, MeasureState

AGAIN_S = 2.0  # after a fetch that the network broke; doubles each time


class Stage(StrEnum):
    """Where a measuring stands on this device."""

    FETCHING = "fetching"
    RUNNING = "running"
    OVER = "over"


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """All that is remembered of one measuring. `deadline_s` and `retry_at_s` are monotonic seconds of this boot."""

    order: MeasureOrder
    sequence: int
    stage: Stage = Stage.FETCHING
    ticket: int = 0
    attempts: int = 0
    deadline_s: float | None = None
    retry_at_s: float | None = None

    @property
    def final(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.stage is Stage.OVER


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """The update repository lists the candidates, some fit this device, and there is space."""

    ticket: int


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """Every blob is in the store, checked and durable."""

    ticket: int


@dataclasses.dataclass(frozen=True, slots=True)
class Delayed:
    """Fetching failed for now."""

    ticket: int


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """The candidates must not be run."""

    ticket: int
    reason: Reason
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Over:
    """The runner is done, or gave up."""

    state: MeasureState
    reason: Reason = Reason.OK
    detail: str = ""
    reported: int = 0
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; `wall_s`: the trusted time (seconds since 1970)."""

    wall_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Boot:
    """The agent has started."""


Event = Listed | Fetched | Delayed | Refused | Over | Tick | Boot


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Tell the fleet."""

    said: Over


@dataclasses.dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the update repository for the manifest."""


@dataclasses.dataclass(frozen=True, slots=True)
class FetchBlobs:
    """Fetch what the manifest names."""


@dataclasses.dataclass(frozen=True, slots=True)
class StopFetch:
    """Fetch no more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Begin to measure; the record says so already, durably."""


@dataclasses.dataclass(frozen=True, slots=True)
class Halt:
    """End what runs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Collect:
    """Remove the candidates' files."""


Wish = Report | Fetch | FetchBlobs | StopFetch | Run | Halt | Collect
Step = tuple[Record, list[Wish]]


def ordered(order: MeasureOrder, sequence: int, now_s: float, *, ticket: int = 0) -> Step:
    """Take up an order. `now_s` is monotonic seconds of this boot."""
    record = Record(order, sequence, ticket=ticket, deadline_s=now_s + order.seconds)
    return record, [Report(Over(MeasureState.FETCHING)), Fetch()]


def withdrawn(record: Record) -> list[Wish]:
    """Return what is to be done when a measuring is no longer ordered; its record is forgotten."""
    if record.final:
        return []
    return [_halt(record), Report(Over(MeasureState.STOPPED, Reason.ORDERED, "no longer ordered")), Collect()]


def advance(record: Record, event: Event, now_s: float) -> Step:
    """Return the record after an event, and what is to be done."""
    if record.final:
        return record, []
    match event:
        case Listed(ticket=ticket) if _current(record, ticket):
            return record, [FetchBlobs()]
        case Fetched(ticket=ticket) if _current(record, ticket):
            running = dataclasses.replace(
                record, stage=Stage.RUNNING, ticket=record.ticket + 1, deadline_s=None, retry_at_s=None
            )
            return running, [Report(Over(MeasureState.MEASURING)), Run()]
        case Delayed(ticket=ticket) if _current(record, ticket):
            retry_at_s = now_s + AGAIN_S * 2.0 ** min(record.attempts, 6)
            return dataclasses.replace(record, retry_at_s=retry_at_s, attempts=record.attempts + 1), []
        case Refused(ticket=ticket, reason=reason, detail=detail) if _current(record, ticket):
            return _end(record, Over(MeasureState.FAILED, reason, detail))
        case Over():
            return _end(record, event) if record.stage is Stage.RUNNING else (record, [])
        case Boot():
            words = "the device started anew meanwhile"
            return _end(record, Over(MeasureState.FAILED, Reason.POWER_CUT, words))
        case Tick():
            return _tick(record, event, now_s)
    return record, []


def wake_s(record: Record, ticked_s: float) -> float | None:
    """Return when a Tick is due (monotonic seconds); None: nothing waits for time to pass."""
    if record.final:
        return None
    times = [time for time in (record.deadline_s, record.retry_at_s) if time is not None]
    return min([*times, ticked_s + 5.0])  # the order's end stands in wall time


def _tick(record: Record, event: Tick, now_s: float) -> Step:
    late = record.deadline_s is not None and now_s >= record.deadline_s
    if late or event.wall_s >= record.order.until_s:
        words = "its time was up while it was fetched" if record.stage is Stage.FETCHING else "its time is up"
        return _end(record, Over(MeasureState.STOPPED, Reason.TIMEOUT, words))
    if record.retry_at_s is not None and now_s >= record.retry_at_s:
        return dataclasses.replace(record, retry_at_s=None, ticket=record.ticket + 1), [Fetch()]
    return record, []


def _current(record: Record, ticket: int) -> bool:
    return record.stage is Stage.FETCHING and record.ticket == ticket


def _halt(record: Record) -> Wish:
    return StopFetch() if record.stage is Stage.FETCHING else Halt()


def _end(record: Record, said: Over) -> Step:
    after = dataclasses.replace(record, stage=Stage.OVER, ticket=record.ticket + 1, deadline_s=None, retry_at_s=None)
    told = dataclasses.replace(said, detail=said.detail[:MAX_DETAIL])
    return after, [_halt(record), Report(told), Collect()]

"""What becomes of a shadow: (record, event, now) -> (record, wishes), pure; the daemon and the simulator run this code.

    fetching ──Fetched──▶ ready ──Loading──▶ ready, starting ──Proven, Rested──▶ ready
        │ Refused, deadline  │ Struck too often, until_s, the model serves it
        └────────────────────┴──▶ failed, over

It touches no update: nothing here serves, counts as installed, or is what an update goes back to. `starting` is durable
before a candidate's bytes are mapped and cleared once it has proven itself, so that one that takes the whole device
down with it is tried `STRIKES` times at most, power cuts included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from skerry_agent.records import Limits, Order
from skerry_agent.shadow_records import (
    Boot,
    Collect,
    Delayed,
    Event,
    Fetch,
    FetchBlobs,
    Fetched,
    Listed,
    Load,
    Loading,
    Lost,
    Online,
    Proven,
    Ready,
    Record,
    Refused,
    Report,
    Rested,
    Stage,
    Stop,
    StopFetch,
    Struck,
    Tick,
    Wish,
)
from skerry_contracts.assignment import AssignedModel
from skerry_contracts.device import Reason
from skerry_contracts.shadow import Shadow, ShadowState

STRIKES = 3
AGAIN_S = 30.0  # after the first strike; each further one doubles it
_PASSING = (Reason.NETWORK, Reason.TIMEOUT, Reason.EXPIRED)
Step = tuple[Record, list[Wish]]


def offered(before: Record | None, order: Order, terms: Shadow, now_s: float, limits: Limits) -> Step:
    """Take up what an assignment says; `order` is the model's own line of it."""
    own = _order(order, terms)
    if before is not None and before.terms.id == terms.id and before.terms.bundle == terms.bundle:
        record = replace(before, order=own, terms=terms)
        return record, [Ready()] if record.stage is Stage.READY else []
    ended = withdrawn(before) if before is not None else []
    ticket = before.ticket + 1 if before is not None else 0
    record = Record(own.assigned.model, own, terms, ticket=ticket, deadline_s=now_s + limits.download_s)
    return record, [*ended, Report(ShadowState.FETCHING), Fetch()]


def withdrawn(record: Record) -> list[Wish]:
    """Return what is to be done when a shadow is no longer assigned; its record is forgotten."""
    said = [] if record.final else [Report(ShadowState.ENDED, Reason.ORDERED, "no longer assigned")]
    return [*_halt(record), *said, Collect()]


def advance(record: Record, event: Event, now_s: float, limits: Limits) -> Step:
    """Return the record after an event, and what is to be done. `now_s` is monotonic seconds of this boot."""
    return (record, []) if record.final else _HANDLERS[type(event)](record, event, now_s, limits)


def wake_s(record: Record) -> float | None:
    """Return when a Tick is due (monotonic seconds); None: nothing waits for time to pass."""
    times = [time for time in (record.deadline_s, record.retry_at_s) if time is not None]
    return min(times, default=None)


def _order(order: Order, terms: Shadow) -> Order:
    """Return the candidate as if it were assigned: what a manifest must agree with."""
    assigned = AssignedModel(
        order.assigned.model,
        terms.version,
        terms.release,
        terms.bundle,
        terms.target_path,
        terms.size_bytes,
        terms.id,
        allow_downgrade=True,
    )
    return Order(order.sequence, order.expires_s, assigned)


def _halt(record: Record) -> list[Wish]:
    running: dict[Stage, Wish] = {Stage.FETCHING: StopFetch(), Stage.READY: Stop()}
    return [running[record.stage]] if record.stage in running else []


def _end(record: Record, stage: Stage, reason: Reason, detail: str) -> Step:
    state = ShadowState.FAILED if stage is Stage.FAILED else ShadowState.ENDED
    after = replace(
        record,
        stage=stage,
        ticket=record.ticket + 1,
        deadline_s=None,
        retry_at_s=None,
        starting=False,
        reason=reason,
        detail=detail[:500],
    )
    return after, [*_halt(record), Report(state, reason, detail), Collect()]


def _current(record: Record, stage: Stage, ticket: int) -> bool:
    return record.stage is stage and record.ticket == ticket


def _listed(record: Record, event: Listed, now_s: float, limits: Limits) -> Step:
    return record, [FetchBlobs()] if _current(record, Stage.FETCHING, event.ticket) else []


def _fetched(record: Record, event: Fetched, now_s: float, limits: Limits) -> Step:
    if not _current(record, Stage.FETCHING, event.ticket):
        return record, []
    ready = replace(record, stage=Stage.READY, ticket=record.ticket + 1, deadline_s=None, retry_at_s=None, attempts=0)
    return replace(ready, reason=Reason.OK, detail=""), [Report(ShadowState.WAITING), Ready(), Collect()]


def _refused(record: Record, event: Refused, now_s: float, limits: Limits) -> Step:
    if not _current(record, Stage.FETCHING, event.ticket):
        return record, []
    return _end(record, Stage.FAILED, event.reason, event.detail)


def _delayed(record: Record, event: Delayed, now_s: float, limits: Limits) -> Step:
    if not _current(record, Stage.FETCHING, event.ticket):
        return record, []
    longest_s = min(limits.retry_max_s, limits.retry_first_s * 2 ** min(record.attempts, 20))
    retry_at_s = now_s + longest_s * (0.5 + 0.5 * event.jitter)
    after = replace(record, attempts=record.attempts + 1, retry_at_s=retry_at_s)
    return replace(after, reason=event.reason, detail=event.detail[:500]), []


def _loading(record: Record, event: Loading, now_s: float, limits: Limits) -> Step:
    if record.stage is not Stage.READY or record.retry_at_s is not None:
        return record, []
    return replace(record, starting=True), [Load()]


def _proven(record: Record, event: Proven, now_s: float, limits: Limits) -> Step:
    return replace(record, starting=False, strikes=0) if record.starting or record.strikes else record, []


def _rested(record: Record, event: Rested, now_s: float, limits: Limits) -> Step:
    return replace(record, starting=False) if record.starting else record, []


def _struck(record: Record, event: Struck, now_s: float, limits: Limits) -> Step:
    if record.stage is not Stage.READY:
        return record, []
    strikes = record.strikes + 1
    if event.final or strikes >= STRIKES:
        times = f" ({strikes} times)" if strikes > 1 else ""
        return _end(replace(record, strikes=strikes), Stage.FAILED, event.reason, f"{event.detail}{times}")
    wait_s = AGAIN_S * 2.0 ** (strikes - 1)
    after = replace(record, strikes=strikes, variant=record.variant + 1, starting=False, retry_at_s=now_s + wait_s)
    return replace(after, reason=event.reason, detail=event.detail[:500]), []


def _lost(record: Record, event: Lost, now_s: float, limits: Limits) -> Step:
    if record.stage is not Stage.READY:
        return record, []
    strikes = record.strikes + 1  # a disk that spoils it again and again is not worth the transfers
    if strikes >= STRIKES:
        return _end(record, Stage.FAILED, Reason.STORAGE, f"its files were gone or damaged ({strikes} times)")
    after = replace(record, stage=Stage.FETCHING, ticket=record.ticket + 1, strikes=strikes, starting=False)
    after = replace(after, retry_at_s=None, deadline_s=now_s + limits.download_s)
    return after, [Stop(), Report(ShadowState.FETCHING), Fetch()]


def _boot(record: Record, event: Boot, now_s: float, limits: Limits) -> Step:
    record = replace(record, ticket=record.ticket + 1, retry_at_s=None)
    if record.stage is Stage.FETCHING:
        return replace(record, deadline_s=now_s + limits.download_s), [Fetch()]
    if not event.here:
        return _lost(record, Lost(), now_s, limits)
    if record.starting:
        record, wishes = _struck(record, Struck(Reason.POWER_CUT, "restarted while it was tried"), now_s, limits)
        return record, wishes if record.final else [*wishes, Ready()]
    return record, [Ready()]


def _online(record: Record, event: Online, now_s: float, limits: Limits) -> Step:
    passing = record.stage is Stage.FETCHING and record.retry_at_s is not None and record.reason in _PASSING
    return replace(record, retry_at_s=now_s) if passing else record, []


def _tick(record: Record, event: Tick, now_s: float, limits: Limits) -> Step:
    if event.wall_s >= record.terms.until_s:
        return _end(record, Stage.OVER, Reason.OK, "its time is over")
    if event.serves == record.terms.bundle:
        return _end(record, Stage.OVER, Reason.OK, "it serves now")
    if record.deadline_s is not None and now_s >= record.deadline_s:
        detail = record.detail or "not here within the deadline"
        return _end(record, Stage.FAILED, record.reason if record.detail else Reason.TIMEOUT, detail)
    if record.retry_at_s is None or now_s < record.retry_at_s:
        return record, []
    record = replace(record, retry_at_s=None)
    if record.stage is Stage.FETCHING:
        return replace(record, ticket=record.ticket + 1), [Fetch()]
    return record, [Ready()]


_HANDLERS: dict[type, Callable[[Record, Any, float, Limits], Step]] = {
    Listed: _listed,
    Fetched: _fetched,
    Refused: _refused,
    Delayed: _delayed,
    Loading: _loading,
    Proven: _proven,
    Rested: _rested,
    Struck: _struck,
    Lost: _lost,
    Boot: _boot,
    Online: _online,
    Tick: _tick,
}

"""The rollout machine: (state, event, now) -> (state, effects). No clock, no chance, no input or output.

Canary, then waves in the order of `rank`. The fleet's service and the simulator run this same machine. An event costs
O(log devices) at most, except the three that touch every device anyway (abort, rollback, restore).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

from skerry_contracts.device import Phase, Reason
from skerry_fleet.errors import ConflictError
from skerry_fleet.rollout_words import (
    BLOCKING,
    OVER,
    UNCONFIRMED,
    Confirmed,
    Effect,
    Failed,
    Heard,
    Issued,
    Joined,
    Left,
    Member,
    Moved,
    Offer,
    Order,
    Ordered,
    Place,
    Plan,
    Reached,
    Regressed,
    Reported,
    Revert,
    RolloutEvent,
    State,
    Status,
    Tick,
    rank,
)

NO_VERDICT = (Reason.SUPERSEDED, Reason.REPLAYED)
"""The device turned to a newer assignment: nothing is said of the bundle."""
TRANSIENT = (Reason.NETWORK, Reason.EXPIRED)
"""The bundle was never tried: worth another attempt."""
_OFFERING = (Status.RUNNING, Status.COMPLETE)
_WATCHED = (Status.RUNNING, Status.PAUSED, Status.COMPLETE)


def start(rollout: str, bundle: str, plan: Plan, devices: Iterable[tuple[str, bool]], now: float) -> State:
    """Return a new rollout of (device, within reach); the first event, such as a `Tick`, sets it off."""
    status = Status.AWAITING_APPROVAL if plan.approval else Status.RUNNING
    state = State(rollout, bundle, plan, status, allowance=plan.exposure_budget)
    members = [Member(device, rank(rollout, device), reachable=reachable, since=now) for device, reachable in devices]
    state.changed.update(member.device for member in members)
    return restore(state, members)


def restore(state: State, members: Iterable[Member]) -> State:
    """Put members into a state that has none, as after a restart: counters and heaps are built anew."""
    for member in members:
        state.members[member.device] = member
        state.counts[member.place] += 1
        member.queued = False
        if member.place is Place.WAITING and member.reachable:
            state.ready_count += 1
            _queue(state, member)
        if member.due is not None:
            heapq.heappush(state.timers, (member.due, member.device))
    return state


def step(state: State, event: RolloutEvent, now: float) -> tuple[State, list[Effect]]:
    """Take in one event and return what is to be done. The state is changed in place.

    Raises:
        ConflictError: an order that the rollout's status does not allow; nothing is changed.
    """
    effects: list[Effect] = []
    if state.status not in OVER:
        _HANDLERS[type(event)](state, event, now, effects)
        _pump(state, now, effects)
    elif isinstance(event, Ordered):
        raise ConflictError(f"rollout {state.rollout} is {state.status}", hint="start a new rollout")
    return state, effects


def quota(state: State) -> int:
    """Return how many devices the present stage may reach."""
    total = len(state.members)
    canary = min(state.plan.canary, total)
    if state.stage == 0:
        return canary
    return max(canary, -(-total * state.plan.waves[state.stage - 1].percent // 100))


def limit(state: State) -> int:
    """Return how large exposure may be now: what the waves granted, but only the plain budget once a device has
    failed.
    """
    return min(state.allowance, state.plan.exposure_budget) if state.counts[Place.FAILED] else state.allowance


def next_due(state: State) -> float | None:
    """Return when the next timer may run out; a `Tick` before that changes nothing."""
    return state.timers[0][0] if state.timers else None


# Places ----------------------------------------------------------------------------------------------


def _move(state: State, member: Member, place: Place, now: float, due: float | None = None) -> None:
    if member.place is Place.WAITING and member.reachable:
        state.ready_count -= 1
    state.counts[member.place] -= 1
    state.counts[place] += 1
    member.place, member.since, member.due = place, now, due
    if due is not None:
        heapq.heappush(state.timers, (due, member.device))
    state.changed.add(member.device)


def _queue(state: State, member: Member) -> None:
    if not member.queued:
        member.queued = True
        heapq.heappush(state.ready, (member.rank, member.device))


def _set_reachable(state: State, member: Member, reachable: bool) -> None:
    if member.reachable is reachable:
        return
    member.reachable = reachable
    if member.place is Place.WAITING:
        state.ready_count += 1 if reachable else -1
        if reachable:
            _queue(state, member)


def _deadline(state: State, now: float) -> float | None:
    return now + state.plan.timeout_s if state.plan.timeout_s else None


def _fail(state: State, member: Member, reason: str, now: float, effects: list[Effect]) -> None:
    """Count a device as failed and take it back; too many take everything back."""
    # A device that had proved the bundle and fails long after the end says something of the device, not of the rollout.
    late = state.status is Status.COMPLETE and member.place is Place.CONFIRMED
    member.reason = reason
    _move(state, member, Place.FAILED, now)
    effects += [Failed(member.device, reason), Revert(member.device)]
    failed = state.counts[Place.FAILED]
    if failed > state.plan.failure_budget and state.status in _WATCHED and not late:
        _take_back(state, f"{failed} failed, budget {state.plan.failure_budget}: {reason}", now, effects)


def _take_back(state: State, reason: str, now: float, effects: list[Effect]) -> None:
    _shift(state, Status.ROLLING_BACK, reason, effects)
    _revert(state, (*UNCONFIRMED, Place.CONFIRMED), now, effects)
    _check_returned(state, effects)


def _revert(state: State, places: tuple[Place, ...], now: float, effects: list[Effect]) -> None:
    for member in state.members.values():
        if member.place in places:
            _move(state, member, Place.RETURNING, now)
            effects.append(Revert(member.device))


def _check_returned(state: State, effects: list[Effect]) -> None:
    if state.status is Status.ROLLING_BACK and not state.counts[Place.RETURNING]:
        _shift(state, Status.ROLLED_BACK, state.reason, effects)


def _shift(state: State, status: Status, reason: str, effects: list[Effect]) -> None:
    state.status, state.reason = status, reason
    effects.append(Moved(status, state.stage, reason))


# Stages ----------------------------------------------------------------------------------------------


def _pump(state: State, now: float, effects: list[Effect]) -> None:
    """Offer to as many devices as stage and budget allow; move on where the stage is done."""
    while True:
        while state.status in _OFFERING and state.ready_count and _room(state) and state.exposure < limit(state):
            member = _next_ready(state)
            _move(state, member, Place.OFFERED, now, _deadline(state, now))
            effects.append(Offer(member.device))
        if state.status is not Status.RUNNING or not _stage_done(state):
            return
        if state.stage == len(state.plan.waves):
            _shift(state, Status.COMPLETE, "", effects)
            continue  # devices that were out of reach may be waiting by now
        state.stage += 1
        if not state.counts[Place.FAILED]:
            granted = state.plan.waves[state.stage - 1].in_flight or state.plan.exposure_budget
            state.allowance = max(state.allowance, granted)
        _shift(state, Status.RUNNING, "", effects)


def _room(state: State) -> bool:
    """Whether the stage may reach one device more. A canary that failed is replaced: the stage asks for
    confirmations.
    """
    taken = state.offered - (state.counts[Place.FAILED] if state.stage == 0 else 0)
    return taken < quota(state)


def _next_ready(state: State) -> Member:
    while True:
        _, device = heapq.heappop(state.ready)
        member = state.members.get(device)
        if member is None or not member.queued:
            continue
        member.queued = False
        if member.place is Place.WAITING and member.reachable:
            return member


def _stage_done(state: State) -> bool:
    if any(state.counts[place] for place in UNCONFIRMED):
        return False
    if state.stage == 0:
        return state.counts[Place.CONFIRMED] >= quota(state)
    # Devices out of reach do not hold up the others; they catch up when they are heard of.
    return not _room(state) or not state.ready_count


# Events ----------------------------------------------------------------------------------------------


def _on_joined(state: State, event: Joined, now: float, effects: list[Effect]) -> None:
    if event.device in state.members:
        return
    member = Member(event.device, rank(state.rollout, event.device), since=now)
    state.members[event.device] = member
    state.counts[Place.WAITING] += 1
    state.changed.add(event.device)
    _set_reachable(state, member, event.reachable)


def _on_left(state: State, event: Left, now: float, effects: list[Effect]) -> None:
    member = state.members.pop(event.device, None)
    if member is None:
        return
    if member.place is Place.WAITING and member.reachable:
        state.ready_count -= 1
    state.counts[member.place] -= 1
    state.changed.discard(event.device)
    if not state.members and state.status in BLOCKING:
        _shift(state, Status.SUPERSEDED, "no device is left", effects)
    _check_returned(state, effects)


def _on_reached(state: State, event: Reached, now: float, effects: list[Effect]) -> None:
    member = state.members.get(event.device)
    if member is not None:
        _set_reachable(state, member, event.reachable)


def _on_issued(state: State, event: Issued, now: float, effects: list[Effect]) -> None:
    member = state.members.get(event.device)
    if member is not None:
        member.floor = event.sequence
        state.changed.add(member.device)


def _on_reported(state: State, event: Reported, now: float, effects: list[Effect]) -> None:
    member = state.members.get(event.device)
    if member is None or event.sequence < member.floor or event.reason in NO_VERDICT:
        return
    ended_badly = event.phase in (Phase.FAILED, Phase.ROLLED_BACK)
    if member.place is Place.RETURNING:
        if event.phase is Phase.ROLLED_BACK or (event.phase is Phase.COMMITTED and event.bundle != state.bundle):
            _move(state, member, Place.RETURNED, now)
            _check_returned(state, effects)
    elif event.bundle != state.bundle:
        return
    elif event.phase is Phase.COMMITTED and member.place in (Place.OFFERED, Place.RETRYING):
        _move(state, member, Place.SOAKING, now, _deadline(state, now))
    elif ended_badly and event.reason in TRANSIENT and member.place is Place.RETRYING:
        return
    elif (
        ended_badly
        and event.reason in TRANSIENT
        and member.place is Place.OFFERED
        and member.attempts < state.plan.retries
    ):
        member.attempts += 1
        # A share of the rank spreads devices that failed together, without chance.
        wait_s = state.plan.retry_s * 2 ** (member.attempts - 1) * (1 + member.rank % 1000 / 4000)
        _move(state, member, Place.RETRYING, now, now + wait_s)
    elif ended_badly and member.place in (*UNCONFIRMED, Place.CONFIRMED):
        _fail(state, member, str(event.reason), now, effects)


def _on_heard(state: State, event: Heard, now: float, effects: list[Effect]) -> None:
    member = state.members.get(event.device)
    if member is None:
        return
    _set_reachable(state, member, True)
    if event.sequence < member.floor:
        return
    if member.place is Place.RETURNING:
        if event.bundle != state.bundle:
            _move(state, member, Place.RETURNED, now)
            _check_returned(state, effects)
    elif event.bundle != state.bundle or not event.serving:
        return
    elif member.place is Place.OFFERED:
        _move(state, member, Place.SOAKING, now, _deadline(state, now))
    elif member.place is Place.SOAKING and now >= member.since + state.plan.soak_s:
        _move(state, member, Place.CONFIRMED, now)
        effects.append(Confirmed(member.device))


def _on_regressed(state: State, event: Regressed, now: float, effects: list[Effect]) -> None:
    member = state.members.get(event.device)
    if member is not None and member.place in (Place.OFFERED, Place.SOAKING, Place.CONFIRMED):
        _fail(state, member, event.reason, now, effects)


def _on_tick(state: State, event: Tick, now: float, effects: list[Effect]) -> None:
    while state.timers and state.timers[0][0] <= now:
        due, device = heapq.heappop(state.timers)
        member = state.members.get(device)
        if member is None or member.due != due:
            continue
        if member.place is Place.RETRYING:
            _move(state, member, Place.OFFERED, now, _deadline(state, now))
            effects.append(Offer(device))
        elif member.place in UNCONFIRMED:
            _fail(state, member, "silent", now, effects)


_ALLOWED: dict[Order, tuple[Status, ...]] = {
    Order.APPROVE: (Status.AWAITING_APPROVAL,),
    Order.PAUSE: (Status.RUNNING,),
    Order.RESUME: (Status.PAUSED,),
    Order.ABORT: (Status.AWAITING_APPROVAL, Status.RUNNING, Status.PAUSED, Status.COMPLETE),
    Order.ROLL_BACK: (Status.RUNNING, Status.PAUSED, Status.COMPLETE, Status.ABORTED),
}


def _on_ordered(state: State, event: Ordered, now: float, effects: list[Effect]) -> None:
    if state.status not in _ALLOWED[event.order]:
        allowed = ", ".join(_ALLOWED[event.order])
        raise ConflictError(f"rollout {state.rollout} is {state.status}; {event.order} needs {allowed}")
    if event.order is Order.PAUSE:
        _shift(state, Status.PAUSED, event.reason, effects)
    elif event.order is Order.ABORT:
        _shift(state, Status.ABORTED, event.reason or "ordered", effects)
        _revert(state, UNCONFIRMED, now, effects)
    elif event.order is Order.ROLL_BACK:
        _take_back(state, event.reason or "ordered", now, effects)
    else:
        _shift(state, Status.RUNNING, event.reason, effects)


_HANDLERS: dict[type, Callable[[State, Any, float, list[Effect]], None]] = {
    Joined: _on_joined,
    Left: _on_left,
    Reached: _on_reached,
    Issued: _on_issued,
    Reported: _on_reported,
    Heard: _on_heard,
    Regressed: _on_regressed,
    Tick: _on_tick,
    Ordered: _on_ordered,
}

"""The rollout machine: (state, event, now) -> (state, effects). No clock, no chance, no input or output.

Canary, then waves in the order of `rank`. The fleet's service and the simulator run this same machine. An event costs
O(log devices) at most, except those that touch every device anyway (abort, rollback, harm, restore).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

from skerry_contracts.device import Phase, Reason
from skerry_fleet import rollout_stages as stages
from skerry_fleet.errors import ConflictError
from skerry_fleet.rollout_plan import Plan
from skerry_fleet.rollout_words import (
    BLOCKING,
    OVER,
    UNCONFIRMED,
    WATCHED,
    Effect,
    Harmed,
    Heard,
    Issued,
    Joined,
    Left,
    Member,
    Offer,
    Order,
    Ordered,
    Place,
    Reached,
    Regressed,
    Reported,
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


def start(
    rollout: str, bundle: str, plan: Plan, devices: Iterable[tuple[str, bool]], now: float, size_bytes: int = 0
) -> State:
    """Return a new rollout of (device, within reach); the first event, such as a `Tick`, sets it off."""
    status = Status.AWAITING_APPROVAL if plan.approval else Status.RUNNING
    state = State(rollout, bundle, plan, status, allowance=plan.exposure_budget, size_bytes=size_bytes)
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
            stages.queue(state, member)
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
        if not isinstance(event, Issued):  # which moves nothing
            stages.pump(state, now, effects)
    elif isinstance(event, Ordered):
        raise ConflictError(f"rollout {state.rollout} is {state.status}", hint="start a new rollout")
    return state, effects


def next_due(state: State) -> float | None:
    """Return when the next timer may run out, or the pace allows an offer; a `Tick` before that changes nothing.

    0 where offers wait for nothing but the caller (`State.left`, or a restart).
    """
    due = state.timers[0][0] if state.timers else None
    if stages.wants(state):
        paced = max(0.0, state.paced - stages.BURST_S)
        return paced if due is None else min(due, paced)
    return due


# Events ----------------------------------------------------------------------------------------------


def _on_joined(state: State, event: Joined, now: float, effects: list[Effect]) -> None:
    if event.device in state.members:
        return
    member = Member(event.device, rank(state.rollout, event.device), since=now)
    state.members[event.device] = member
    state.counts[Place.WAITING] += 1
    state.changed.add(event.device)
    stages.set_reachable(state, member, event.reachable)


def _on_left(state: State, event: Left, now: float, effects: list[Effect]) -> None:
    member = state.members.pop(event.device, None)
    if member is None:
        return
    if member.place is Place.WAITING and member.reachable:
        state.ready_count -= 1
    state.counts[member.place] -= 1
    state.changed.discard(event.device)
    if not state.members and state.status in BLOCKING:
        stages.shift(state, Status.SUPERSEDED, "no device is left", effects)
    stages.check_returned(state, effects)


def _on_reached(state: State, event: Reached, now: float, effects: list[Effect]) -> None:
    member = state.members.get(event.device)
    if member is not None:
        stages.set_reachable(state, member, event.reachable)


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
            stages.move(state, member, Place.RETURNED, now)
            stages.check_returned(state, effects)
    elif event.bundle != state.bundle:
        return
    elif event.phase is Phase.COMMITTED and member.place in (Place.OFFERED, Place.RETRYING):
        stages.soak(state, member, now, effects)
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
        stages.move(state, member, Place.RETRYING, now, now + wait_s)
    elif ended_badly and member.place in (*UNCONFIRMED, Place.CONFIRMED):
        stages.fail(state, member, str(event.reason), now, effects)


def _on_heard(state: State, event: Heard, now: float, effects: list[Effect]) -> None:
    member = state.members.get(event.device)
    if member is None:
        return
    stages.set_reachable(state, member, True)
    if event.sequence < member.floor:
        return
    if member.place is Place.RETURNING:
        if event.bundle != state.bundle:
            stages.move(state, member, Place.RETURNED, now)
            stages.check_returned(state, effects)
    elif event.bundle != state.bundle or not event.serving:
        return
    elif member.place is Place.OFFERED:
        stages.soak(state, member, now, effects)
    elif member.place is Place.SOAKING and now >= member.since + state.plan.soak_s:
        stages.confirm(state, member, now, effects)


def _on_regressed(state: State, event: Regressed, now: float, effects: list[Effect]) -> None:
    member = state.members.get(event.device)
    if member is not None and member.place in (Place.OFFERED, Place.SOAKING, Place.CONFIRMED):
        stages.fail(state, member, event.reason, now, effects)


def _on_harmed(state: State, event: Harmed, now: float, effects: list[Effect]) -> None:
    if state.status in WATCHED:
        stages.take_back(state, event.reason, now, effects)


def _on_tick(state: State, event: Tick, now: float, effects: list[Effect]) -> None:
    while state.timers and state.timers[0][0] <= now:
        due, device = heapq.heappop(state.timers)
        member = state.members.get(device)
        if member is None or member.due != due:
            continue
        if member.place is Place.RETRYING:
            stages.move(state, member, Place.OFFERED, now, stages.deadline(state, now))
            effects.append(Offer(device))
        elif member.place in UNCONFIRMED:
            stages.fail(state, member, "silent", now, effects)


ALLOWED: dict[Order, tuple[Status, ...]] = {
    Order.APPROVE: (Status.AWAITING_APPROVAL,),
    Order.PAUSE: (Status.RUNNING,),
    Order.RESUME: (Status.PAUSED,),
    Order.ABORT: (Status.AWAITING_APPROVAL, Status.RUNNING, Status.PAUSED, Status.COMPLETE),
    Order.ROLL_BACK: (Status.RUNNING, Status.PAUSED, Status.COMPLETE, Status.ABORTED),
}
"""The statuses in which each order is taken."""


def _on_ordered(state: State, event: Ordered, now: float, effects: list[Effect]) -> None:
    if state.status not in ALLOWED[event.order]:
        allowed = ", ".join(ALLOWED[event.order])
        raise ConflictError(f"rollout {state.rollout} is {state.status}; {event.order} needs {allowed}")
    if event.order is Order.PAUSE:
        stages.shift(state, Status.PAUSED, event.reason, effects)
    elif event.order is Order.ABORT:
        stages.shift(state, Status.ABORTED, event.reason or "ordered", effects)
        stages.revert(state, UNCONFIRMED, now, effects)
    elif event.order is Order.ROLL_BACK:
        stages.take_back(state, event.reason or "ordered", now, effects)
    else:
        stages.shift(state, Status.RUNNING, event.reason, effects)


_HANDLERS: dict[type, Callable[[State, Any, float, list[Effect]], None]] = {
    Joined: _on_joined,
    Left: _on_left,
    Reached: _on_reached,
    Issued: _on_issued,
    Reported: _on_reported,
    Heard: _on_heard,
    Regressed: _on_regressed,
    Harmed: _on_harmed,
    Tick: _on_tick,
    Ordered: _on_ordered,
}

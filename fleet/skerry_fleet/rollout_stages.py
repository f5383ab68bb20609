"""What moves inside a rollout: places of devices, stages, and the budget that every offer must fit into.

The steps of `rollout_machine`, which is the way in; only `rollout_preview` asks here, too.
"""

from __future__ import annotations

import heapq

from skerry_fleet.rollout_words import (
    UNCONFIRMED,
    WATCHED,
    Confirmed,
    Effect,
    Failed,
    Member,
    Moved,
    Offer,
    Place,
    Revert,
    State,
    Status,
)

BURST_S = 1.0
_OFFERING = (Status.RUNNING, Status.COMPLETE)


def quota(state: State) -> int:
    """Return how many devices the present stage may reach; those held out wait until the rollout is complete."""
    total = len(state.members)
    held = 0 if state.status is Status.COMPLETE else total * state.plan.holdout // 100
    canary = min(state.plan.canary, total)
    if state.stage == 0:
        return canary
    return max(canary, min(total - held, -(-total * state.plan.waves[state.stage - 1].percent // 100)))


def limit(state: State) -> int:
    """Return how large exposure may be now: what the waves granted, but only the plain budget once a device has
    failed.
    """
    return min(state.allowance, state.plan.exposure_budget) if state.counts[Place.FAILED] else state.allowance


# Places ----------------------------------------------------------------------------------------------


def move(state: State, member: Member, place: Place, now: float, due: float | None = None) -> None:
    """Put a member in another place; `due` sets its timer."""
    if member.place is Place.WAITING and member.reachable:
        state.ready_count -= 1
    state.counts[member.place] -= 1
    state.counts[place] += 1
    member.place, member.since, member.due = place, now, due
    if due is not None:
        heapq.heappush(state.timers, (due, member.device))
    state.changed.add(member.device)


def queue(state: State, member: Member) -> None:
    """Put a member in line for an offer."""
    if not member.queued:
        member.queued = True
        heapq.heappush(state.ready, (member.rank, member.device))


def set_reachable(state: State, member: Member, reachable: bool) -> None:
    """Note whether a device can be heard; one that waits joins or leaves the line."""
    if member.reachable is reachable:
        return
    member.reachable = reachable
    if member.place is Place.WAITING:
        state.ready_count += 1 if reachable else -1
        if reachable:
            queue(state, member)


def deadline(state: State, now: float) -> float | None:
    """Return when an offer made now counts as failed; None: never."""
    return now + state.plan.timeout_s if state.plan.timeout_s else None


def soak(state: State, member: Member, now: float, effects: list[Effect]) -> None:
    """Take in a device's commit, which it makes after watching the bundle itself; without a soak that is proof
    enough.
    """
    if state.plan.soak_s == 0:
        confirm(state, member, now, effects)
    else:
        move(state, member, Place.SOAKING, now, deadline(state, now))


def confirm(state: State, member: Member, now: float, effects: list[Effect]) -> None:
    """The bundle has proved itself on a device."""
    move(state, member, Place.CONFIRMED, now)
    effects.append(Confirmed(member.device))


def fail(state: State, member: Member, reason: str, now: float, effects: list[Effect]) -> None:
    """Count a device as failed and take it back; too many take everything back."""
    # A device that had proved the bundle and fails long after the end says something of the device, not of the rollout.
    late = state.status is Status.COMPLETE and member.place is Place.CONFIRMED
    member.reason = reason
    move(state, member, Place.FAILED, now)
    effects += [Failed(member.device, reason), Revert(member.device)]
    failed = state.counts[Place.FAILED]
    if failed > state.plan.failure_budget and state.status in WATCHED and not late:
        take_back(state, f"{failed} failed, budget {state.plan.failure_budget}: {reason}", now, effects)


def take_back(state: State, reason: str, now: float, effects: list[Effect]) -> None:
    """Roll everything back."""
    shift(state, Status.ROLLING_BACK, reason, effects)
    revert(state, (*UNCONFIRMED, Place.CONFIRMED), now, effects)
    check_returned(state, effects)


def revert(state: State, places: tuple[Place, ...], now: float, effects: list[Effect]) -> None:
    """Send every member in these places back to what it had."""
    for member in state.members.values():
        if member.place in places:
            move(state, member, Place.RETURNING, now)
            effects.append(Revert(member.device))


def check_returned(state: State, effects: list[Effect]) -> None:
    """Finish a rollback when the last device is back."""
    if state.status is Status.ROLLING_BACK and not state.counts[Place.RETURNING]:
        shift(state, Status.ROLLED_BACK, state.reason, effects)


def shift(state: State, status: Status, reason: str, effects: list[Effect]) -> None:
    """Change the status (or the stage, which the caller has moved) and say so."""
    state.status, state.reason = status, reason
    effects.append(Moved(status, state.stage, reason))


# Stages ----------------------------------------------------------------------------------------------


def pump(state: State, now: float, effects: list[Effect]) -> None:
    """Offer to as many devices as stage and budget allow; move on where the stage is done."""
    while True:
        while state.left > 0 and wants(state) and on_pace(state, now):
            state.left -= 1
            member = _next_ready(state)
            move(state, member, Place.OFFERED, now, deadline(state, now))
            effects.append(Offer(member.device))
        if state.status is not Status.RUNNING or not _stage_done(state):
            return
        if state.stage == len(state.plan.waves):
            shift(state, Status.COMPLETE, "", effects)
            continue  # devices that were out of reach may be waiting by now
        state.stage += 1
        if not state.counts[Place.FAILED]:
            granted = state.plan.waves[state.stage - 1].in_flight or state.plan.exposure_budget
            state.allowance = max(state.allowance, granted)
        shift(state, Status.RUNNING, "", effects)


def wants(state: State) -> bool:
    """Return whether another device may be offered the bundle, if it is not too early."""
    return state.status in _OFFERING and state.ready_count > 0 and _room(state) and state.exposure < limit(state)


def on_pace(state: State, now: float) -> bool:
    """Take a place in the plan's pace, if it is not too early; `BURST_S` worth of offers may go at once (the generic
    cell rate algorithm, ITU-T I.371).
    """
    interval = state.plan.interval_s(state.counts[Place.CONFIRMED], state.size_bytes)
    if interval and state.paced - BURST_S > now:
        return False
    state.paced = max(state.paced, now) + interval
    return True


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

"""The update machine: (record, event, now) -> (record, effects), pure. The daemon and the simulator run this very code.

    idle ──Offered──▶ downloading ──Fetched──▶ verified ──window──▶ trial ──TrialPassed──▶ observing ──served well──▶
    idle
      ▲                   │ Refused, deadline      │ deadline          │ TrialFailed, deadline   │ Unhealthy: back to
      previous └───────────────────┴────────────────────────┴───────────────────┴─────────────────────────┘

Every stage but idle has a deadline, and a newer order replaces an older one, so no update stays in progress. What
serves changes only by TrialPassed (forward) and by a roll back to what served before; the caller makes the new record
durable before it carries out the effects, so a power cut at any moment finds a bundle that works. A second boot
within trial or observation rolls back. What says little of a candidate (a crash, a second boot, rotten files) takes it
back, too, and is no failure yet: it is tried again, twice.

A trial or an observation counts time in which it could be seen. A Tick that comes long after its deadline means that
the process was stopped (a debugger, a frozen machine), and the time begins anew; so it does while a person has
unloaded the model that is observed, until he loads it again or the fleet wants another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from skerry_agent import records, steps
from skerry_agent.records import Effect, Event, Installed, Limits, Record, Report, Stage
from skerry_agent.steps import Step
from skerry_contracts.device import Phase, Reason

MAX_BOOTS = 2
NOTHING_SERVES_S = 30.0  # the longest pause between attempts to serve anything at all
STOPPED_S = 30.0  # a Tick so much later than it was due: nobody was there to see the time pass
_PHASE = {
    Stage.DOWNLOADING: Phase.DOWNLOADING,
    Stage.VERIFIED: Phase.VERIFIED,
    Stage.TRIAL: Phase.TRIAL,
    Stage.OBSERVING: Phase.TRIAL,
}


def advance(record: Record, event: Event, now_s: float, limits: Limits) -> Step:
    """Return the record after an event, and what is to be done. `now_s` is monotonic seconds of this boot."""
    return _HANDLERS[type(event)](record, event, now_s, limits)


def wake_s(record: Record) -> float | None:
    """Return when a Tick is due (monotonic seconds); None: nothing waits for time to pass."""
    times = [time for time in (record.deadline_s, record.retry_at_s, record.serve_at_s) if time is not None]
    return min(times, default=None)


def _offered(record: Record, event: records.Offered, now_s: float, limits: Limits) -> Step:
    order = event.order
    if record.order is not None and record.stage != Stage.IDLE and order.bundle == record.order.bundle:
        gone = steps.superseded(record.following)
        return replace(record, order=order, following=None), [*gone, Report(order, _PHASE[record.stage])]
    if record.stage == Stage.OBSERVING:
        gone = steps.superseded(record.following)
        if record.previous is None or order.bundle != record.previous.bundle:
            return replace(record, following=order), gone  # its turn comes when the observation is over, in seconds
        record, effects = steps.roll_back(replace(record, following=None), Reason.ORDERED, "the fleet went back")
        return steps.then(gone + effects, steps.begin(record, order, now_s, limits))
    record, effects = steps.abandon(record)
    return steps.then(effects, steps.begin(record, order, now_s, limits))


def _unnamed(record: Record, event: records.Unnamed, now_s: float, limits: Limits) -> Step:
    observed = record.stage == Stage.OBSERVING
    effects = steps.superseded(record.following)
    if not observed:
        record, more = steps.abandon(record)
        effects += more
    served = record.active is not None and record.order is not None and record.active.bundle == record.order.bundle
    if record.order is not None and served:
        effects.append(Report(record.order, Phase.ROLLED_BACK, Reason.ORDERED, "no longer assigned"))
    if record.active != record.factory:
        effects.append(records.Serve(record.factory) if record.factory else records.Stop())
    record = replace(
        steps.idle(record), active=record.factory, previous=None, order=None, following=None, measured=None
    )
    return record, [*effects, records.Collect()]


def _listed(record: Record, event: records.Listed, now_s: float, limits: Limits) -> Step:
    if record.stage != Stage.DOWNLOADING or event.ticket != record.ticket or record.order is None:
        return record, []
    return record, [Report(record.order, Phase.DOWNLOADING), records.StartBlobs()]


def _fetched(record: Record, event: records.Fetched, now_s: float, limits: Limits) -> Step:
    if record.stage != Stage.DOWNLOADING or event.ticket != record.ticket or record.order is None:
        return record, []
    record = replace(
        steps.idle(record), stage=Stage.VERIFIED, deadline_s=now_s + limits.window_s, trouble=None, trouble_detail=""
    )
    effects: list[Effect] = [Report(steps.order_of(record), Phase.VERIFIED)]
    return (
        steps.then(effects, steps.try_out(record, now_s, limits))
        if steps.order_of(record).assigned.window is None
        else (record, effects)
    )


def _refused(record: Record, event: records.Refused, now_s: float, limits: Limits) -> Step:
    if record.stage != Stage.DOWNLOADING or event.ticket != record.ticket:
        return record, []
    if event.reason in steps.PASSING:
        return steps.hold(record, event.reason, event.detail, now_s, limits)
    return steps.fail(record, event.reason, event.detail, now_s, limits)


def _delayed(record: Record, event: records.Delayed, now_s: float, limits: Limits) -> Step:
    if record.stage != Stage.DOWNLOADING or event.ticket != record.ticket:
        return record, []
    longest_s = min(limits.retry_max_s, limits.retry_first_s * 2 ** min(record.attempts, 20))
    told: list[Effect] = []
    if event.reason not in steps.UNREACHED and event.reason is not record.trouble:  # what the fleet has is wrong
        told.append(Report(steps.order_of(record), Phase.DOWNLOADING, event.reason, event.detail))
    record = replace(
        record,
        attempts=record.attempts + 1,
        retry_at_s=now_s + longest_s * (0.5 + 0.5 * event.jitter),
        trouble=event.reason,
        trouble_detail=event.detail,
    )
    return record, told


def _trial_passed(record: Record, event: records.TrialPassed, now_s: float, limits: Limits) -> Step:
    if record.stage != Stage.TRIAL or event.ticket != record.ticket or record.order is None:
        return record, []
    order = record.order
    fresh = Installed(
        order.bundle,
        order.assigned.version,
        order.assigned.release,
        event.measured,
        order.sequence,
        order.assigned.rollout,
    )
    record = replace(
        steps.idle(record),
        stage=Stage.OBSERVING,
        active=fresh,
        previous=record.active,
        measured=event.measured,
        serve_at_s=None,
        deadline_s=now_s + limits.observe_s,
    )
    return record, [records.Swap()]


def _trial_failed(record: Record, event: records.TrialFailed, now_s: float, limits: Limits) -> Step:
    if record.stage != Stage.TRIAL or event.ticket != record.ticket:
        return record, []
    if event.reason in steps.NO_FAULT:
        record, effects = steps.try_again(record, event.reason, event.detail, now_s, limits)
    else:
        record, effects = steps.fail(record, event.reason, event.detail, now_s, limits, final=True)
    return record, [records.StopTrial(), *effects]


def _served(record: Record, event: records.Served, now_s: float, limits: Limits) -> Step:
    if record.stage != Stage.OBSERVING:
        return record, []
    record = replace(record, served=record.served + event.count)
    return steps.commit(record, now_s, limits) if record.served >= limits.observe_predictions else (record, [])


def _unhealthy(record: Record, event: records.Unhealthy, now_s: float, limits: Limits) -> Step:
    if record.active is None or record.active.bundle != event.bundle:
        return record, []
    if record.stage == Stage.OBSERVING:
        return steps.doubt(record, event.reason, event.detail, now_s, limits)
    wanted = record.order is not None and record.order.bundle == event.bundle and record.stage == Stage.IDLE
    fallback = steps.fallback(record)
    if fallback is None:  # nothing else to serve: the same again, and a fresh download where one is ordered
        wait_s = min(limits.retry_max_s, NOTHING_SERVES_S, limits.retry_first_s * 2 ** min(record.attempts, 20))
        record = replace(record, serve_at_s=now_s + wait_s, attempts=record.attempts + 1)
        if record.stage == Stage.IDLE and record.order is not None:
            record = replace(record, retry_at_s=now_s + wait_s, trouble=event.reason)
        return record, []
    record = replace(record, active=fallback, previous=None)
    if wanted:
        return steps.then([records.Serve(fallback)], steps.repair(record, event.reason, event.detail, now_s, limits))
    return record, [records.Serve(fallback)]


def _boot(record: Record, event: records.Boot, now_s: float, limits: Limits) -> Step:
    factory = (
        event.factory or record.factory
    )  # one whose files cannot be read just now is still the one to come back to
    record = replace(record, factory=factory, active=record.active or factory, serve_at_s=None)
    serve: list[Effect] = [records.Serve(record.active)] if record.active is not None else []
    if record.stage == Stage.IDLE:
        retry_at_s = None if record.retry_at_s is None else now_s + limits.retry_first_s
        return replace(record, retry_at_s=retry_at_s), serve
    if record.stage == Stage.DOWNLOADING:
        record = replace(record, ticket=record.ticket + 1, deadline_s=now_s + limits.download_s, retry_at_s=None)
        return record, [*serve, records.StartFetch()]
    if record.stage == Stage.VERIFIED:
        return replace(record, deadline_s=now_s + limits.window_s), serve
    record = replace(record, boots=record.boots + 1, ticket=record.ticket + 1)
    if record.stage == Stage.TRIAL:
        if record.boots >= MAX_BOOTS:
            detail = "restarted twice during the trial"
            return steps.then(serve, steps.doubt_trial(record, Reason.POWER_CUT, detail, now_s, limits))
        return replace(record, deadline_s=now_s + limits.trial_s), [*serve, records.StartTrial()]
    if record.boots >= MAX_BOOTS:
        return steps.doubt(record, Reason.POWER_CUT, "restarted twice while it was observed", now_s, limits)
    return replace(record, deadline_s=now_s + limits.observe_s, served=0), serve


def _found(record: Record, event: records.Found, now_s: float, limits: Limits) -> Step:
    if record.factory is not None:
        return record, []
    record = replace(record, factory=event.factory)
    return (record, []) if record.active else (replace(record, active=event.factory), [records.Serve(event.factory)])


def _online(record: Record, event: records.Online, now_s: float, limits: Limits) -> Step:
    passing = record.trouble in (Reason.NETWORK, Reason.TIMEOUT, Reason.EXPIRED)
    return (replace(record, retry_at_s=now_s), []) if record.retry_at_s is not None and passing else (record, [])


def _tick(record: Record, event: records.Tick, now_s: float, limits: Limits) -> Step:
    if record.serve_at_s is None or now_s < record.serve_at_s:
        return _time(record, event, now_s, limits)
    record = replace(record, serve_at_s=None)
    serve: list[Effect] = [records.Serve(record.active)] if record.active is not None else []
    return steps.then(serve, _time(record, event, now_s, limits))


def _time(record: Record, event: records.Tick, now_s: float, limits: Limits) -> Step:
    late = record.deadline_s is not None and now_s >= record.deadline_s
    retry = record.retry_at_s is not None and now_s >= record.retry_at_s
    expired = record.order is not None and event.wall_s > record.order.expires_s
    stopped = record.deadline_s is not None and now_s >= record.deadline_s + STOPPED_S
    if record.stage == Stage.OBSERVING:
        if late and event.unloaded and record.following is not None:
            record, effects = steps.roll_back(record, Reason.SUPERSEDED, "it was unloaded before it had proved itself")
            return steps.then(effects, steps.next_order(record, now_s, limits))
        if late and (stopped or event.unloaded):
            return replace(record, deadline_s=now_s + limits.observe_s), []
        return steps.commit(record, now_s, limits) if late else (record, [])
    if record.stage == Stage.TRIAL:
        if not late:
            return record, []
        if stopped:
            return replace(record, deadline_s=now_s + limits.trial_s), []
        detail = f"no result within {limits.trial_s:g} s"
        record, effects = steps.fail(record, Reason.TIMEOUT, detail, now_s, limits, final=True)
        return record, [records.StopTrial(), *effects]
    if record.stage in (Stage.DOWNLOADING, Stage.VERIFIED) and expired and not late:
        held = record.trouble is Reason.EXPIRED and record.retry_at_s is not None and not retry
        return (record, []) if held else steps.hold_expired(record, now_s, limits)
    if record.stage in (Stage.DOWNLOADING, Stage.VERIFIED) and late:
        stop: list[Effect] = [records.StopFetch()] if record.stage == Stage.DOWNLOADING else []
        reason = Reason.EXPIRED if expired else record.trouble or Reason.TIMEOUT
        detail = "the assignment expired" if expired else record.trouble_detail or "not done within the deadline"
        record, effects = steps.fail(record, reason, detail, now_s, limits)
        return record, stop + effects
    if record.stage == Stage.VERIFIED:
        free = event.window_open or steps.order_of(record).assigned.window is None
        return steps.try_out(record, now_s, limits) if free else (record, [])
    if not retry:
        return record, []
    record = replace(record, retry_at_s=None)
    if record.stage == Stage.DOWNLOADING:
        return replace(record, ticket=record.ticket + 1), [records.StartFetch()]
    same = record.order is not None and record.active is not None and record.order.bundle == record.active.bundle
    worth = record.order is not None and (same or record.trouble in steps.REPAIRED)
    if worth and expired:  # by this clock, which may be wrong: it is asked again
        return replace(record, retry_at_s=now_s + limits.retry_failed_s), []
    if record.order is not None and worth:
        return steps.begin(record, record.order, now_s, limits, again=True)
    return record, [records.Serve(record.active)] if record.active is not None else []


_HANDLERS: dict[type, Callable[[Record, Any, float, Limits], Step]] = {
    records.Offered: _offered,
    records.Unnamed: _unnamed,
    records.Listed: _listed,
    records.Fetched: _fetched,
    records.Refused: _refused,
    records.Delayed: _delayed,
    records.TrialPassed: _trial_passed,
    records.TrialFailed: _trial_failed,
    records.Served: _served,
    records.Unhealthy: _unhealthy,
    records.Boot: _boot,
    records.Found: _found,
    records.Online: _online,
    records.Tick: _tick,
}

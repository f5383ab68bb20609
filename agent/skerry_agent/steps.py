"""What several of the update machine's transitions have in common: to take up, try, commit, give up and go back."""

from __future__ import annotations

from dataclasses import replace

from skerry_agent import records
from skerry_agent.records import Effect, Installed, Limits, Order, Record, Report, Stage
from skerry_contracts.device import Phase, Reason

MAX_TRIALS = 10
MAX_DOUBTS = 2  # a third failure of the kind that any bundle may have is this bundle's
NO_FAULT_FACTOR = 4  # each pause after a trial that proved nothing is so many times as long as the one before
Step = tuple[Record, list[Effect]]

PASSING = {Reason.NETWORK, Reason.TIMEOUT, Reason.NO_SPACE, Reason.STORAGE}  # worth another attempt without a new order
UNREACHED = {Reason.NETWORK, Reason.TIMEOUT}  # nobody to tell it to
# Worth taking up what is ordered again, where something else serves meanwhile: its trial decides.
REPAIRED = {*PASSING, Reason.EXPIRED, Reason.CORRUPT, Reason.LOAD, Reason.CRASHED, Reason.POWER_CUT}
ROTTEN = {Reason.STORAGE, Reason.CORRUPT}  # files that were here are gone or damaged
NO_FAULT = {*ROTTEN, Reason.UNFIT}  # of the bundle's: its trial proved nothing, or there was no memory for it just then
# What a candidate that passed its trial may have died of that was not its fault: want of memory, a bad power supply, a
# failing disk. Once or twice it proves nothing; wrong answers always do.
DOUBTFUL = {*ROTTEN, Reason.CRASHED, Reason.TIMEOUT, Reason.POWER_CUT, Reason.LOAD}


def begin(record: Record, order: Order, now_s: float, limits: Limits, *, again: bool = False) -> Step:
    """Take up an order from idle. `again`: fetch it even if it is what should be serving (and cannot)."""
    record = replace(idle(record), order=order, following=None, attempts=0, trouble=None, trouble_detail="")
    record = record if again else replace(record, trials=0, doubts=0)
    same = record.active is not None and record.active.bundle == order.bundle
    if same and not again:
        return record, [Report(order, Phase.COMMITTED, detail="already serving"), records.Collect()]
    if not same and order.assigned.release < record.floor and not order.assigned.allow_downgrade:
        detail = f"release {order.assigned.release} is older than {record.floor}"
        return record, [Report(order, Phase.FAILED, Reason.DOWNGRADE, detail), records.Collect()]
    record = replace(record, stage=Stage.DOWNLOADING, deadline_s=now_s + limits.download_s)
    return record, [Report(order, Phase.OFFERED), records.StartFetch()]


def try_out(record: Record, now_s: float, limits: Limits) -> Step:
    """Begin the trial of a bundle that is here."""
    record = replace(idle(record), stage=Stage.TRIAL, deadline_s=now_s + limits.trial_s)
    return record, [Report(order_of(record), Phase.TRIAL), records.StartTrial()]


def commit(record: Record, now_s: float, limits: Limits) -> Step:
    """The observation is over: what serves is what the order asked for, and the floor rises."""
    effects: list[Effect] = [Report(order_of(record), Phase.COMMITTED)]
    if (active := record.active) is not None:
        record = replace(record, floor=max(record.floor, active.release), trials=0, doubts=0)
        effects.append(records.SignReceipt(active))
    return then([*effects, records.Collect()], next_order(idle(record), now_s, limits))


def roll_back(record: Record, reason: Reason, detail: str) -> Step:
    """Serve what served before; what is observed is given up."""
    instead = fallback(record)
    effects: list[Effect] = [Report(order_of(record), Phase.ROLLED_BACK, reason, detail)]
    effects.append(records.Serve(instead) if instead is not None else records.Stop())
    return replace(idle(record), active=instead, previous=None), [*effects, records.Collect()]


def doubt(record: Record, reason: Reason, detail: str, now_s: float, limits: Limits) -> Step:
    """Go back to what served before and to the download, to try again after a pause, where the end of a candidate says
    little of it; but not for ever, and not where the fleet wants something else by now. The order is not given up, and
    the fleet hears why it takes longer.
    """
    if reason not in DOUBTFUL or record.doubts >= MAX_DOUBTS or record.following is not None:
        record, effects = roll_back(record, reason, detail)
        return then(effects, next_order(record, now_s, limits))
    instead = fallback(record)
    effects = [records.Serve(instead) if instead is not None else records.Stop()]
    return then(effects, doubt_trial(replace(record, active=instead, previous=None), reason, detail, now_s, limits))


def doubt_trial(record: Record, reason: Reason, detail: str, now_s: float, limits: Limits) -> Step:
    """Do the same for a candidate that does not serve yet."""
    if record.doubts >= MAX_DOUBTS:
        return fail(record, reason, detail, now_s, limits, final=True)
    wait_s = min(limits.retry_failed_s, limits.retry_max_s * 2**record.doubts)
    return _repeat(replace(record, doubts=record.doubts + 1), reason, detail, now_s, wait_s, limits)


def fail(record: Record, reason: Reason, detail: str, now_s: float, limits: Limits, *, final: bool = False) -> Step:
    """End an order that never came to serve. `final`: not to be tried again without a new order."""
    effects: list[Effect] = [Report(order_of(record), Phase.FAILED, reason, detail)]
    record = replace(idle(record), trouble=reason, trouble_detail=detail)
    if (reason in PASSING or reason is Reason.EXPIRED) and not final:  # the clock may have been wrong
        return replace(record, retry_at_s=now_s + limits.retry_failed_s), effects  # what was received stays
    return record, [*effects, records.Collect()]


def try_again(record: Record, reason: Reason, detail: str, now_s: float, limits: Limits) -> Step:
    """Go back from a trial that proved nothing to the download, which finds at once what is whole: after a pause that
    grows, and not for ever.
    """
    if record.trials >= MAX_TRIALS:
        return fail(record, reason, detail, now_s, limits, final=True)
    wait_s = min(limits.retry_failed_s, limits.retry_first_s * NO_FAULT_FACTOR**record.trials)
    return _repeat(replace(record, trials=record.trials + 1), reason, detail, now_s, wait_s, limits)


def hold(record: Record, reason: Reason, detail: str, now_s: float, limits: Limits) -> Step:
    """Wait with a download for which the device has no space, or a disk that fails: until its deadline, because the
    cause is the device's and may pass. The fleet hears of it once.
    """
    wait_s = min(limits.retry_max_s, limits.retry_first_s * 2 ** min(record.attempts, 20))
    told: list[Effect] = []
    if record.trouble is not reason:
        told.append(Report(order_of(record), Phase.DOWNLOADING, reason, detail))
    record = replace(record, ticket=record.ticket + 1, attempts=record.attempts + 1, retry_at_s=now_s + wait_s)
    return replace(record, trouble=reason, trouble_detail=detail), told


def hold_expired(record: Record, now_s: float, limits: Limits) -> Step:
    """Do nothing more for an order that has expired, by a clock that may be wrong: go on if it turns out so before the
    download's deadline.
    """
    running = record.stage is Stage.DOWNLOADING and record.retry_at_s is None
    stop: list[Effect] = [records.StopFetch()] if running else []
    if record.stage is not Stage.DOWNLOADING:
        record = replace(idle(record), stage=Stage.DOWNLOADING, deadline_s=now_s + limits.download_s)
    return then(stop, hold(record, Reason.EXPIRED, "the assignment expired", now_s, limits))


def repair(record: Record, reason: Reason, detail: str, now_s: float, limits: Limits) -> Step:
    """Fetch and try again what was committed once and can no longer start, while something else serves: damaged files
    at once, the rest when the device may have calmed down. Where that is in vain, the fleet is told that it failed.
    """
    if reason in ROTTEN and record.trials < MAX_TRIALS:
        return try_again(record, reason, detail, now_s, limits)
    if reason not in ROTTEN and record.doubts < MAX_DOUBTS:
        return doubt_trial(record, reason, detail, now_s, limits)
    record = replace(record, retry_at_s=now_s + limits.retry_failed_s, trouble=reason, trouble_detail=detail)
    return record, [Report(order_of(record), Phase.ROLLED_BACK, reason, detail)]


def _repeat(record: Record, reason: Reason, detail: str, now_s: float, wait_s: float, limits: Limits) -> Step:
    """Download again after a pause, which finds at once what is whole, and then try again."""
    record = replace(idle(record), stage=Stage.DOWNLOADING, retry_at_s=now_s + wait_s, trouble=reason)
    record = replace(record, deadline_s=now_s + wait_s + limits.download_s, trouble_detail=detail)
    return record, [Report(order_of(record), Phase.DOWNLOADING, reason, detail)]


def next_order(record: Record, now_s: float, limits: Limits) -> Step:
    """Turn to the order that came meanwhile, if one did."""
    return begin(record, record.following, now_s, limits) if record.following is not None else (record, [])


def abandon(record: Record) -> Step:
    """Leave what is under way, short of what already serves."""
    if record.stage == Stage.IDLE or record.order is None:
        return idle(record), []
    stop: dict[Stage, Effect] = {Stage.DOWNLOADING: records.StopFetch(), Stage.TRIAL: records.StopTrial()}
    effects = [stop[record.stage]] if record.stage in stop else []
    return idle(record), [*effects, *superseded(record.order)]


def superseded(order: Order | None) -> list[Effect]:
    """Return the report on an order that a newer one replaced."""
    return [] if order is None else [Report(order, Phase.FAILED, Reason.SUPERSEDED, "a newer order came")]


def idle(record: Record) -> Record:
    """Return the record at rest, with a new ticket."""
    return replace(
        record, stage=Stage.IDLE, ticket=record.ticket + 1, deadline_s=None, retry_at_s=None, boots=0, served=0
    )


def fallback(record: Record) -> Installed | None:
    """Return what is to serve instead of the active bundle."""
    for each in (record.previous, record.factory):
        if each is not None and (record.active is None or each.bundle != record.active.bundle):
            return each
    return None


def order_of(record: Record) -> Order:
    """Return the order under way; a stage but idle has one."""
    if record.order is None:
        raise ValueError(f"{record.model}: {record.stage} without an order")
    return record.order


def then(effects: list[Effect], step: Step) -> Step:
    """Return a step with effects before its own."""
    return step[0], effects + step[1]

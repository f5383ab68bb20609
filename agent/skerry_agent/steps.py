"""What several of the update machine's transitions have in common: to take up, try, commit, give up and go back."""

from __future__ import annotations

from dataclasses import replace

from skerry_agent import records
from skerry_agent.records import Effect, Installed, Limits, Order, Record, Report, Stage
from skerry_contracts.device import Phase, Reason

MAX_TRIALS = 6
NO_FAULT_FACTOR = 8  # each pause after a trial that proved nothing is so many times as long as the one before
Step = tuple[Record, list[Effect]]

PASSING = {Reason.NETWORK, Reason.TIMEOUT, Reason.NO_SPACE, Reason.STORAGE}  # worth another attempt without a new order
# Worth taking up what is ordered again, where something else serves meanwhile: its trial decides.
REPAIRED = {*PASSING, Reason.EXPIRED, Reason.CORRUPT, Reason.LOAD, Reason.CRASHED, Reason.POWER_CUT}
# What a candidate may have died of that was not its fault: a device short of memory, a bad power supply.
DOUBTFUL = {Reason.CRASHED, Reason.TIMEOUT, Reason.POWER_CUT}
ROTTEN = {Reason.STORAGE, Reason.CORRUPT}  # files that were here are gone or damaged
NO_FAULT = {*ROTTEN, Reason.UNFIT}  # of the bundle's: its trial proved nothing, or there was no memory for it just then


def begin(record: Record, order: Order, now_s: float, limits: Limits, *, again: bool = False) -> Step:
    """Take up an order from idle. `again`: fetch it even if it is what should be serving (and cannot)."""
    record = replace(idle(record), order=order, following=None, attempts=0, trouble=None, trouble_detail="")
    record = record if again else replace(record, trials=0)
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
        record = replace(record, floor=max(record.floor, active.release))
        effects.append(records.SignReceipt(active))
    return then([*effects, records.Collect()], next_order(idle(record), now_s, limits))


def roll_back(record: Record, reason: Reason, detail: str) -> Step:
    """Serve what served before; what is observed is given up."""
    instead = fallback(record)
    effects: list[Effect] = [Report(order_of(record), Phase.ROLLED_BACK, reason, detail)]
    effects.append(records.Serve(instead) if instead is not None else records.Stop())
    return replace(idle(record), active=instead, previous=None), [*effects, records.Collect()]


def doubted(record: Record, reason: Reason, now_s: float, limits: Limits) -> Record:
    """Return the record of an order that was just given up, to be tried once more where its end proves little; unless
    the fleet orders something else before.
    """
    if reason not in DOUBTFUL or record.trials:
        return record
    return replace(record, trials=record.trials + 1, retry_at_s=now_s + limits.retry_failed_s, trouble=reason)


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
    wait_s = min(limits.retry_max_s, limits.retry_first_s * NO_FAULT_FACTOR**record.trials)
    record = replace(idle(record), stage=Stage.DOWNLOADING, trials=record.trials + 1, retry_at_s=now_s + wait_s)
    record = replace(record, deadline_s=now_s + limits.download_s, trouble=reason, trouble_detail=detail)
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

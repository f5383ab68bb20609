"""The rollout machine by histories: whatever devices do and say, exposure never passes what was granted."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable

import pytest

from skerry_contracts.device import Phase, Reason
from skerry_contracts.errors import MismatchError
from skerry_fleet import rollout_machine as machine
from skerry_fleet import rollout_stages as stages
from skerry_fleet.errors import ConflictError
from skerry_fleet.rollout_plan import Plan, Wave
from skerry_fleet.rollout_words import (
    Confirmed,
    Effect,
    Failed,
    Heard,
    Issued,
    Joined,
    Left,
    Moved,
    Offer,
    Order,
    Ordered,
    Place,
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

NEW, OLD = "b" * 64, "a" * 64


def begin(plan: Plan, count: int, *, away: Iterable[int] = ()) -> State:
    gone = set(away)
    return machine.start("r1", NEW, plan, [(f"d{i}", i not in gone) for i in range(count)], 0.0)


def status(state: State) -> Status:
    return state.status  # a call, so that no checker believes the last comparison for ever


def offers(effects: Iterable[Effect]) -> list[str]:
    return [effect.device for effect in effects if isinstance(effect, Offer)]


def do(state: State, event: RolloutEvent, now: float = 0.0) -> list[Effect]:
    return machine.step(state, event, now)[1]


def commit(state: State, device: str, now: float = 0.0) -> list[Effect]:
    """The device commits and, after the soak, is heard serving."""
    effects = do(state, Reported(device, NEW, 1, Phase.COMMITTED, Reason.OK), now)
    return effects + do(state, Heard(device, NEW, 1, True), now + state.plan.soak_s)


def fail(state: State, device: str, reason: Reason = Reason.GOLDEN, now: float = 0.0) -> list[Effect]:
    return do(state, Reported(device, NEW, 1, Phase.FAILED, reason), now)


def test_canary_then_waves_then_complete() -> None:
    plan = Plan(canary=2, waves=(Wave(50), Wave(100)), soak_s=5, exposure_budget=4)
    state = begin(plan, 10)
    first = offers(do(state, Tick()))
    by_rank = sorted(state.members, key=lambda device: rank("r1", device))
    assert first == by_rank[:2]
    assert commit(state, first[0]) == [Confirmed(first[0])]
    effects = commit(state, first[1])
    assert Moved(Status.RUNNING, 1, "") in effects
    assert offers(effects) == by_rank[2:5]  # half of ten, two are there already
    seen = first + offers(effects)
    while state.status is Status.RUNNING:
        waiting = [each for each in seen if state.members[each].place is Place.OFFERED]
        seen += offers(commit(state, waiting[0]))
    assert status(state) is Status.COMPLETE and seen == by_rank
    assert state.counts[Place.CONFIRMED] == 10


def test_the_order_is_the_same_everywhere_and_differs_between_rollouts() -> None:
    assert rank("r1", "d1") == 0x8D1342DEDBC6AE00
    names = [f"d{i}" for i in range(50)]
    assert sorted(names, key=lambda each: rank("r1", each)) != sorted(names, key=lambda each: rank("r2", each))


def test_a_silent_device_keeps_its_share_of_the_budget() -> None:
    state = begin(Plan(canary=1, exposure_budget=2, soak_s=0, timeout_s=100), 5)
    (canary,) = offers(do(state, Tick()))
    two = offers(do(state, Reported(canary, NEW, 1, Phase.COMMITTED, Reason.OK)))
    assert len(two) == 2
    assert offers(do(state, Reached(two[0], False))) == []
    (third,) = offers(do(state, Reported(two[1], NEW, 1, Phase.COMMITTED, Reason.OK), 50.0))
    assert state.exposure == 2 and state.members[two[0]].place is Place.OFFERED
    effects = do(state, Tick(), 101.0)
    assert Failed(two[0], "silent") in effects and Revert(third) in effects
    assert status(state) is Status.ROLLING_BACK


def test_one_failure_too_many_takes_everything_back() -> None:
    state = begin(Plan(canary=1, failure_budget=1, exposure_budget=4, soak_s=0), 8)
    (canary,) = offers(do(state, Tick()))
    batch = offers(do(state, Reported(canary, NEW, 1, Phase.COMMITTED, Reason.OK)))
    assert len(batch) == 4
    effects = fail(state, batch[0])
    assert effects == [Failed(batch[0], "golden"), Revert(batch[0])] and status(state) is Status.RUNNING
    effects = fail(state, batch[1])
    assert status(state) is Status.ROLLING_BACK
    returned = {effect.device for effect in effects if isinstance(effect, Revert)}
    assert returned == {batch[1], batch[2], batch[3], canary}
    for device in (batch[2], batch[3], canary):
        do(state, Issued(device, 9))
        assert do(state, Heard(device, NEW, 8, True)) == []  # has not adopted the order yet
        effects = do(state, Heard(device, OLD, 9, True))
    assert effects == [Moved(Status.ROLLED_BACK, 1, "2 failed, budget 1: golden")]
    assert do(state, Heard(canary, NEW, 9, True)) == []


def test_devices_out_of_reach_do_not_hold_up_the_others_and_catch_up() -> None:
    state = begin(Plan(canary=1, soak_s=0, exposure_budget=9), 4, away=(0, 1))
    do(state, Tick())
    for _ in range(2):
        (device,) = [each.device for each in state.members.values() if each.place is Place.OFFERED]
        do(state, Reported(device, NEW, 1, Phase.COMMITTED, Reason.OK))
    assert status(state) is Status.COMPLETE
    assert state.counts[Place.CONFIRMED] == 2 and state.counts[Place.WAITING] == 2
    assert offers(do(state, Heard("d0", OLD, 1, True))) == ["d0"]
    assert offers(do(state, Reached("d1", True))) == ["d1"]
    assert offers(do(state, Joined("d9", True))) == ["d9"]
    assert status(state) is Status.COMPLETE
    assert fail(state, "d0")[0] == Failed("d0", "golden")
    assert status(state) is Status.ROLLING_BACK  # late devices count against the same budget


def test_a_wave_may_grow_the_allowance_but_a_failure_ends_that() -> None:
    plan = Plan(canary=1, waves=(Wave(100, in_flight=10),), soak_s=0, failure_budget=1, exposure_budget=2)
    state = begin(plan, 20)
    (canary,) = offers(do(state, Tick()))
    assert stages.limit(state) == 2
    batch = offers(do(state, Reported(canary, NEW, 1, Phase.COMMITTED, Reason.OK)))
    assert len(batch) == 10 and stages.limit(state) == 10
    fail(state, batch[0])
    assert stages.limit(state) == 2
    for device in batch[1:9]:
        assert offers(do(state, Reported(device, NEW, 1, Phase.COMMITTED, Reason.OK))) == []
    assert state.exposure == 2
    assert len(offers(do(state, Reported(batch[9], NEW, 1, Phase.COMMITTED, Reason.OK)))) == 1


def test_a_failed_canary_is_replaced_and_must_still_be_confirmed() -> None:
    state = begin(Plan(canary=1, failure_budget=1, exposure_budget=3, soak_s=0), 5)
    (canary,) = offers(do(state, Tick()))
    (second,) = offers(fail(state, canary))
    assert state.stage == 0
    do(state, Reported(second, NEW, 1, Phase.COMMITTED, Reason.OK))
    assert state.stage == 1


def test_the_network_is_given_another_chance_with_growing_pauses() -> None:
    state = begin(Plan(canary=1, retries=2, retry_s=10, soak_s=0), 2)
    (canary,) = offers(do(state, Tick()))
    fail(state, canary, Reason.NETWORK, 100.0)
    assert state.members[canary].place is Place.RETRYING and state.exposure == 1
    assert fail(state, canary, Reason.NETWORK, 101.0) == []
    assert offers(do(state, Tick(), 109.0)) == []
    assert offers(do(state, Tick(), 113.0)) == [canary]
    fail(state, canary, Reason.NETWORK, 120.0)
    assert offers(do(state, Tick(), 139.0)) == [] and offers(do(state, Tick(), 146.0)) == [canary]
    assert Failed(canary, "network") in fail(state, canary, Reason.NETWORK, 150.0)


def test_old_words_and_no_verdicts_change_nothing() -> None:
    state = begin(Plan(canary=1), 3)
    (canary,) = offers(do(state, Tick()))
    do(state, Issued(canary, 7))
    before = copy.deepcopy(state.members)
    for event in (
        Reported(canary, NEW, 6, Phase.FAILED, Reason.GOLDEN),
        Reported(canary, NEW, 7, Phase.FAILED, Reason.SUPERSEDED),
        Reported(canary, NEW, 7, Phase.DOWNLOADING, Reason.OK),
        Reported(canary, OLD, 7, Phase.ROLLED_BACK, Reason.CRASHED),
        Reported("stranger", NEW, 7, Phase.FAILED, Reason.GOLDEN),
        Heard(canary, NEW, 6, True),
        Heard(canary, NEW, 7, False),
        Regressed("stranger", "slow"),
    ):
        assert do(state, event) == []
    assert state.members == before


def test_pause_resume_abort_and_their_limits() -> None:
    state = begin(Plan(canary=1, soak_s=0, approval=True), 3)
    assert do(state, Tick()) == [] and status(state) is Status.AWAITING_APPROVAL
    with pytest.raises(ConflictError):
        do(state, Ordered(Order.PAUSE))
    effects = do(state, Ordered(Order.APPROVE))
    (canary,) = offers(effects)
    do(state, Ordered(Order.PAUSE))
    assert do(state, Reported(canary, NEW, 1, Phase.COMMITTED, Reason.OK)) == [Confirmed(canary)]
    batch = offers(do(state, Ordered(Order.RESUME)))
    assert len(batch) == 2
    effects = do(state, Ordered(Order.ABORT))
    assert [effect.device for effect in effects if isinstance(effect, Revert)] == batch
    assert state.members[canary].place is Place.CONFIRMED
    effects = do(state, Ordered(Order.ROLL_BACK))
    assert Revert(canary) in effects and status(state) is Status.ROLLING_BACK
    with pytest.raises(ConflictError):
        do(state, Ordered(Order.RESUME))


def test_a_regression_counts_as_a_failure() -> None:
    state = begin(Plan(canary=1), 3)
    (canary,) = offers(do(state, Tick()))
    do(state, Reported(canary, NEW, 1, Phase.COMMITTED, Reason.OK))
    assert do(state, Regressed(canary, "slow"))[0] == Failed(canary, "slow")
    assert status(state) is Status.ROLLED_BACK  # nobody else had it


def test_a_rollout_that_loses_its_devices_is_superseded() -> None:
    state = begin(Plan(canary=1), 2)
    do(state, Tick())
    do(state, Left("d0"))
    assert do(state, Left("d1")) == [Moved(Status.SUPERSEDED, 0, "no device is left")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"canary": 0},
        {"waves": ()},
        {"waves": (Wave(50), Wave(50))},
        {"soak_s": -1.0},
        {"failure_budget": 5, "exposure_budget": 5},
        {"retries": 11},
    ],
)
def test_plans_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(MismatchError):
        Plan(**wrong)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("nothing", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("words", [Plan, Wave])
def test_no_number_of_a_plan_may_be_none_or_endless(words: type[Plan] | type[Wave], nothing: float) -> None:
    numbers = [each for each in dataclasses.fields(words) if each.name not in ("waves", "approval")]
    assert len(numbers) == (12 if words is Plan else 2)
    for each in numbers:
        with pytest.raises(MismatchError, match=f"^{each.name}: a finite number$"):
            words(**({"percent": 50} | {each.name: nothing} if words is Wave else {each.name: nothing}))

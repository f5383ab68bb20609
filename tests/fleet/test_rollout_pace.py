"""Pace and foresight: offers a minute and bytes a second are never passed, and a dry run says what would be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import select
from tests.fleet.conftest import ACTOR, Bench
from tests.fleet.rolling import DEVICES, order, show, start

from skerry_contracts.errors import MismatchError
from skerry_fleet import rollout_machine as machine
from skerry_fleet.errors import ConflictError
from skerry_fleet.rollout_plan import Plan, Wave
from skerry_fleet.rollout_preview import preview, rehearse, stages
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.rollout_stages import BURST_S
from skerry_fleet.rollout_words import Heard, Offer, Order, Tick
from skerry_fleet.tables import Rollout

NEW = "b" * 64


def offers(plan: Plan, count: int, size_bytes: int, until_s: float) -> list[float]:
    """Return when each offer is made, where devices commit at once and somebody looks when something is due."""
    state = machine.start("r", NEW, plan, [(f"d{i}", True) for i in range(count)], 0.0, size_bytes)
    made, now = [], 0.0
    while now <= until_s:
        _, effects = machine.step(state, Tick(), now)
        while effects:
            devices = [effect.device for effect in effects if isinstance(effect, Offer)]
            made += [now] * len(devices)
            effects = []
            for device in devices:
                effects += machine.step(state, Heard(device, NEW, 1, True), now)[1]
        due = machine.next_due(state)
        if due is None:
            break
        now = max(due, now + 0.01)
    return made


@given(st.floats(1, 3000), st.integers(0, 2_000_000), st.integers(20_000, 10_000_000))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_no_second_sees_more_than_its_share(per_minute: float, size_bytes: int, bytes_per_s: int) -> None:
    plan = Plan(canary=1, soak_s=0, exposure_budget=50, per_minute=per_minute, bytes_per_s=bytes_per_s, timeout_s=0)
    made = offers(plan, 200, size_bytes, 60.0)
    interval = plan.interval_s(0, size_bytes)
    for first in range(len(made)):
        for last in range(first, len(made)):
            assert last - first <= (made[last] - made[first] + BURST_S) / interval + 1 + 1e-6
    if len(made) < 200:
        assert len(made) >= int(60 / interval)


def test_it_grows_while_devices_confirm() -> None:
    plan = Plan(canary=1, soak_s=0, exposure_budget=500, per_minute=60, grow_after=30, growth=2, timeout_s=0)
    made = offers(plan, 400, 0, 600.0)
    assert len(made) == 400 and made[30] - made[0] > 25 and made[399] - made[300] < 4


def test_without_a_pace_everything_goes_at_once() -> None:
    assert offers(Plan(canary=1, soak_s=0, exposure_budget=50, timeout_s=0), 200, 10**9, 60.0) == [0.0] * 200


@pytest.mark.parametrize("words", [{"per_minute": -1.0}, {"growth": 0.5}, {"grow_after": -1}, {"bytes_per_s": -1}])
def test_an_impossible_pace_is_refused(words: dict[str, float]) -> None:
    with pytest.raises(MismatchError):
        Plan(**words)  # type: ignore[arg-type]


def test_stages_add_up() -> None:
    plan = Plan(canary=10, waves=(Wave(25), Wave(100)), holdout=10)
    assert stages(plan, 1000) == [
        {"stage": "canary", "devices": 10},
        {"stage": "wave 1 (25 %)", "devices": 240},
        {"stage": "wave 2 (100 %)", "devices": 650},
        {"stage": "held out", "devices": 100},
    ]


def test_a_rehearsal_is_the_real_machine_in_no_time() -> None:
    assert rehearse(Plan(canary=1, soak_s=30, exposure_budget=5), 11, 0) == 30 + 2 * 30
    assert rehearse(Plan(canary=1, soak_s=0, exposure_budget=5, bytes_per_s=1000), 11, 5000) == 10 * 5 - BURST_S
    small = rehearse(Plan(canary=10, soak_s=30, exposure_budget=500), 5000, 0)
    assert rehearse(Plan(canary=100, soak_s=30, exposure_budget=5000), 50_000, 0) == pytest.approx(small)


def look(bench: Bench, bundle: str, **words: object) -> dict[str, object]:
    with bench.fleet.database.read() as session:
        return preview(session, "default", RolloutRequest("digits", bundle, **words))  # type: ignore[arg-type]


def test_a_dry_run_says_who_gets_it_and_who_does_not_and_does_nothing(bench: Bench) -> None:
    bench.enrol(*DEVICES)
    for device in DEVICES[:4]:
        bench.beat(device, "")
    bundle, foreign = bench.publish("1", 1), bench.publish("1", 1, machine="aarch64", target="raspberry-pi-4")
    found = look(bench, bundle)
    assert found["devices"] == 6 and found["reachable"] == 4 and found["starts"] and found["excluded"] == []
    assert found["bytes_total"] == 6 * (len(b"library 1") + 16)
    other = look(bench, foreign)
    assert other["devices"] == 0 and not other["starts"] and other["least_s"] is None
    assert other["excluded"] == [
        {"why": "made for aarch64, this is x86_64", "devices": 6, "such_as": sorted(DEVICES)[:5]}
    ]
    with bench.fleet.database.read() as session:
        assert session.exec(select(Rollout)).all() == []


def test_a_dry_run_knows_of_rollouts_under_way_and_newer_releases(bench: Bench) -> None:
    bench.enrol(*DEVICES)
    old, new = bench.publish("1", 1), bench.publish("2", 2)
    rollout = start(bench, new, approval=True)
    busy = look(bench, old)
    assert not busy["starts"] and rollout in str(busy["excluded"])
    order(bench, rollout, Order.APPROVE)
    assert look(bench, old, supersede=True)["starts"]
    for device in DEVICES:
        bench.beat(device, "")
    newer = look(bench, old, supersede=True)
    assert not newer["starts"] and "newer release" in str(newer["excluded"])
    assert look(bench, old, supersede=True, allow_downgrade=True)["starts"]


def test_who_starts_a_rollout_cannot_approve_it(bench: Bench) -> None:
    bench.enrol(*DEVICES)
    rollout = start(bench, bench.publish(), approval=True)
    with pytest.raises(ConflictError, match="cannot approve"), bench.fleet.rollouts.open() as session:
        bench.fleet.rollouts.order(session, ACTOR, bench.clock(), rollout, Order.APPROVE)
    assert show(bench, rollout)["status"] == "awaiting-approval"
    order(bench, rollout, Order.APPROVE)
    assert show(bench, rollout)["status"] == "running"

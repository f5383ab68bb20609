"""What a rollout and its devices make people look at: how loudly, and how often the fleet tries again by itself."""

from __future__ import annotations

import pytest
from sqlmodel import select
from tests.fleet.conftest import ACTOR, Bench
from tests.fleet.rolling import DEVICES, order, start

from skerry_contracts.device import Phase, Reason
from skerry_fleet import groups
from skerry_fleet.records import Alert
from skerry_fleet.rollout_words import Order


@pytest.fixture
def ready(bench: Bench) -> Bench:
    bench.enrol(*DEVICES)
    for device in DEVICES:
        bench.beat(device, "")
    return bench


def found(bench: Bench) -> dict[tuple[str, str], tuple[str, int]]:
    with bench.fleet.database.read() as session:
        rows = session.exec(select(Alert)).all()
    return {(each.kind, each.subject): (each.severity, each.count) for each in rows}


def test_a_rollback_that_a_person_ordered_is_no_emergency(ready: Bench) -> None:
    rollout = start(ready, ready.publish("1", 1), canary=2)
    order(ready, rollout, Order.ROLL_BACK)
    assert found(ready)["rollout-rolled-back", rollout][0] == "info"


def test_one_that_devices_caused_is(ready: Bench) -> None:
    rollout = start(ready, ready.publish("1", 1), canary=1)
    (canary,) = [each for each in DEVICES if ready.assignment(each) is not None]
    ready.progress(canary, Phase.FAILED, Reason.GOLDEN)
    assert found(ready)["rollout-rolled-back", rollout][0] == "critical"


def test_a_rollback_is_over_when_a_later_rollout_of_the_model_is_complete_on_its_group(ready: Bench) -> None:
    with ready.fleet.rollouts.open() as session:
        groups.create(session, ACTOR, 0.0, "lab")
        groups.add(session, ACTOR, 0.0, "lab", ["d0", "d1"])
    bundles = [ready.publish(str(release), release) for release in (1, 2, 3)]
    fleet_wide = start(ready, bundles[0], canary=1)
    order(ready, fleet_wide, Order.ROLL_BACK)
    lab = start(ready, bundles[1], canary=1, group="lab")
    order(ready, lab, Order.ROLL_BACK)

    def unresolved() -> set[str]:
        with ready.fleet.database.read() as session:
            return {each.subject for each in session.exec(select(Alert).where(Alert.state != "resolved"))}

    for group, left in (("lab", {fleet_wide}), (None, set())):
        assert unresolved() == {fleet_wide} | ({lab} if group else set())
        start(ready, bundles[2], canary=1, group=group, supersede=True)
        for _ in range(3):
            for device in DEVICES:
                assigned = ready.assignment(device)
                if assigned is not None and any(each.bundle == bundles[2] for each in assigned.models):
                    ready.install(device)
        assert unresolved() == left


def test_an_assignment_that_no_key_vouches_for_is_told(ready: Bench) -> None:
    """The device believes nothing in it, so it names neither rollout nor sequence."""
    start(ready, ready.publish("1", 1), canary=6)
    ready.progress("d1", Phase.FAILED, Reason.UNSIGNED, rollout="", bundle="", sequence=0)
    assert found(ready)["update-failed", "d1"] == ("warning", 1)
    ready.progress("d2", Phase.FAILED, Reason.REPLAYED, rollout="", bundle="", sequence=0)
    assert ("update-failed", "d2") not in found(ready), "an old one again says nothing of the device"


def test_one_that_a_device_finds_expired_is_signed_anew_less_and_less_often(ready: Bench) -> None:
    """Where the device's clock is wrong, a new one is expired, too: no circle, and people hear of it."""
    start(ready, ready.publish("1", 1), canary=6)
    numbers = []
    for _ in range(40):
        assignment = ready.assignment("d1")
        assert assignment is not None
        numbers.append(assignment.sequence)
        ready.progress("d1", Phase.FAILED, Reason.EXPIRED, rollout="", bundle="", sequence=numbers[-1])
        ready.clock.now += 60
    assert numbers[1] > numbers[0] and len(set(numbers)) == 4, "after 0, 10 and 30 minutes"
    assert found(ready)["update-failed", "d1"] == ("warning", 40)

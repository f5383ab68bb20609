"""The rollout service on real tables: orders reach assignments, restarts lose nothing, every move is audited once."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
from sqlmodel import col, func, select
from tests.fleet.conftest import ACTOR, Bench
from tests.fleet.rolling import DEVICES, SECOND, assigned, order, show, start

from skerry_contracts.device import Phase, Reason
from skerry_fleet import audit, leaving, rollout_rows
from skerry_fleet.errors import ConflictError, MissingError
from skerry_fleet.fleet import open_fleet
from skerry_fleet.paging import Page
from skerry_fleet.records import Alert, Audit
from skerry_fleet.regression import Limits
from skerry_fleet.rollout_plan import Wave
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.rollout_words import Order
from skerry_fleet.tables import RolloutDevice

DATABASES = "both"


def install_all(bench: Bench, rollout: str) -> None:
    """Let every device do as it is told until the rollout is complete."""
    for _ in range(20):
        if show(bench, rollout)["status"] == "complete":
            return
        with bench.fleet.database.read() as session:
            rows = session.exec(
                select(RolloutDevice.device).where(RolloutDevice.rollout == rollout, RolloutDevice.place == "offered")
            ).all()
        for device in rows:
            bench.install(device)
    raise AssertionError(show(bench, rollout))


@pytest.fixture
def ready(bench: Bench) -> Bench:
    """Six devices online, and a published bundle."""
    bench.enrol(*DEVICES)
    for device in DEVICES:
        bench.beat(device, "")
    return bench


def test_a_first_rollout_reaches_every_device(ready: Bench) -> None:
    bundle = ready.publish()
    rollout = start(ready, bundle, canary=1, waves=(Wave(50), Wave(100)))
    (canary,) = assigned(ready)
    ready.progress(canary, Phase.DOWNLOADING)
    ready.install(canary)
    assert show(ready, rollout)["stage"] == 1 and len(assigned(ready)) == 3
    install_all(ready, rollout)
    shown = show(ready, rollout)
    assert shown["counts"]["confirmed"] == 6 and shown["exposure"] == 0
    assert assigned(ready) == dict.fromkeys(DEVICES, bundle)
    with ready.fleet.database.read() as session:
        page = rollout_rows.list_devices(session, "default", rollout, Page(), "confirmed")
    assert [each["phase"] for each in page["items"]] == ["committed"] * 6


def test_a_bad_bundle_is_taken_back_everywhere(ready: Bench) -> None:
    good = ready.publish("1", 1)
    install_all(ready, start(ready, good))
    bad = ready.publish("2", 2)
    rollout = start(ready, bad, canary=1, exposure_budget=2)
    (canary,) = [device for device, bundle in assigned(ready).items() if bundle == bad]
    ready.install(canary)
    exposed = [device for device, bundle in assigned(ready).items() if bundle == bad]
    assert len(exposed) == 3
    victim = next(device for device in exposed if device != canary)
    ready.progress(victim, Phase.FAILED, Reason.GOLDEN, detail="1 of 1 differs")
    assert assigned(ready) == dict.fromkeys(DEVICES, good)
    assert show(ready, rollout)["status"] == "rolling-back"
    back = ready.assignment(canary)
    assert back is not None and back.models[0].allow_downgrade
    for device in exposed:
        ready.beat(device)
    assert show(ready, rollout)["status"] == "rolled-back"
    with ready.fleet.database.read() as session:
        kinds = session.exec(select(Alert.kind, Alert.subject)).all()
    assert set(kinds) == {("update-failed", victim), ("rollout-rolled-back", rollout)}


def test_a_restart_in_mid_rollout_goes_on_from_the_rows(ready: Bench) -> None:
    bundle = ready.publish()
    rollout = start(ready, bundle, canary=2, waves=(Wave(50), Wave(100)), soak_s=30.0)
    first, second = assigned(ready)
    ready.progress(first, Phase.COMMITTED)
    config = ready.fleet.config
    ready.fleet.close()
    ready.clock.now += 40
    ready.fleet = open_fleet(config, ready.clock, random.Random(2).randbytes)
    ready.beat(first)
    assert show(ready, rollout)["counts"]["confirmed"] == 1
    ready.progress(second, Phase.COMMITTED)
    ready.beat(second)
    assert show(ready, rollout)["counts"]["soaking"] == 1, "a commit alone is not enough: it must soak"
    ready.clock.now += 30
    ready.beat(second)
    assert show(ready, rollout)["stage"] == 1 and len(assigned(ready)) == 3


def test_progress_that_was_committed_but_not_looked_at_counts_after_a_restart(
    ready: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = ready.publish()
    rollout = start(ready, bundle)
    (canary,) = assigned(ready)
    monkeypatch.setattr(ready.fleet.rollouts, "observe", lambda *a: None)
    ready.progress(canary, Phase.COMMITTED)
    assert show(ready, rollout)["counts"]["confirmed"] == 0
    config = ready.fleet.config
    ready.fleet.close()
    ready.fleet = open_fleet(config, ready.clock, random.Random(2).randbytes)
    assert show(ready, rollout)["counts"]["confirmed"] == 1


def test_a_failed_transaction_leaves_memory_as_the_rows_are(ready: Bench) -> None:
    bundle = ready.publish()
    rollout = start(ready, bundle, approval=True)
    with pytest.raises(RuntimeError), ready.fleet.rollouts.open() as session:
        ready.fleet.rollouts.order(session, SECOND, ready.clock(), rollout, Order.APPROVE)
        raise RuntimeError("the power goes")
    assert show(ready, rollout)["status"] == "awaiting-approval" and assigned(ready) == {}
    order(ready, rollout, Order.APPROVE)
    assert show(ready, rollout)["status"] == "running" and len(assigned(ready)) == 1


def test_every_move_has_exactly_one_audit_record(ready: Bench) -> None:
    bundle = ready.publish()
    rollout = start(ready, bundle, waves=(Wave(50), Wave(100)), approval=True)
    order(ready, rollout, Order.APPROVE)
    order(ready, rollout, Order.PAUSE)
    order(ready, rollout, Order.RESUME)
    install_all(ready, rollout)
    with ready.fleet.database.read() as session:
        moves = session.exec(
            select(Audit.action, Audit.actor).where(Audit.object == f"rollout/{rollout}").order_by(col(Audit.seq))
        ).all()
        issued = session.exec(select(func.count()).where(Audit.action == "assignment.issue")).one()
        assert audit.verify(session, "default").broken_at is None
    assert moves == [
        ("rollout.create", "test"),
        ("rollout.running", "second"),
        ("rollout.paused", "second"),
        ("rollout.running", "second"),
        ("rollout.running", "system:rollout"),
        ("rollout.running", "system:rollout"),
        ("rollout.complete", "system:rollout"),
    ]
    assert issued == len(DEVICES)


def test_at_most_one_active_rollout_a_device(ready: Bench) -> None:
    first = start(ready, ready.publish("1", 1))
    second = ready.publish("2", 2)
    with pytest.raises(ConflictError, match=f"6 of these devices are in rollout {first}"):
        start(ready, second)
    rollout = start(ready, second, supersede=True)
    assert show(ready, first)["status"] == "superseded"
    with ready.fleet.database.read() as session:
        active = session.exec(
            select(RolloutDevice.device, func.count())
            .where(col(RolloutDevice.active).is_(True))
            .group_by(RolloutDevice.device)
        ).all()
        owners = session.exec(select(RolloutDevice.rollout).where(col(RolloutDevice.active).is_(True))).all()
    assert {count for _, count in active} == {1} and set(owners) == {rollout}
    install_all(ready, rollout)


def test_a_group_takes_its_devices_out_of_a_complete_rollout_and_leaves_the_rest(ready: Bench) -> None:
    from skerry_fleet import groups

    first = start(ready, ready.publish("1", 1))
    install_all(ready, first)
    with ready.fleet.database.write() as session:
        groups.create(session, ACTOR, ready.clock(), "lab")
        session.flush()
        groups.add(session, ACTOR, ready.clock(), "lab", ["d0", "d1"])
    second = start(ready, ready.publish("2", 2), group="lab")
    install_all(ready, second)
    assert show(ready, first)["status"] == "complete" and show(ready, first)["devices"] == 4
    everywhere = start(ready, ready.publish("3", 3))
    assert show(ready, first)["devices"] == 4 and show(ready, second)["devices"] == 2  # kept for the record
    install_all(ready, everywhere)
    second = start(ready, ready.publish("4", 4), group="lab")
    install_all(ready, second)
    first = everywhere
    ready.enrol("d9", group="lab")
    ready.enrol("d8")
    ready.beat("d9", "")
    ready.beat("d8", "")
    for device, rollout in (("d9", second), ("d8", first)):
        late = ready.assignment(device)
        assert late is not None and late.models[0].rollout == rollout, (
            "late devices catch up with the newest that covers them"
        )


def test_what_cannot_start_says_why_and_changes_nothing(ready: Bench) -> None:
    bundle = ready.publish("1", 5)
    arm = ready.publish("1", 5, target="pi", machine="aarch64")
    for wrong, error, text in (
        ({"bundle": "f" * 64}, MissingError, "no bundle"),
        ({"bundle": arm}, ConflictError, "none of 6 devices can run"),
        ({"bundle": bundle, "group": "nowhere"}, MissingError, "no group"),
        ({"bundle": bundle, "model": "other"}, ConflictError, "is of model digits"),
    ):
        changed: dict[str, Any] = wrong
        with pytest.raises(error, match=text), ready.fleet.rollouts.open() as session:
            request = dataclasses.replace(RolloutRequest("digits", bundle), **changed)
            ready.fleet.rollouts.create(session, ACTOR, ready.clock(), request)
    install_all(ready, start(ready, bundle))
    old = ready.publish("0", 6)
    newer = ready.publish("9", 7)
    install_all(ready, start(ready, newer))
    with pytest.raises(ConflictError, match="release 6 is older than release 7"):
        start(ready, old)
    install_all(ready, start(ready, old, allow_downgrade=True))
    assert assigned(ready) == dict.fromkeys(DEVICES, old)


def test_a_regression_that_devices_report_takes_the_bundle_back(ready: Bench) -> None:
    install_all(ready, start(ready, ready.publish("1", 1)))
    for device in DEVICES:
        ready.beat(device)
    rollout = start(ready, ready.publish("2", 2), limits=Limits(latency_factor=2.0), soak_s=60.0)
    (canary,) = [device for device, bundle in assigned(ready).items() if bundle == show(ready, rollout)["bundle"]]
    ready.progress(canary, Phase.COMMITTED)
    ready.beat(canary, predictions=30, latency_p95_ms=3.9)
    assert show(ready, rollout)["status"] == "running"
    ready.beat(canary, predictions=30, latency_p95_ms=4.1)
    shown = show(ready, rollout)
    assert shown["status"] == "rolled-back" and "p95 latency 4.1 ms, 2 ms before" in shown["reason"]


def test_a_silent_device_stays_exposed_until_it_counts_as_failed(ready: Bench) -> None:
    rollout = start(ready, ready.publish(), timeout_s=300.0, failure_budget=1)
    (canary,) = assigned(ready)
    ready.clock.now += 200
    ready.fleet.tick()
    assert show(ready, rollout)["exposure"] == 1
    with ready.fleet.database.read() as session:
        assert session.exec(select(func.count()).where(Alert.kind == "device-silent")).one() == 6
    ready.clock.now += 101
    ready.fleet.tick()
    shown = show(ready, rollout)
    assert shown["counts"]["failed"] == 1 and shown["exposure"] == 1 and shown["status"] == "running"
    assert ready.assignment(canary) is not None and assigned(ready) == {}


def test_a_decommissioned_device_leaves_its_rollout(ready: Bench) -> None:

    rollout = start(ready, ready.publish())
    (canary,) = assigned(ready)
    with ready.fleet.rollouts.open() as session:
        ready.fleet.rollouts.left(session, ready.clock(), "default", canary)
        leaving.decommission(session, ACTOR, ready.clock(), canary)
    assert show(ready, rollout)["devices"] == 5 and len(assigned(ready)) == 1


def test_a_fleet_restored_from_a_copy_numbers_above_its_devices(ready: Bench) -> None:
    start(ready, ready.publish())
    (canary,) = assigned(ready)
    was = ready.assignment(canary)
    assert was is not None
    from skerry_contracts.device import Heartbeat, SpoolHealth

    beat = Heartbeat(ready.boot_id(canary), ready.next(canary), 0.0, 1.0, 41, (), SpoolHealth(0, 0, 0, 0, 0), 1, 1)
    ready.send(canary, "heartbeat", beat)
    now = ready.assignment(canary)
    assert now is not None and now.sequence == 42 and now.models == was.models

"""The gate on real tables: what is worse than its neighbours is taken back, what is not goes on; held-out devices."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlmodel import select
from tests.fleet.conftest import Bench
from tests.fleet.rolling import show, start

from skerry_contracts.device import Phase, Reason
from skerry_fleet import rollout_pairs, rollout_rows
from skerry_fleet.comparison import Gate
from skerry_fleet.fleet import open_fleet
from skerry_fleet.paging import Page
from skerry_fleet.regression import Limits
from skerry_fleet.rollout_plan import Wave
from skerry_fleet.tables import RolloutDevice

DEVICES = tuple(f"d{i:02}" for i in range(24))
LIMITS = Limits(error_rate=None)


@pytest.fixture
def serving(bench: Bench) -> Bench:
    """Two dozen devices that serve a bundle."""
    old = bench.publish("1", 1)
    bench.enrol(*DEVICES)
    bench.send_all((device, "heartbeat", bench.heartbeat(device, "")) for device in DEVICES)
    rollout = start(bench, old, exposure_budget=24)
    for _ in range(3):
        for device in places(bench, rollout).get("offered", []):
            bench.install(device)
    assert show(bench, rollout)["status"] == "complete"
    return bench


def places(bench: Bench, rollout: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with bench.fleet.database.read() as session:
        for row in session.exec(select(RolloutDevice).where(RolloutDevice.rollout == rollout)):
            found.setdefault(row.place, []).append(row.device)
    return found


def evidence(bench: Bench, rollout: str) -> dict[str, Any]:
    with bench.fleet.database.read() as session:
        row = rollout_rows.get(session, "default", rollout)
        return {**rollout_pairs.evidence(session, row), **rollout_pairs.list_pairs(session, row, Page(limit=5))}


def go_on(bench: Bench, rollout: str, errors: int, usual: int = 0) -> None:
    """Let time pass once: every device is heard, those with the new bundle with so many errors in a hundred."""
    there = places(bench, rollout)
    for device in there.get("offered", []):
        bench.progress(device, Phase.COMMITTED)
    mine = {device for place in ("offered", "soaking", "confirmed") for device in there.get(place, [])}
    for step in (0, 40):
        bench.clock.now += step
        failing = {device: errors if device in mine else usual for device in DEVICES}
        bench.send_all(
            (device, "heartbeat", bench.heartbeat(device, predictions=100 - count, errors=count))
            for device, count in failing.items()
        )


def roll(bench: Bench, errors: int, usual: int = 0, **plan: object) -> str:
    bundle = bench.publish("2", 2)
    words = {"canary": 2, "waves": (Wave(50), Wave(100)), "exposure_budget": 4, "limits": LIMITS, **plan}
    rollout = start(bench, bundle, soak_s=30.0, **words)
    for _ in range(30):
        if show(bench, rollout)["status"] not in ("running",):
            break
        go_on(bench, rollout, errors, usual)
    return rollout


def test_a_bundle_that_fails_a_little_more_everywhere_is_taken_back(serving: Bench) -> None:
    rollout = roll(serving, errors=3)
    shown, found = show(serving, rollout), evidence(serving, rollout)
    assert shown["status"] in ("rolling-back", "rolled-back") and shown["stage"] == 1
    assert "error rate is worse in" in shown["reason"]
    assert found["value"] >= found["needed"] == 20.0
    assert found["measures"]["error_rate"]["better"] == 0
    assert found["items"][0]["figures"]["device"]["errors"] == [0, 6]


def test_what_happens_to_everybody_is_not_the_bundle(serving: Bench) -> None:
    rollout = roll(serving, errors=30, usual=30)
    assert show(serving, rollout)["status"] == "complete"
    assert evidence(serving, rollout)["value"] == 1.0


def test_without_a_gate_nothing_is_compared(serving: Bench) -> None:
    rollout = roll(serving, errors=3, gate=Gate(alpha=0))
    assert show(serving, rollout)["status"] == "complete"
    assert evidence(serving, rollout)["needed"] is None and evidence(serving, rollout)["items"] == []


def test_those_held_out_wait_for_the_end(serving: Bench) -> None:
    bundle = serving.publish("2", 2)
    rollout = start(serving, bundle, soak_s=30.0, canary=2, exposure_budget=4, holdout=25, limits=LIMITS)
    most = 0
    while show(serving, rollout)["status"] == "running":
        most = max(most, len(DEVICES) - len(places(serving, rollout).get("waiting", [])))
        go_on(serving, rollout, 0)
    assert most == 18
    for _ in range(6):
        go_on(serving, rollout, 0)
    assert show(serving, rollout)["counts"] == {**dict.fromkeys(show(serving, rollout)["counts"], 0), "confirmed": 24}


def test_evidence_outlives_a_restart(serving: Bench) -> None:
    bundle = serving.publish("2", 2)
    rollout = start(serving, bundle, soak_s=30.0, canary=4, exposure_budget=4, limits=LIMITS)
    go_on(serving, rollout, 3)
    before = evidence(serving, rollout)
    assert before["measures"]["error_rate"]["worse"] == 4
    config = serving.fleet.config
    serving.fleet.close()
    serving.fleet = open_fleet(config, serving.clock, random.Random(2).randbytes)
    for _ in range(3):
        go_on(serving, rollout, 3)
    assert show(serving, rollout)["status"] in ("rolling-back", "rolled-back")
    assert "worse in 9 pairs" in show(serving, rollout)["reason"]  # four of them from before


def test_devices_that_fail_the_update_itself_are_the_failure_budgets_business(serving: Bench) -> None:
    bundle = serving.publish("2", 2)
    rollout = start(serving, bundle, soak_s=30.0, canary=2, exposure_budget=4, failure_budget=2, limits=LIMITS)
    serving.progress(places(serving, rollout)["offered"][0], Phase.FAILED, Reason.GOLDEN)
    assert show(serving, rollout)["status"] == "running" and evidence(serving, rollout)["items"] == []

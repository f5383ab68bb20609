"""The fleet looks its devices over: what heartbeats, sessions, certificates and finished rollouts say."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlmodel import select
from tests.fleet.conftest import ACTOR, Bench

from skerry_contracts.device import ModelHealth, ModelState, Phase, SpoolHealth
from skerry_fleet.incident_tables import Incident
from skerry_fleet.records import Alert
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.tables import DeviceState, Rollout

DATABASES = "both"


def changed(bench: Bench, name: str, **fields: Any) -> None:
    bench.send(name, "heartbeat", dataclasses.replace(bench.heartbeat(name), **fields))


def open_kinds(bench: Bench) -> list[tuple[str, str]]:
    bench.clock.now += 61
    bench.fleet.tick()
    with bench.fleet.database.read() as session:
        rows = session.exec(select(Alert).where(Alert.state != "resolved")).all()
        return sorted((each.kind, each.subject) for each in rows)


def test_the_fleet_sees_what_heartbeats_say(bench: Bench) -> None:
    bench.enrol("d", "gone")
    for name in ("d", "gone"):
        changed(bench, name, spool=SpoolHealth(10, 7, 0, 3, 0))  # what was lost before is not news
    assert open_kinds(bench) == []
    model = ModelHealth("digits", "1", "0" * 64, "v", ModelState.DEGRADED, 1, 0, 4, 1.0, 2.0, 1)
    changed(bench, "d", spool=SpoolHealth(10, 6, 0, 4, 0), disk_free_bytes=10, models=(model,))
    changed(bench, "gone", disk_free_bytes=10)
    assert open_kinds(bench) == [("disk-low", "d"), ("disk-low", "gone"), ("spool-dropping", "d")]
    changed(bench, "d", models=(dataclasses.replace(model, restarts=5),), spool=SpoolHealth(10, 6, 0, 4, 0))
    for _ in range(6):
        found = open_kinds(bench)
        changed(bench, "d", models=(dataclasses.replace(model, restarts=0),), spool=SpoolHealth(10, 6, 0, 4, 0))
        changed(bench, "gone", disk_free_bytes=10)
    assert found == [
        ("disk-low", "gone"),
        ("model-crash-loop", "d/digits"),
        ("model-degraded", "d/digits"),
        ("spool-dropping", "d"),
    ]
    with bench.fleet.database.write() as session:
        state = session.get(DeviceState, ("default", "d"))
        assert state is not None
        state.heartbeat = "{}"  # written by another version: nothing is known, nothing fails
        session.add(state)
    open_kinds(bench)


def test_reconnecting_all_the_time_is_flapping_and_reboots_count_once(bench: Bench) -> None:
    bench.enrol("d")
    changed(bench, "d")
    assert open_kinds(bench) == []
    for number in range(9):
        with bench.fleet.database.write() as session:
            state = session.get(DeviceState, ("default", "d"))
            assert state is not None
            state.session += 1
            session.add(state)
        bench.beat("d", "")
        found = open_kinds(bench)
        assert found == ([("flapping", "d")] if number >= 6 else []), number
    for _ in range(2):
        bench.clock.now += 3600
        bench.beat("d", "")
        found = open_kinds(bench)
    assert found == []
    bench.boots["d"] = 7
    bench.beat("d", "")
    assert open_kinds(bench) == []


def test_a_certificate_that_is_not_renewed_and_a_release_that_is_left_behind(bench: Bench) -> None:
    bench.enrol("d", "e", group="")
    first, second = bench.publish("1", 1), bench.publish("2", 2)
    for bundle in (first, second):
        with bench.fleet.rollouts.open() as session:
            wanted = RolloutRequest("digits", bundle, soak_s=0.0, canary=1, exposure_budget=9, supersede=True)
            bench.fleet.rollouts.create(session, ACTOR, bench.clock(), wanted)
        for _ in range(4):
            bench.fleet.tick()
            for name in ("d", "e"):
                assigned = bench.assignment(name)
                if assigned is not None and assigned.models and assigned.models[0].bundle == bundle:
                    bench.progress(name, Phase.COMMITTED)
                bench.beat(name)
    with bench.fleet.database.read() as session:
        assert {each.status for each in session.exec(select(Rollout)).all()} == {"complete"}
    bench.beat("d", first)  # an image that was put back, say
    assert open_kinds(bench) == []
    for _ in range(3):
        bench.clock.now += 9 * 3600
        bench.beat("d", first)
        bench.beat("e")
    assert open_kinds(bench) == [("stale-model", "d/digits")]
    with bench.fleet.database.read() as session:
        (incident,) = session.exec(select(Incident)).all()
        assert incident.scope == "digits" and "release 1 of digits; release 2 is confirmed" in incident.text
    bench.clock.now += 22.5 * 86_400
    bench.beat("d", second)
    bench.beat("e")
    assert open_kinds(bench) == [("certificate", "d"), ("certificate", "e")]

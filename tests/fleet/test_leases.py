"""Leases of boards: who gets which, what is ordered, how each ends, and what outsiders may not do."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from tests.fleet.conftest import ACTOR, Bench, folder_of
from tests.fleet.lease_parts import (
    FITS,
    PROFILE,
    SOURCE,
    ask,
    candidate,
    candidates,
    kept,
    lease,
    online,
    open_lab,
    ordered,
    tell,
    upload,
)
from tests.fleet.test_ingest import rows

from skerry_contracts.bundle import Predicates
from skerry_contracts.container import open_container
from skerry_contracts.measuring import MODEL, MeasureReport, MeasureState
from skerry_fleet import lease_request, leaving, measurements
from skerry_fleet.audit import Actor
from skerry_fleet.errors import ConflictError, FleetError, ForbiddenError, InputError, MissingError
from skerry_fleet.lease_request import LeaseRequest
from skerry_fleet.measure_tables import MeasureLease, MeasurementRow
from skerry_fleet.paging import Page
from skerry_fleet.records import Audit


@pytest.fixture
def lab(bench: Bench) -> Bench:
    return open_lab(bench)


def test_a_lease_from_asking_to_the_end(lab: Bench) -> None:
    name = ask(lab)
    assert (lease(lab, name).status, lease(lab, name).device) == ("granted", "b1") and ordered(lab, "b1") is None
    upload(lab, name, seconds=120, rounds=5)
    assert lease(lab, name).status == "measuring" and ordered(lab, "b1") == name and ordered(lab, "b2") is None
    measure = lab.assignment("b1").measure  # type: ignore[union-attr]  # just seen
    assert measure is not None and (measure.seconds, measure.rounds) == (120, 5)
    assert lab.fleet.office.repository.custom_of(measure.target_path) is not None and kept(lab)
    blob = next(iter(open_container(candidates()).manifest.blobs()))
    assert lab.fleet.leases.blob(blob) is not None and not folder_of(lab.fleet).path(blob).exists(), "kept apart"
    tell(lab, name, MeasureState.MEASURING, candidate=candidate("ref", p50_ns=(3000,), against=""), reported=1)
    slow = candidate("v", against="ref", p50_ns=(1000, 1000, 1000), against_p50_ns=(3000, 2000, 9000))
    tell(lab, name, MeasureState.MEASURING, candidate=slow, reported=2)
    tell(lab, name, MeasureState.DONE, reported=2, notes=("governor performance",))
    assert lease(lab, name).status == "measuring", "the tick takes it up"
    lab.fleet.tick()
    assert lease(lab, name).status == "done" and ordered(lab, "b1") is None
    assert lab.fleet.office.repository.custom_of(measure.target_path) is None and not kept(lab)
    with lab.fleet.database.read() as session:
        view = measurements.lease_view(session, lease(lab, name), results=True)
        listed = measurements.list_measurements(session, "default", Page(), profile=PROFILE)["items"]
        shown = measurements.show(session, "default", listed[0]["id"])
    assert [each["id"] for each in view["results"]] == ["ref", "v"] and view["notes"] == ["governor performance"]
    assert listed[0]["candidate"] == "v" and listed[0]["speed"] == 3.0, "the median of rounds side by side"
    assert listed[0]["engine_version"] == "1" and listed[0]["cpu"] == "cpu" and listed[0]["source_sha256"] == SOURCE
    variant = open_container(candidates()).manifest.variants[0]
    assert listed[0]["artifact_sha256"] == variant.blobs["library"].sha256 and "answers" not in shown["record"]
    actions = [each.action for each in rows(lab, Audit) if each.object == f"lease/{name}"]
    assert actions == ["lease.ask", "lease.granted", "lease.measuring", "lease.done"]


def test_who_waits_is_served_in_turn_and_told_why(lab: Bench) -> None:
    first, second, third, fourth = (ask(lab) for _ in range(4))
    assert [lease(lab, each).device for each in (first, second, third, fourth)] == ["b1", "b2", "", ""]
    lab.fleet.tick()
    assert lease(lab, third).reason == (
        f"no board is free: b1 measures for lease {first}, b2 measures for lease {second}"
    )
    with lab.fleet.database.write() as session:
        lab.fleet.leases.cancel(session, ACTOR, lab.clock(), lease_request.get(session, "default", second), "")
    lab.fleet.tick()
    assert (lease(lab, third).device, lease(lab, fourth).status) == ("b2", "queued")


def test_boards_that_are_not_free_are_passed_over(lab: Bench) -> None:
    online(lab, "b1", up=False)
    lab.beat("b2", "a" * 64, predictions=7)
    waiting = ask(lab)
    lab.fleet.tick()
    assert lease(lab, waiting).reason == (
        "no board is free: b1 is offline, b2 served 7 predictions since its heartbeat"
    )
    named = ask(lab, "b2")
    assert lease(lab, named).device == "b2", "who names a board that serves may have it: it yields by itself"


def test_a_board_in_a_rollout_is_not_lent(lab: Bench) -> None:
    from tests.fleet.rolling import start

    start(lab, lab.publish("1", 1), canary=6, exposure_budget=6)
    waiting = ask(lab)
    lab.fleet.tick()
    assert lease(lab, waiting).status == "queued" and "is in rollout r1" in lease(lab, waiting).reason


@pytest.mark.parametrize(
    ("request_", "error", "words", "hint"),
    [
        ({"profile": "raspberry-pi-9"}, MissingError, "no board here is a raspberry-pi-9", None),
        ({"profile": "raspberry-pi-4"}, MissingError, "no board here is a raspberry-pi-4", PROFILE),
        ({"device": "nobody"}, MissingError, "no device 'nobody'", "device list"),
        ({"device": "b3"}, ConflictError, "b3 does not take part", "group add measuring b3"),
    ],
)
def test_what_no_board_can_do_is_refused_at_once(
    lab: Bench, request_: dict[str, Any], error: type[FleetError], words: str, hint: str | None
) -> None:
    strange = request_.get("profile") == "raspberry-pi-9"  # on no shelf: any board that fits would do, and none does
    requires = Predicates("linux", "aarch64") if strange else FITS
    with lab.fleet.database.write() as session, pytest.raises(error, match=words) as caught:
        wanted = LeaseRequest(request_.get("profile", PROFILE), requires, SOURCE, request_.get("device"))
        lab.fleet.leases.create(session, ACTOR, lab.clock(), wanted)
    assert hint is None or hint in caught.value.hint


def test_a_device_that_cannot_run_it_is_refused_with_what_it_lacks(lab: Bench) -> None:
    with lab.fleet.database.write() as session, pytest.raises(ConflictError, match="lacks avx512f"):
        wanted = LeaseRequest("x86-64-v4", Predicates("linux", "x86_64", ("avx512f",)), SOURCE, "b1")
        lab.fleet.leases.create(session, ACTOR, lab.clock(), wanted)


def test_a_fleet_without_takers_says_how(bench: Bench) -> None:
    with pytest.raises(MissingError) as caught:
        ask(bench)
    assert "skerry agent enroll" in caught.value.hint
    bench.enrol("b1")
    with pytest.raises(ConflictError, match="none takes part") as other:
        ask(bench)
    assert "skerry fleet group create measuring" in other.value.hint


def test_a_compiler_that_falls_silent_loses_its_lease(lab: Bench) -> None:
    name = ask(lab)
    upload(lab, name)
    lab.clock.now += 50
    with lab.fleet.database.write() as session:
        lab.fleet.leases.renew(session, ACTOR, lab.clock(), lease_request.get(session, "default", name))
    lab.clock.now += 50
    online(lab, "b1")
    lab.fleet.tick()
    assert ordered(lab, "b1") == name, "it was heard meanwhile"
    lab.clock.now += 20
    lab.fleet.tick()
    assert lease(lab, name).status == "failed" and "not heard for 60 s" in lease(lab, name).reason
    assert ordered(lab, "b1") is None and not kept(lab)


def test_a_board_that_goes_silent_gives_the_lease_back_or_fails_it(lab: Bench) -> None:
    early, late = ask(lab), ask(lab)
    upload(lab, late)
    online(lab, "b1", "b2", up=False)
    lab.fleet.tick()
    assert (lease(lab, early).status, lease(lab, early).device) == ("queued", "")
    assert (lease(lab, late).status, lease(lab, late).reason) == ("failed", "b2 went silent")
    assert ordered(lab, "b2") is None, "when it is back it finds no order"


def test_a_decommissioned_board_ends_it(lab: Bench) -> None:
    name = ask(lab)
    upload(lab, name)
    with lab.fleet.database.write() as session:
        leaving.decommission(session, ACTOR, lab.clock(), "b1")
    lab.fleet.tick()
    assert lease(lab, name).status == "failed" and not kept(lab)


def test_reports_of_others_are_not_believed(lab: Bench) -> None:
    name = ask(lab)
    upload(lab, name)
    tell(lab, name, MeasureState.DONE, device="b2", candidate=candidate())
    lab.fleet.tick()
    assert lease(lab, name).status == "measuring" and not rows(lab, MeasurementRow)
    report = MeasureReport(
        lab.boot_id("b1"),
        900,
        lab.clock(),
        name,
        lease(lab, name).bundle,
        MeasureState.MEASURING,
        candidate=candidate(),
    )
    for _ in range(2):
        lab.send("b1", "measured", report)
    assert len(rows(lab, MeasurementRow)) == 1, "redelivered, and counted once"


@pytest.mark.parametrize("model", ["digits", "other"])
def test_only_candidates_are_measured(lab: Bench, model: str) -> None:
    name = ask(lab)
    with pytest.raises(InputError, match=f"a bundle of {MODEL}"):
        upload(lab, name, candidates(model=model))
    assert ordered(lab, "b1") is None and not kept(lab)
    with pytest.raises(InputError, match="not a valid bundle"):
        upload(lab, name, io.BytesIO(b"nothing"))
    broken = bytearray(candidates().getvalue())
    broken[-200] ^= 1
    with pytest.raises(FleetError):
        upload(lab, name, io.BytesIO(bytes(broken)))
    assert ordered(lab, "b1") is None
    upload(lab, name)
    with pytest.raises(ConflictError, match="is measuring"):
        upload(lab, name)


def test_candidates_cannot_become_a_model(lab: Bench) -> None:
    with pytest.raises(InputError, match="only ever measured"):
        lab.fleet.registry.register(ACTOR, MODEL)
    with pytest.raises(MissingError):
        lab.fleet.registry.upload(ACTOR, MODEL, candidates())


def test_another_key_may_not_act_on_a_lease(lab: Bench) -> None:
    name, other = ask(lab), Actor("default", "key:other")
    with lab.fleet.database.read() as session:
        with pytest.raises(ForbiddenError, match="belongs to another key"):
            lease_request.owned(session, other, name, by_role=False)
        assert lease_request.owned(session, other, name, by_role=True).id == name
        with pytest.raises(MissingError):
            lease_request.owned(session, Actor("strangers", ACTOR.name), name, by_role=True)


def test_old_figures_go_and_answers_go_sooner(lab: Bench) -> None:
    name = ask(lab)
    upload(lab, name)
    tell(lab, name, MeasureState.MEASURING, candidate=candidate())
    tell(lab, name, MeasureState.DONE)
    lab.fleet.tick()

    def tidy(days: float) -> None:
        with lab.fleet.database.write() as session:
            measurements.tidy(session, lab.clock(), days)

    tidy(365)
    assert "answers" in json.loads(rows(lab, MeasurementRow)[0].record)
    lab.clock.now += 3700
    tidy(365)
    assert "answers" not in json.loads(rows(lab, MeasurementRow)[0].record)
    lab.clock.now += 400 * 86_400
    tidy(365)
    assert not rows(lab, MeasurementRow) and not rows(lab, MeasureLease)

"""Shadows in the fleet: who gets them and who does not, what their reports add up to, and what ends them."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tests.fleet.conftest import ACTOR, Bench
from tests.fleet.rolling import DEVICES, assigned, start
from tests.fleet.test_ingest import rows

from skerry_contracts import codec
from skerry_contracts.device import Reason
from skerry_contracts.errors import MismatchError
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.shadow import ShadowAnswer, ShadowReport, ShadowState, latency_bin
from skerry_contracts.sketch import Histogram
from skerry_contracts.tensor import DType, Tensor
from skerry_fleet import carried_update, director, leaving
from skerry_fleet import shadow_figures as figures
from skerry_fleet import shadow_orders as orders
from skerry_fleet.errors import ConflictError, FleetError, InputError, MissingError
from skerry_fleet.paging import Page
from skerry_fleet.records import DeadLetter
from skerry_fleet.rollout_plan import Wave
from skerry_fleet.routes.shadows import PromoteRequest, promote
from skerry_fleet.shadow_orders import ShadowRequest
from skerry_fleet.shadow_tables import ShadowReportRow
from skerry_fleet.tables import Bundle


@pytest.fixture
def ready(bench: Bench) -> Bench:
    """Six devices that serve release 1; release 2 is published."""
    bench.enrol(*DEVICES)
    for device in DEVICES:
        bench.beat(device, "")
    start(bench, bench.publish("1", 1), canary=6, exposure_budget=6)
    for device in DEVICES:
        bench.install(device)
    bench.publish("2", 2)
    return bench


def bundle(bench: Bench, version: str = "2") -> str:
    return next(str(row.id) for row in rows(bench, Bundle) if row.version == version)


def begin(bench: Bench, version: str = "2", **more: Any) -> str:
    with bench.fleet.rollouts.open() as session:
        request = ShadowRequest("digits", bundle(bench, version), **more)
        return orders.create(session, bench.fleet.pen, ACTOR, bench.clock(), request, bench.fleet.random).id


def end(bench: Bench, shadow: str) -> None:
    with bench.fleet.rollouts.open() as session:
        orders.end(session, bench.fleet.pen, ACTOR, bench.clock(), shadow, "seen enough")


def show(bench: Bench, shadow: str) -> dict[str, Any]:
    with bench.fleet.database.read() as session:
        return figures.view(session, orders.get(session, "default", shadow))


def beside(bench: Bench) -> dict[str, str]:
    """Return the shadow that each device's signed assignment names."""
    found = {}
    for device in DEVICES:
        for model in (bench.assignment(device) or pytest.fail("never assigned")).models:
            if model.shadow is not None:
                found[device] = model.shadow.id
    return found


def report(bench: Bench, device: str, shadow: str, compared: int = 0, disagreed: int = 0, **more: Any) -> ShadowReport:
    counts = [0] * 60
    counts[latency_bin(0.2)] = compared
    latency = Histogram("latency_ms", tuple(counts)) if compared else None
    own, live = bundle(bench), bundle(bench, "1")
    state = more.pop("state", ShadowState.RUNNING)
    found = ShadowReport(
        bench.boot_id(device), bench.next(device), shadow, "digits", own, state, 1.0, 2.0, against=live
    )
    counted = {
        "chosen": compared,
        "compared": compared,
        "disagreed": disagreed,
        "live_latency": latency,
        "latency": latency,
    }
    return dataclasses.replace(found, **{**counted, **more})


def told(bench: Bench, device: str, shadow: str, *counts: int, **more: Any) -> ShadowReport:
    said = report(bench, device, shadow, *counts, **more)
    bench.send(device, "shadow", said)
    return said


def test_every_device_that_serves_another_bundle_is_assigned_it_under_signature(ready: Bench) -> None:
    before = {device: ready.assignment(device) for device in DEVICES}
    shadow = begin(ready, share=0.5, max_c=60.0, days=1.0)
    assert beside(ready) == dict.fromkeys(DEVICES, shadow)
    for device in DEVICES:
        after, was = ready.assignment(device), before[device]
        assert after is not None and was is not None and after.sequence == was.sequence + 1
        [model], [old] = after.models, was.models
        assert dataclasses.replace(model, shadow=None) == old, "what serves is untouched"
        terms = model.shadow
        assert terms is not None and (terms.bundle, terms.share, terms.max_c) == (bundle(ready), 0.5, 60.0)
        assert terms.until_s == ready.clock() + 86_400 and terms.release == 2
    with ready.fleet.rollouts.open() as session:
        day = ready.clock() + 20 * 86_400
        director.renew(session, ready.fleet.office.director.sign_assignment, day, 30.0)
    assert beside(ready) == dict.fromkeys(DEVICES, shadow), "a renewed assignment names it as well"


def test_it_ends_everywhere_and_a_device_may_go_on_saying_so(ready: Bench) -> None:
    shadow = begin(ready, devices=("d0", "d1"))
    told(ready, "d0", shadow, 10, 1)
    end(ready, shadow)
    assert beside(ready) == {} and show(ready, shadow)["status"] == "ended"
    told(ready, "d0", shadow, state=ShadowState.ENDED, reason=Reason.ORDERED)
    told(ready, "d0", shadow, 5, 0)
    shown = show(ready, shadow)
    assert shown["compared"] == 15, "the last window comes after the end"
    assert shown["states"] == {"ended": 1, "assigned": 1}, "and changes no state"
    end(ready, shadow)
    assert show(ready, shadow)["reason"] == "seen enough"


def test_its_time_is_over_by_itself(ready: Bench) -> None:
    shadow = begin(ready, days=1.0)
    ready.clock.now += 86_000
    ready.fleet.tick()
    assert len(beside(ready)) == 6
    ready.clock.now += 500
    ready.fleet.tick()
    assert beside(ready) == {} and show(ready, shadow)["reason"] == "its time is over"


def test_another_shadow_takes_devices_over(ready: Bench) -> None:
    ready.publish("3", 3)
    first = begin(ready)
    second = begin(ready, "3", devices=("d0",))
    assert beside(ready) == {**dict.fromkeys(DEVICES, first), "d0": second}
    assert show(ready, first)["active"] == 5 and show(ready, first)["status"] == "running"
    third = begin(ready, "3")
    assert beside(ready) == dict.fromkeys(DEVICES, third)
    assert show(ready, first)["reason"] == f"shadow {third} took its place"


def test_a_rollout_takes_the_place_of_a_shadow_device_by_device(ready: Bench) -> None:
    shadow = begin(ready)
    start(ready, bundle(ready), canary=1, waves=(Wave(100),), exposure_budget=2)
    taken = [device for device, found in assigned(ready).items() if found == bundle(ready)]
    assert len(taken) == 1 and set(beside(ready)) == set(DEVICES) - set(taken)
    while len(taken) < 6:
        for device in taken:
            ready.install(device)
        taken = [device for device, found in assigned(ready).items() if found == bundle(ready)]
    shown = show(ready, shadow)
    assert beside(ready) == {} and shown["status"] == "ended" and "took its place" in shown["reason"]


def test_promotion_is_a_rollout_where_the_shadow_was(ready: Bench) -> None:
    shadow = begin(ready)
    made = promote(ready.fleet, ACTOR, shadow, PromoteRequest(canary=1, soak_s=0.0))
    assert made["bundle"] == bundle(ready) and made["devices"] == 6 and len(beside(ready)) == 5
    shown = show(ready, shadow)
    assert (shown["status"], shown["rollout"]) == ("promoted", made["id"])
    with pytest.raises(ConflictError, match="became rollout"):
        promote(ready.fleet, ACTOR, shadow, PromoteRequest())
    with pytest.raises(ConflictError, match="is in rollout r2-"):
        begin(ready)


def test_a_shadow_of_chosen_devices_is_promoted_only_to_a_named_group(ready: Bench) -> None:
    shadow = begin(ready, devices=("d0",))
    with pytest.raises(InputError, match="chosen devices"):
        promote(ready.fleet, ACTOR, shadow, PromoteRequest())
    assert beside(ready) == {"d0": shadow}, "nothing has changed"


def test_what_cannot_be_compared_is_refused_in_one_line(ready: Bench) -> None:
    ready.publish("arm", 5, machine="aarch64", target="pi")
    wanted: list[tuple[dict[str, Any], type[FleetError], str]] = [
        ({"version": "1"}, ConflictError, "every such device runs this very bundle"),
        ({"version": "1", "devices": ("d0",)}, ConflictError, "d0 runs this very bundle"),
        ({"version": "arm"}, ConflictError, "none of 6 devices can run"),
        ({"devices": ("d0", "ghost")}, MissingError, "no device 'ghost'"),
        ({"group": "nowhere"}, MissingError, "nowhere"),
        ({"days": 0.0}, InputError, "days: 0"),
        ({"days": 1000.0}, InputError, "days: 1000"),
    ]
    for more, error, words in wanted:
        with pytest.raises(error, match=words):
            begin(ready, **more)
    with pytest.raises(MismatchError):
        begin(ready, share=2.0)
    with pytest.raises(MissingError, match="no bundle"), ready.fleet.rollouts.open() as session:
        orders.create(session, ready.fleet.pen, ACTOR, 0.0, ShadowRequest("digits", "f" * 64), ready.fleet.random)
    assert beside(ready) == {}


def test_a_device_without_the_model_has_nothing_to_compare(bench: Bench) -> None:
    bench.enrol("d0")
    bench.publish("2", 2)
    with pytest.raises(ConflictError, match="no such device runs digits"):
        begin(bench)
    with pytest.raises(ConflictError, match="d0 runs no digits"):
        begin(bench, devices=("d0",))


def test_a_device_that_leaves_the_fleet_stops_nothing(ready: Bench) -> None:
    shadow = begin(ready)
    with ready.fleet.rollouts.open() as session:
        leaving.decommission(session, ACTOR, ready.clock(), "d0")
    end(ready, shadow)
    assert show(ready, shadow)["status"] == "ended"


def test_reports_add_up_once_whatever_comes_twice_late_or_from_others(ready: Bench) -> None:
    shadow = begin(ready, devices=("d0", "d1"))
    first = told(ready, "d0", shadow, 100, 4)
    told(ready, "d1", shadow, 50, 1, dropped=7, failed=2, chosen=59, cpu_s=1.5)
    ready.send("d0", "shadow", first)
    told(ready, "d2", shadow, 1000, 1000)
    shown = show(ready, shadow)
    expected = {"chosen": 159, "compared": 150, "disagreed": 5, "dropped": 7, "failed": 2, "cpu_s": 1.5}
    assert {name: shown[name] for name in expected} == expected, "a device that is not in it counts for nothing"
    assert shown["latency"]["shadow_p50_ms"] == pytest.approx(0.2, rel=0.06)
    assert shown["against"][0]["version"] == "1" and shown["against"][0]["devices"] == 2
    with ready.fleet.database.read() as session:
        listed = figures.list_devices(session, "default", shadow, Page())["items"]
    assert [(each["device"], each["compared"], each["state"]) for each in listed] == [
        ("d0", 100, "running"),
        ("d1", 50, "running"),
    ]
    failed = told(ready, "d0", shadow, state=ShadowState.FAILED, reason=Reason.CRASHED, detail="SIGSEGV (3 times)")
    ready.boots["d0"] = 2
    ready.seqs["d0"] = 0
    told(ready, "d0", shadow, 1, 0)
    with ready.fleet.database.read() as session:
        [one, _] = figures.list_devices(session, "default", shadow, Page())["items"]
    assert (one["state"], one["reason"], one["detail"]) == ("failed", "crashed", failed.detail), "final stays final"


def test_absurd_counts_are_dead_letters(ready: Bench) -> None:
    shadow = begin(ready, devices=("d0",))
    plain = codec.to_plain(report(ready, "d0", shadow, 1, 0))
    for wrong in ({"compared": 2**62}, {"disagreed": 2}, {"chosen": -1}, {"cpu_s": 1e300}, {"shadow": "../x"}):
        plain["seq"] = ready.next("d0")
        ready.send("d0", "shadow", codec.canonical_json({**plain, **wrong}))
    assert len(rows(ready, DeadLetter)) == 5 and rows(ready, ShadowReportRow) == []


def test_disagreeing_samples_are_found_with_both_answers(ready: Bench) -> None:
    shadow = begin(ready, devices=("d0",))
    other = begin(ready, devices=("d1",))
    tensor = Tensor("y", DType.FP32, (1, 2), data=b"\0" * 8)
    for device, name in (("d0", shadow), ("d1", other)):
        boot, seq = ready.boot_id(device), ready.next(device)
        answer = ShadowAnswer(name, bundle(ready), "2", (tensor,))
        fields = ("digits", "1", bundle(ready, "1"), "v", Kept.DISAGREEING, 1.0, (tensor,), (tensor,))
        ready.send(device, "sample", Sample(boot, seq, 0.0, f"{device}/{boot}/{seq}", *fields, shadow=answer))
    with ready.fleet.database.read() as session:
        [(row, sample)] = figures.samples(session, "default", shadow)
    assert row.device == "d0" and sample.shadow is not None and sample.shadow.outputs == (tensor,)


def test_an_update_by_file_brings_the_candidate(ready: Bench) -> None:
    begin(ready, devices=("d0",))
    first = next(iter(carried_update.hand_out(ready.fleet, "default", "d0"))).decode("utf-8", "replace")
    assert bundle(ready) in first and bundle(ready, "1") in first, "both manifests are named"


def test_over_the_api(app: FastAPI, client: httpx.Client) -> None:
    assert client.get("/api/v1/shadows").json() == {"items": [], "next": None}
    assert client.post("/api/v1/shadows", json={"model": "digits", "bundle": "f" * 64}).status_code == 404
    assert client.post("/api/v1/shadows", json={"model": "digits", "bundle": "f" * 64, "shares": 1}).status_code == 422
    for path in ("", "/devices", "/samples"):
        assert client.get(f"/api/v1/shadows/none{path}").status_code == 404
    for verb in ("end", "promote"):
        assert client.post(f"/api/v1/shadows/none/{verb}", json={}).status_code == 404

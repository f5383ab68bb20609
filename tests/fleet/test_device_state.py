"""A device's desired and reported state: which link of the chain is open, and since when."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fleet.conftest import ACTOR, Bench
from tests.fleet.rolling import order, start

from skerry_contracts.device import Phase, Reason
from skerry_fleet import device_state, outbox
from skerry_fleet.errors import MissingError
from skerry_fleet.leaving import decommission
from skerry_fleet.rollout_words import Order


def state(bench: Bench) -> dict[str, Any]:
    with bench.fleet.database.read() as session:
        return device_state.state(session, "default", "d0")


def model(bench: Bench) -> dict[str, Any]:
    (found,) = state(bench)["models"]
    return dict(found)


def publish(bench: Bench) -> None:
    outbox.sent(bench.fleet.database, outbox.unsent(bench.fleet.database, 0))


def test_each_link_of_the_chain_is_named_until_it_closes(bench: Bench) -> None:
    bench.enrol("d0")
    fresh = state(bench)
    assert (fresh["models"], fresh["agrees"], fresh["sequence"], fresh["adopted"]) == ([], True, 0, None)
    bench.beat("d0", "")
    first = bench.publish("1", 1)
    offered_ms = int(bench.clock() * 1000)
    rollout = start(bench, first, canary=1)
    assert model(bench)["difference"] == "not-published" and not state(bench)["published"]
    publish(bench)
    found = model(bench)
    assert (found["difference"], found["since_ms"], found["reported"]) == ("not-adopted", offered_ms, None)
    assert found["desired"]["version"] == "1" and found["rollout"]["id"] == rollout
    assert found["rollout"]["created_by"] == ACTOR.name and found["place"]["place"] == "offered"
    bench.clock.now += 60
    bench.beat("d0", "")  # it knows its order, and does not run it yet
    bench.progress("d0", Phase.DOWNLOADING)
    found = model(bench)
    assert (found["difference"], found["since_ms"]) == ("not-running", offered_ms)
    assert found["place"]["phase"] == "downloading"
    bench.install("d0")
    found = model(bench)
    assert (found["difference"], found["since_ms"], state(bench)["agrees"]) == ("none", None, True)
    assert found["reported"]["version"] == "1" and found["confirmed"] == found["desired"]


def test_a_way_back_a_model_of_its_own_and_silence(bench: Bench) -> None:
    bench.enrol("d0")
    first, second = bench.publish("1", 1), bench.publish("2", 2)
    bench.beat("d0", first)
    assert model(bench)["difference"] == "not-desired" and not state(bench)["agrees"]
    start(bench, first, canary=1)
    publish(bench)
    bench.install("d0")
    rollout = start(bench, second, canary=1)
    publish(bench)
    bench.progress("d0", Phase.FAILED, Reason.GOLDEN)
    publish(bench)
    bench.beat("d0", first)
    found = model(bench)
    assert (found["difference"], found["back"], found["desired"]["version"]) == ("none", True, "1")
    assert found["rollout"]["id"] == rollout and found["place"]["reason"] == "golden"
    order(bench, start(bench, second, canary=1), Order.PAUSE)
    with bench.fleet.rollouts.open() as session:
        bench.fleet.rollouts.left(session, bench.clock(), "default", "d0")
        decommission(session, ACTOR, bench.clock(), "d0")
    with pytest.raises(MissingError):
        state(bench)


def test_who_never_reported_has_not_been_heard(bench: Bench) -> None:
    bench.enrol("d0")
    rollout = start(bench, bench.publish("1", 1), canary=1)
    with bench.fleet.rollouts.open() as session:
        bench.fleet.rollouts.observe(session, bench.clock(), (), [("default", "d0", True)])
    publish(bench)
    found = model(bench)
    assert (found["difference"], found["rollout"]["id"], found["desired"]["version"]) == ("not-heard", rollout, "1")

"""Measuring as the core decides it: fetched and checked like an update, run once, never served, gone at its end."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent.world import NOW_S, Bundle, World, assign, envelope, make_bundle

from skerry_agent import effects
from skerry_agent import measure_machine as machine
from skerry_agent.config import AgentConfig
from skerry_agent.measure_machine import Over, Stage
from skerry_agent.measuring import NAME
from skerry_contracts import codec
from skerry_contracts.assignment import AssignedModel, Assignment, target_path
from skerry_contracts.device import Reason
from skerry_contracts.errors import MismatchError
from skerry_contracts.measuring import (
    MODEL,
    MeasureOrder,
    MeasureReport,
    MeasureState,
)

LIVE, CANDIDATES = make_bundle(1), make_bundle(2, model=MODEL)


def order(world: World, sequence: int, bundle: Bundle | None, number: int = 1, **terms: object) -> None:
    """Assign LIVE, and a measuring beside it."""
    plain = codec.decode(Assignment, assign(LIVE, sequence=sequence))
    found = None
    if bundle is not None:
        manifest = bundle.manifest
        path = target_path(MODEL, bundle.id)
        usual = MeasureOrder(
            f"m{number}-0000000a", manifest.version, manifest.release, bundle.id, path, len(bundle.data), NOW_S + 900
        )
        found = dataclasses.replace(usual, **terms)  # type: ignore[arg-type]  # passed through
    world.down("assignment", envelope(codec.encode(dataclasses.replace(plain, measure=found))))


def world_of(tmp_path: Path, **more: object) -> World:
    world = World(tmp_path, bundles=(LIVE, CANDIDATES), **more)  # type: ignore[arg-type]  # passed through
    world.connect()
    world.assign(LIVE, sequence=1)
    world.settle()
    return world


def told(world: World) -> list[tuple[str, str]]:
    found = [codec.decode(MeasureReport, each.payload) for each in world.published if each.channel == "measured"]
    return [(each.state.value, each.reason.value) for each in found]


def test_candidates_are_fetched_and_run_and_never_serve(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, CANDIDATES)
    assert told(world) == [("fetching", "ok"), ("measuring", "ok")]
    assert [each for each in world.done if isinstance(each, effects.Measure)], "asked to run"
    assert b'"running"' in world.ledger.load()["measuring"], "durable before its bytes are mapped"
    assert world.serving == {"digits": LIVE.id} and set(world.core.memory.records) == {"digits"}
    world.do(world.core.measure_over("m1-0000000a", Over(MeasureState.DONE, reported=1)))
    assert told(world)[-1] == ("done", "ok") and world.store.manifest(CANDIDATES.id) is None, "its files are gone"
    assert world.store.manifest(LIVE.id) is not None


def test_a_new_start_never_takes_it_up_again(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, CANDIDATES)
    world.done.clear()
    world.boot()
    world.connect()
    world.pass_s(1.0)
    assert told(world)[-1] == ("failed", "power-cut") and world.store.manifest(CANDIDATES.id) is None
    order(world, 2, CANDIDATES)
    assert not [each for each in world.done if isinstance(each, effects.Measure)]
    order(world, 3, CANDIDATES, number=2)
    assert [each for each in world.done if isinstance(each, effects.Measure)], "a new order is a new measuring"


def test_what_is_no_longer_ordered_stops(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, CANDIDATES)
    order(world, 3, None)
    assert effects.MeasureStop("m1-0000000a") in world.done and told(world)[-1] == ("stopped", "ordered")
    assert world.core.memory.measuring is None and "measuring" not in world.ledger.load()


def test_its_end_comes_by_itself(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, CANDIDATES)
    world.pass_s(901)
    assert told(world)[-1] == ("stopped", "timeout") and effects.MeasureStop("m1-0000000a") in world.done
    assert world.core.next_wake_s() > world.clock.monotonic_s()


def test_a_device_that_measures_for_nobody_says_so(tmp_path: Path) -> None:
    world = world_of(tmp_path, config=AgentConfig(root=tmp_path, reserve_free_bytes=0, measuring=False))
    order(world, 2, CANDIDATES)
    assert told(world) == [("failed", "unfit")] or told(world)[-1] == ("failed", "unfit")
    assert not [each for each in world.done if isinstance(each, effects.FetchBlobs | effects.Measure)][1:]
    assert world.core.memory.sequence == 2, "the rest of the assignment holds"


@pytest.mark.parametrize(
    ("bundle", "terms", "reason"),
    [
        (CANDIDATES, {"disk_bytes": 100}, "no-space"),
        (CANDIDATES, {"release": 9}, "not-listed"),
        (make_bundle(2, model=MODEL, features=("nobody-has-this",)), {}, "unfit"),
        (LIVE, {}, "not-listed"),
    ],
)
def test_what_must_not_run_is_refused_before_it_is_fetched(
    tmp_path: Path, bundle: Bundle, terms: dict[str, object], reason: str
) -> None:
    world = world_of(tmp_path)
    world.add(bundle)
    world.done.clear()
    order(world, 2, bundle, **terms)  # type: ignore[arg-type]  # passed through
    assert told(world)[-1] == ("failed", reason)
    assert not [each for each in world.done if isinstance(each, effects.FetchBlobs | effects.Measure)]


def test_what_the_repository_does_not_list_is_refused(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    world.network = Reason.NOT_LISTED
    order(world, 2, CANDIDATES)
    assert told(world)[-1] == ("failed", "not-listed")


def test_a_broken_network_is_tried_again_until_the_time_is_up(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    world.network = Reason.NETWORK
    order(world, 2, CANDIDATES, seconds=60)
    world.pass_s(3)
    fetches = [each for each in world.done if isinstance(each, effects.FetchManifest) and each.model == NAME]
    assert len(fetches) == 2
    world.network = Reason.OK
    world.pass_s(5)
    assert told(world)[-1] == ("measuring", "ok")


def test_candidates_can_never_be_installed(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="only ever measured"):
        assigned = AssignedModel(MODEL, "1", 1, "a" * 64, target_path(MODEL, "a" * 64), 1, "r")
        Assignment("default", "d1", 1, 0, 1, (assigned,))
    with pytest.raises(MismatchError, match="no other bundle is only measured"):
        MeasureOrder("m1", "1", 1, "a" * 64, target_path("digits", "a" * 64), 1, 1)


def test_a_lost_ledger_serves_no_candidate(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, CANDIDATES)
    again = World(tmp_path, bundles=(LIVE, CANDIDATES))
    assert again.serving == {"digits": LIVE.id}


EVENTS = st.one_of(
    st.builds(machine.Listed, st.integers(0, 4)),
    st.builds(machine.Fetched, st.integers(0, 4)),
    st.builds(machine.Delayed, st.integers(0, 4)),
    st.builds(machine.Refused, st.integers(0, 4), st.just(Reason.UNFIT)),
    st.builds(Over, st.sampled_from([MeasureState.DONE, MeasureState.FAILED])),
    st.builds(machine.Tick, st.floats(0, 2000)),
    st.just(machine.Boot()),
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(EVENTS, max_size=12))
def test_any_course_runs_once_and_ends_once(events: list[machine.Event]) -> None:
    terms = MeasureOrder("m1", "1", 1, "a" * 64, target_path(MODEL, "a" * 64), 1, 1500, seconds=100)
    record, wishes = machine.ordered(terms, 1, 0.0)
    for now_s, event in enumerate(events):
        before = record
        record, more = machine.advance(record, event, float(now_s))
        wishes += more
        assert not before.final or (record, more) == (before, []), "over is over"
    runs = sum(isinstance(each, machine.Run) for each in wishes)
    ends = sum(isinstance(each, machine.Collect) for each in wishes)
    assert runs <= 1 and ends == record.final
    halted = sum(isinstance(each, machine.Halt) for each in wishes)
    assert halted == (runs and record.final), "what ran is ended"
    assert (machine.wake_s(record, 0.0) is None) == (record.stage is Stage.OVER)
    assert machine.withdrawn(record) == [] if record.final else machine.withdrawn(record)

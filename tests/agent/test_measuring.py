"""Measuring on a device: what each kind of candidate comes to, what serves comes first, and what the core allows."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent.serving_parts import Parts, bundle, compiled, put, tensor
from tests.agent.world import NOW_S, Bundle, World, assign, envelope, make_bundle

from skerry_agent import effects
from skerry_agent import measure_machine as machine
from skerry_agent.config import AgentConfig
from skerry_agent.daemon import this_hardware
from skerry_agent.effects import Effect
from skerry_agent.measure_machine import Over, Stage
from skerry_agent.measure_runner import MeasureRunner
from skerry_agent.measuring import NAME
from skerry_agent.records import Record
from skerry_agent.runtime import Runtime
from skerry_agent.shadow_budget import Readings
from skerry_agent.supervision import RuntimeConfig
from skerry_contracts import codec
from skerry_contracts.assignment import AssignedModel, Assignment, target_path
from skerry_contracts.bundle import Golden, Manifest
from skerry_contracts.device import Reason
from skerry_contracts.errors import MismatchError
from skerry_contracts.measuring import (
    MODEL,
    MeasuredCandidate,
    MeasureOrder,
    MeasureReport,
    MeasureState,
)

SOURCE = r"""
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
const uint32_t skerry_abi = 1;
const uint64_t skerry_sizes[] = {1, 1, 16, 16};
static volatile int sink;
static char *volatile kept;
int32_t skerry_run(const void *const *inputs, void *const *outputs) {
  const float *x = inputs[0];
  float *y = outputs[0];
  for (int i = 0; i < 4; i++) y[i] = 2 * x[i];
  for (long i = 0; i < SPIN; i++) sink++;
  switch (KIND) {
    case 1: *(volatile int *)8 = 1; break;
    case 2: for (;;) sink++;
    case 3: y[1] = NAN; break;
    case 4: for (int i = 0; i < 40; i++) { kept = malloc(4u << 20); if (kept) memset(kept, 1, 4u << 20); } break;
    case 5: abort();
  }
  return 0;
}
"""
WELL, SEGFAULT, HANG, NAN, HOG, ABORT = range(6)
COOL = Readings(temperature_c=40.0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Parts]:
    """Return what makes a bundle of candidates from (id, kind, spin)."""
    folder = tmp_path_factory.mktemp("measuring")

    def make(*kinds: tuple[str, int, int]) -> Parts:
        first = bundle(folder, compiled(folder, SOURCE, KIND=WELL, SPIN=0))
        variants = tuple(
            dataclasses.replace(
                first.variant, id=name, blobs={"library": put(folder, compiled(folder, SOURCE, KIND=kind, SPIN=spin))}
            )
            for name, kind, spin in kinds
        )
        return Parts(folder, dataclasses.replace(first.manifest, model=MODEL, variants=variants))

    return make


class Device:
    """What a runner needs of the core, and a live model in a worker of its own."""

    def __init__(self, candidates: Parts, runtime: Runtime, **terms: object) -> None:
        own = codec.digest(codec.encode(candidates.manifest))
        usual = MeasureOrder("m1-0000000a", "1", 1, own, f"{MODEL}/{own}.json", 1, 2**40, seconds=60, rounds=3)
        self.order = dataclasses.replace(usual, **terms)  # type: ignore[arg-type]  # passed through
        self.candidates, self.runtime = candidates, runtime
        self.memory = self.store = self
        self.records: dict[str, Record] = {}
        self.hardware = this_hardware()
        self.found: list[MeasuredCandidate] = []
        self.states: list[tuple[MeasureState, str]] = []
        self.over: Over | None = None
        self.readings = COOL
        self.runner = MeasureRunner(
            self,  # type: ignore[arg-type]  # as much of a core as a runner asks
            runtime,
            candidates.folder,
            lambda call, *values: call(*values),
            lambda: self.readings,
        )

    def manifest(self, name: str) -> Manifest | None:
        return self.candidates.manifest if name == self.order.bundle else None

    def measured(self, order: str, found: MeasuredCandidate, reported: int) -> list[Effect]:
        self.found.append(found)
        assert reported == len(self.found) and codec.decode(MeasuredCandidate, codec.encode(found)) == found
        return []

    def measure_told(self, order: str, state: MeasureState, detail: str) -> list[Effect]:
        self.states.append((state, detail))
        return []

    def measure_over(self, order: str, said: Over) -> list[Effect]:
        self.over = said
        return []

    def measuring_status(self) -> dict[str, object]:
        return {}

    def begin(self) -> None:
        self.runner.start(effects.Measure(self.order))

    async def ended(self) -> Over:
        async with asyncio.timeout(120):
            while self.over is None:
                await asyncio.sleep(0.01)
        return self.over

    def outcomes(self) -> dict[str, str]:
        return {each.id: each.outcome.value for each in self.found}


def play(
    candidates: Parts, body: Callable[[Device], Awaitable[None]], *, budget_bytes: int = 0, **terms: object
) -> Device:
    """Run a test's course beside a live model; nothing of it may be left, and what serves noticed nothing."""
    live = bundle(candidates.folder, compiled(candidates.folder, SOURCE, KIND=WELL, SPIN=0))

    async def course() -> Device:
        runtime = Runtime(RuntimeConfig(memory_budget_bytes=budget_bytes))
        device = Device(candidates, runtime, **terms)
        try:
            slot = await runtime.start("toy", live.folder, live.variant, live.manifest)
            await body(device)
            assert slot.counters.errors == slot.counters.restarts == 0, "what serves noticed nothing"
            await runtime.infer("toy", [tensor(0.0, 1.0)])
        finally:
            await device.runner.close()
            assert not runtime.room.guests
            await runtime.close()
        return device

    return asyncio.run(course())


def test_candidates_are_measured_beside_the_first_that_runs(parts: Callable[..., Parts]) -> None:
    async def body(device: Device) -> None:
        device.begin()
        await device.ended()

    device = play(parts(("broken", SEGFAULT, 0), ("slow", WELL, 400_000), ("quick", WELL, 0)), body)
    assert device.outcomes() == {"broken": "crashed", "slow": "measured", "quick": "measured"}
    broken, slow, quick = device.found
    assert not broken.p50_ns and "SIGSEGV" in broken.detail
    assert (slow.against, quick.against) == ("", "slow") and not slow.against_p50_ns
    assert len(quick.p50_ns) == len(quick.against_p50_ns) == 3, "in the same rounds"
    assert max(quick.p50_ns) < min(quick.against_p50_ns), "400 000 turns of a loop take longer than none"
    rows = device.candidates.manifest.golden.count
    wanted = [2 * value for row in range(rows) for value in (0.0, float(row), 1.0 + row, 2.0 + row)]
    assert quick.rows == rows and quick.answers == struct.pack(f"<{4 * rows}f", *wanted)
    assert 0 < quick.latency_p50_ms <= quick.latency_p95_ms <= quick.latency_p99_ms and quick.rss_bytes > 0
    assert device.over is not None and device.over.state is MeasureState.DONE and device.over.reported == 3
    assert any("SCHED_IDLE" in note for note in device.over.notes)


def test_a_candidate_may_do_its_worst(parts: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry_agent.measure_bench.PATIENCE_S", 2.0)

    async def body(device: Device) -> None:
        device.begin()
        await device.ended()

    kinds = (("well", WELL, 0), ("hang", HANG, 0), ("nan", NAN, 0), ("hog", HOG, 0), ("abort", ABORT, 0))
    device = play(parts(*kinds), body, memory_bytes=100_000_000)
    found = device.outcomes()
    assert found.pop("hog") in ("too-large", "crashed"), "ended by our watch, or refused by the system"
    assert found == {"well": "measured", "hang": "hung", "nan": "no-number", "abort": "crashed"}
    assert device.over is not None and device.over.state is MeasureState.DONE


def test_what_declares_more_memory_than_is_allowed_is_never_started(parts: Callable[..., Parts]) -> None:
    candidates = parts(("well", WELL, 0), ("large", WELL, 1))
    grown = dataclasses.replace(candidates.manifest.variants[1], memory_bytes=1 << 33)
    manifest = dataclasses.replace(candidates.manifest, variants=(candidates.manifest.variants[0], grown))

    async def body(device: Device) -> None:
        device.begin()
        await device.ended()

    device = play(dataclasses.replace(candidates, manifest=manifest), body)
    assert device.outcomes() == {"well": "measured", "large": "too-large"} and not device.found[1].rss_bytes


def test_what_serves_comes_first(parts: Callable[..., Parts]) -> None:
    async def body(device: Device) -> None:
        stop = asyncio.Event()

        async def ask() -> None:
            while not stop.is_set():
                await device.runtime.infer("toy", [tensor(0.0, 1.0)])
                await asyncio.sleep(0.02)

        asking = asyncio.create_task(ask())
        await asyncio.sleep(0.1)
        device.begin()
        async with asyncio.timeout(20):
            while (MeasureState.WAITING, "what serves is being asked") not in device.states:
                await asyncio.sleep(0.01)
        assert not device.found, "nothing was run while local programs were answered"
        stop.set()
        await asking
        await device.ended()

    device = play(parts(("a", WELL, 0), ("b", WELL, 1)), body)
    assert device.outcomes() == {"a": "measured", "b": "measured"} and device.states[-1] == (MeasureState.MEASURING, "")


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        (Readings(temperature_c=91.0), "91 degrees Celsius, 70 allowed"),
        (Readings(battery=0.2), "on battery, 20% left"),
        (Readings(available=0.03), "3% of the memory is available"),
    ],
)
def test_a_device_in_need_waits_and_the_time_runs_out(
    parts: Callable[..., Parts], readings: Readings, words: str
) -> None:
    async def body(device: Device) -> None:
        device.readings = readings
        device.begin()
        await device.ended()

    device = play(parts(("a", WELL, 0)), body, seconds=1)
    assert device.over is not None and device.over.state is MeasureState.STOPPED
    assert words in device.over.detail and device.outcomes() == {"a": "unreached"}


def test_the_workers_leave_for_what_serves_and_come_back(parts: Callable[..., Parts]) -> None:
    async def body(device: Device) -> None:
        device.begin()
        async with asyncio.timeout(20):
            while not device.runtime.room.guests or not device.runtime.room.guests[0].cost_bytes():
                await asyncio.sleep(0.005)
            guest = device.runtime.room.guests[0]
            await guest.leave()
            assert guest.cost_bytes() == 0
        await device.ended()

    device = play(parts(("a", WELL, 2_000_000), ("b", WELL, 1)), body)
    assert device.outcomes() == {"a": "measured", "b": "measured"}


def test_a_stop_ends_it_at_once_and_says_nothing_more(parts: Callable[..., Parts]) -> None:
    async def body(device: Device) -> None:
        device.begin()
        await asyncio.sleep(0.3)
        device.runner.stop("m9-another")
        device.runner.stop(device.order.id)
        async with asyncio.timeout(20):
            while device.runtime.room.guests:
                await asyncio.sleep(0.01)

    device = play(parts(("a", WELL, 2_000_000), ("b", HANG, 0)), body)
    assert device.over is None


# The core.

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


def test_golden_rows_of_another_size_are_refused(parts: Callable[..., Parts]) -> None:
    candidates = parts(("a", WELL, 0))
    golden = dataclasses.replace(candidates.manifest.golden, count=3)
    assert isinstance(golden, Golden)

    async def body(device: Device) -> None:
        device.candidates = dataclasses.replace(
            candidates, manifest=dataclasses.replace(candidates.manifest, golden=golden)
        )
        device.begin()
        await device.ended()

    device = play(candidates, body)
    assert device.over is not None and (device.over.state, device.over.reason) == (MeasureState.FAILED, Reason.CORRUPT)

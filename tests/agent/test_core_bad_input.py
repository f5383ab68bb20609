"""The core against signed words that do not fit, clocks that lie and time that nobody saw: it serves what it served."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.agent.world import HARDWARE, NOW_S, Bundle, World, assign, envelope, make_bundle

from skerry_agent import effects
from skerry_contracts import codec
from skerry_contracts.bundle import Predicates, Variant


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.connect()
    found.assign(make_bundle(1), sequence=5)
    found.settle()
    return found


def changed(bundle: Bundle, variant: Variant) -> Bundle:
    manifest = dataclasses.replace(bundle.manifest, variants=(variant,))
    return Bundle(manifest, codec.encode(manifest), bundle.blobs)


@pytest.mark.parametrize(
    "requires",
    [
        {"machine": "aarch64"},
        {"machine": "armv7l"},
        {"os": "none"},
        {"libc": "musl"},
        {"libc_min": "9.9"},
        {"cpu_features": ("avx2", "avx512f")},
        {"engine_min": "99"},
    ],
)
def test_a_signed_bundle_for_another_machine_or_abi_is_refused_before_the_download(
    world: World, requires: dict[str, object]
) -> None:
    before = dict(world.serving)
    made = make_bundle(2)
    variant = made.manifest.variants[0]
    wrong = changed(made, dataclasses.replace(variant, requires=dataclasses.replace(variant.requires, **requires)))  # type: ignore[arg-type]
    world.done.clear()
    world.assign(wrong, sequence=6)
    assert world.progress()[-1] == ("failed", "unfit") and world.serving == before
    assert not any(isinstance(each, effects.FetchBlobs) for each in world.done)


def test_a_signed_bundle_for_an_engine_or_a_memory_that_is_not_here_is_refused(world: World) -> None:
    made = make_bundle(2)
    variant = made.manifest.variants[0]
    requires = Predicates(HARDWARE.os, HARDWARE.machine, ())
    for number, more in enumerate(({"engine": "tvm"}, {"memory_bytes": 1 << 40})):
        wrong = dataclasses.replace(variant, requires=requires, **more)  # type: ignore[arg-type]
        world.assign(changed(made, wrong), sequence=6 + number)
        assert world.progress()[-1] == ("failed", "unfit")


def test_the_same_version_with_another_hash_is_another_bundle_and_never_passes_for_it(world: World) -> None:
    """Served in place of what was signed it is refused; signed itself, it is tried like any other."""
    made = make_bundle(2)
    other = dataclasses.replace(made.manifest, target="another-board")
    twin = Bundle(other, codec.encode(other), made.blobs)
    assert (twin.manifest.version, twin.manifest.release) == (made.manifest.version, made.manifest.release)
    before = dict(world.serving)
    world.bundles[made.id] = dataclasses.replace(twin)
    world.down("assignment", envelope(assign(made, sequence=6)))
    assert world.progress()[-1] == ("failed", "not-listed") and world.serving == before
    world.assign(twin, sequence=7)
    world.settle()
    assert world.progress()[-1] == ("committed", "ok") and world.serving == {"digits": twin.id}


def test_what_the_repository_lists_is_not_installed_unless_it_is_assigned(world: World) -> None:
    newer = world.add(make_bundle(9))
    before = dict(world.serving)
    world.done.clear()
    for _ in range(50):
        world.pass_s(3600)
    world.do(world.core.disconnected())
    world.connect()
    assert world.serving == before and newer.id not in world.store.bundles()
    assert not any(isinstance(each, (effects.FetchManifest, effects.FetchBlobs)) for each in world.done)


HELD = {
    "downloading": effects.FetchBlobs,
    "trial": effects.Trial,
    "observing": type(None),
}
CLOCKS = st.lists(st.sampled_from([-float(NOW_S), 2_300_000_000.0, -3600.0, 60 * 86400.0, 0.5]), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stage=st.sampled_from(sorted(HELD)), jumps=CLOCKS)
def test_a_clock_that_jumps_during_an_update_stops_no_model(tmp_path: Path, stage: str, jumps: list[float]) -> None:
    """1970, 2100, an hour back, sixty days ahead, in any order and in each stage; then the clock is right again."""
    world = World(tmp_path)
    world.store.collect(set())
    world.connect()
    first, second = make_bundle(1), make_bundle(2)
    world.assign(first)
    world.settle()
    world.hold = {HELD[stage]}
    world.assign(second, sequence=2)
    seen = 0.0
    for jump in jumps:
        world.clock.wall = max(0.0, world.clock.wall + jump)
        world.pass_s(1.0)
        seen += 1.0
        assert world.serving["digits"] in (first.id, second.id)
        assert world.core.memory.sequence == 2 and world.core.memory.records["digits"].floor >= 1
    world.clock.wall = NOW_S + 100.0 + seen
    world.hold = set()
    world.do(world.core.disconnected())
    world.connect()
    world.boot()  # whatever was held back: the agent asks again
    world.connect()
    for _ in range(60):
        world.pass_s(20.0)
    assert world.serving == {"digits": second.id} and world.core.memory.records["digits"].floor == 2


@pytest.mark.parametrize("stage", sorted(HELD))
@pytest.mark.parametrize("hours", [1.0, 24.0 * 40])
def test_an_hour_in_which_the_process_was_stopped_costs_no_update(tmp_path: Path, stage: str, hours: float) -> None:
    """Both clocks went on, and nothing ran. (Forty days: the assignment, too, is over, and a new one is needed.)"""
    world = World(tmp_path)
    world.connect()
    first, second = make_bundle(1), make_bundle(2)
    world.assign(first)
    world.settle()
    world.hold = {HELD[stage]}
    world.assign(second, sequence=2)
    held = [each for each in world.done if type(each) in world.hold]
    world.hold = set()
    world.pass_s(hours * 3600)
    assert world.serving == {"digits": second.id if stage == "observing" else first.id}
    for each in held:
        world.do([each])
    world.settle()
    if hours > 1 and stage == "downloading":
        assert world.progress()[-1] == ("failed", "expired") and world.serving == {"digits": first.id}
    else:
        assert world.progress()[-1] == ("committed", "ok") and world.serving == {"digits": second.id}

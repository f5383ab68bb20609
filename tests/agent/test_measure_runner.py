"""What each kind of candidate comes to on a device, and what serves comes first; all with real workers."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from collections.abc import Callable

import pytest
from tests.agent import measure_parts
from tests.agent.measure_parts import ABORT, HANG, HOG, NAN, SEGFAULT, WELL, Device, play
from tests.agent.serving_parts import Parts, tensor

from skerry_agent.shadow_budget import Readings
from skerry_contracts.bundle import Golden
from skerry_contracts.device import Reason
from skerry_contracts.measuring import MeasureState


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Parts]:
    """Return what makes a bundle of candidates from (id, kind, spin)."""
    folder = tmp_path_factory.mktemp("measuring")
    return lambda *kinds: measure_parts.candidates(folder, *kinds)


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

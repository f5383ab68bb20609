"""What a candidate may take: processor time, memory, heat; and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.serving_parts import Parts, bundle, compiled, tensor
from tests.agent.shadow_parts import BUSY, CANDIDATE, COOL, HANG, Device, play

from skerry_agent.errors import WorkerError
from skerry_agent.runtime import Runtime
from skerry_agent.shadow_budget import Readings
from skerry_agent.slot_view import declared_bytes
from skerry_contracts.device import Reason


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blobs")


@pytest.fixture(scope="module")
def live(folder: Path) -> Parts:
    return bundle(folder, compiled(folder))


@pytest.fixture(scope="module")
def candidate(folder: Path) -> Iterator[Parts]:
    yield bundle(folder, compiled(folder, CANDIDATE), version="2")


def test_beyond_its_share_of_the_processor_inputs_are_dropped(live: Parts, candidate: Parts) -> None:
    async def body(device: Device) -> None:
        await device.running()
        for _ in range(200):
            await device.ask(BUSY)
            await asyncio.sleep(0.01)
        await device.until(lambda: device.runner.status()["toy"]["state"] == "running")

    device = play(live, candidate, body, cpu_share=0.01)
    assert device.counted("dropped") > device.counted("compared"), "a hundredth of a core is soon spent"


def test_it_pauses_when_it_is_hot_and_says_why(live: Parts, candidate: Parts) -> None:
    async def body(device: Device) -> None:
        await device.running()
        device.readings = Readings(temperature_c=71.0)
        await device.until(lambda: device.state == "waiting")
        before = device.counted("compared")
        await device.ask()
        assert device.counted("dropped") == 1 and device.counted("compared") == before
        device.readings = Readings(temperature_c=66.0)
        await device.runner.round()
        assert device.state == "waiting", "not before it is cooler by five degrees"
        device.readings = COOL
        await device.until(lambda: device.state == "running")
        assert device.rested == 0, "it stayed in memory"

    device = play(live, candidate, body)
    assert device.struck == []


def test_without_a_sensor_it_says_so(live: Parts, candidate: Parts) -> None:
    async def body(device: Device) -> None:
        device.readings = Readings()
        await device.running()
        assert "no temperature sensor" in device.runner.status()["toy"]["note"]

    assert any("no temperature sensor" in words for _, words in play(live, candidate, body).states)


def test_it_leaves_at_once_for_a_live_model_even_in_an_inference(live: Parts, candidate: Parts, folder: Path) -> None:
    other = bundle(folder, compiled(folder), version="other")
    large = dataclasses.replace(other.variant, memory_bytes=400 << 20)

    async def body(device: Device) -> None:
        await device.running()
        await device.ask(HANG)
        await asyncio.sleep(0.05)
        counted, own = device.runtime.counted_bytes(), device.runtime.room.guests[0].cost_bytes()
        budget = counted - own // 2 + declared_bytes(large)
        device.runtime.config = dataclasses.replace(device.runtime.config, memory_budget_bytes=budget)
        await device.runtime.start("second", folder, large, other.manifest)
        assert device.state == "waiting" and device.rested == 1
        await device.runner.round()
        assert device.runtime.models() == ["second", "toy"] and not device.struck

    play(live, candidate, body)


def test_it_comes_only_where_there_is_room_and_never_evicts(live: Parts, folder: Path) -> None:
    candidate = bundle(folder, compiled(folder, CANDIDATE), version="4")
    wide = dataclasses.replace(candidate.variant, memory_bytes=400 << 20)
    candidate = Parts(folder, dataclasses.replace(candidate.manifest, variants=(wide,)))

    async def body(device: Device) -> None:
        device.ready()
        for _ in range(5):
            await device.runner.round()
        assert "MB are left" in device.runner.status()["toy"]["waits_for"]

    play(live, candidate, body, budget_bytes=200 << 20)

    async def refused(device: Device) -> None:
        device.ready()
        await device.until(lambda: device.struck)

    device = play(live, candidate, refused, memory_bytes=100 << 20)
    assert device.struck[0][0] is Reason.UNFIT


def test_its_worker_runs_on_spare_cycles_and_dies_first(live: Parts, candidate: Parts) -> None:
    async def body(device: Device) -> None:
        await device.running()
        [guest] = device.runtime.room.guests
        pid = guest._slot.pid  # type: ignore[attr-defined]  # no public door: nobody else needs it
        own = device.runtime.slot("toy")
        assert own is not None and own.pid is not None
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE and os.sched_getscheduler(own.pid) == os.SCHED_OTHER
        assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"

    play(live, candidate, body)


def test_a_candidate_that_ends_while_it_starts_leaves_no_process(live: Parts, candidate: Parts) -> None:
    async def body(device: Device) -> None:
        device.ready()
        await device.runner.round()
        await asyncio.sleep(0.01)
        await device.runner.stop("toy")
        await device.loading
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        own = device.runtime.slot("toy")
        assert own is not None and children == [str(own.pid)]

    play(live, candidate, body)


def test_worker_errors_of_the_live_model_are_not_the_candidates(live: Parts, candidate: Parts) -> None:
    """The live model fails on an input: the candidate is never offered what was not answered."""

    async def course() -> None:
        runtime = Runtime()
        try:
            await runtime.start("toy", live.folder, live.variant, live.manifest)
            with pytest.raises(WorkerError):
                await runtime.infer("toy", [tensor(11.0)])
        finally:
            await runtime.close()

    asyncio.run(course())

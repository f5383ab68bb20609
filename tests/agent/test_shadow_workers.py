"""Candidates in real workers: compared, paid for, and stopped when they misbehave; what serves never notices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.serving_parts import Parts, bundle, compiled
from tests.agent.shadow_parts import CANDIDATE, HANG, LEAK, NAN, OTHERWISE, SEGFAULT, WELL, Device, play

from skerry_contracts.device import Reason
from skerry_contracts.shadow import ShadowState


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blobs")


@pytest.fixture(scope="module")
def live(folder: Path) -> Parts:
    return bundle(folder, compiled(folder))


@pytest.fixture(scope="module")
def candidate(folder: Path) -> Iterator[Parts]:
    yield bundle(folder, compiled(folder, CANDIDATE), version="2")


def test_answers_are_compared_and_both_latencies_kept(live: Parts, candidate: Parts) -> None:
    async def body(device: Device) -> None:
        await device.running()
        for number in range(40):
            await device.ask(OTHERWISE if number % 4 == 0 else WELL)
            await device.until(
                lambda: device.counted("chosen") == device.counted("compared") + device.counted("dropped")
            )
        assert device.runtime.models() == ["toy"], "it is no model that programs can ask"

    device = play(live, candidate, body)
    assert device.counted("compared") >= 35 and device.proven == 1 and not device.struck
    assert device.counted("disagreed") == len(device.disagreements) == 10
    assert sum(sum(each.live) for each in device.tallies) == sum(sum(each.own) for each in device.tallies)
    assert all(each.against == device.bundle for each in device.tallies if each.compared)
    assert 0 < sum(each.cpu_s for each in device.tallies) < 20


@pytest.mark.parametrize(
    ("first", "reason"), [(SEGFAULT, Reason.CRASHED), (NAN, Reason.UNHEALTHY), (LEAK, Reason.UNHEALTHY)]
)
def test_one_that_misbehaves_is_stopped_after_few_tries(
    live: Parts, candidate: Parts, first: int, reason: Reason
) -> None:
    async def body(device: Device) -> None:
        await device.running()

        async def misbehave() -> None:
            while device.strikes < 3:
                if device.state == "running":
                    await device.ask(first)
                await asyncio.sleep(0.002)

        asking = asyncio.get_running_loop().create_task(misbehave())
        await device.until(lambda: device.strikes >= 3)
        await asking
        await device.stopping
        assert device.state == "gone" and not device.runtime.room.guests

    terms = {"memory_bytes": 100 << 20} if first == LEAK else {}
    device = play(live, candidate, body, **terms)
    assert {each for each, _ in device.struck} == {reason} and len(device.struck) <= 3


def test_one_that_hangs_is_stopped(live: Parts, candidate: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry_agent.shadow_candidate.PATIENCE_S", 1.5)
    monkeypatch.setattr("skerry_agent.shadow_candidate.HUNG_CPU_S", 0.0)

    async def body(device: Device) -> None:
        await device.running()
        await device.ask(HANG)
        await device.until(lambda: device.struck)

    device = play(live, candidate, body)
    assert device.struck[0][0] is Reason.TIMEOUT and device.counted("failed") == 1


def test_one_that_was_given_no_cycles_is_not_called_hung(
    live: Parts, candidate: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skerry_agent.shadow_candidate.PATIENCE_S", 0.5)
    monkeypatch.setattr("skerry_agent.shadow_candidate.HUNG_CPU_S", 1e9)

    async def body(device: Device) -> None:
        await device.running()
        await device.ask(HANG)
        await device.until(lambda: device.rested)
        assert device.state == "waiting"

    assert not play(live, candidate, body).struck


@pytest.mark.parametrize("wrong", ["golden", "load"])
def test_one_with_wrong_answers_or_that_does_not_load_never_runs(live: Parts, folder: Path, wrong: str) -> None:
    library = compiled(folder, FACTOR=3) if wrong == "golden" else b"not a library"
    candidate = bundle(folder, library, version=wrong)

    async def body(device: Device) -> None:
        device.ready()
        await device.until(lambda: device.strikes >= 3)

    device = play(live, candidate, body)
    assert device.struck[-1][0] is (Reason.GOLDEN if wrong == "golden" else Reason.LOAD)
    assert device.counted("compared") == 0 and ShadowState.RUNNING not in {state for state, _ in device.states}


def test_a_damaged_blob_is_never_mapped(live: Parts, folder: Path) -> None:
    candidate = bundle(folder, compiled(folder, CANDIDATE, DAMAGED=1), version="3")
    (folder / candidate.variant.blobs["library"].sha256).write_bytes(
        b"x" * candidate.variant.blobs["library"].size_bytes
    )

    async def body(device: Device) -> None:
        device.ready()
        await device.until(lambda: device.struck)

    assert play(live, candidate, body).struck == [(Reason.CORRUPT, "lost")]

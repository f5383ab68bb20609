"""Slots and workers with real processes: order, restart, swap, wrong inputs, models that crash, hang, lie or fail."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.agent import serving_parts as parts
from tests.agent.serving_parts import Parts, bundle, compiled, floats, tensor

from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.runtime import Runtime
from skerry_agent.supervision import ModelConfig, RuntimeConfig, SlotEvent
from skerry_contracts.device import ModelState, Reason
from skerry_contracts.tensor import DType, Tensor

QUICK = RuntimeConfig(deadline_s=20, load_s=60, first_delay_s=0.01, last_delay_s=0.05, wait_s=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("blobs")
    (made / "secret").write_text("the fleet's key")
    return made


@pytest.fixture(scope="module")
def toy(folder: Path) -> Parts:
    return bundle(folder, compiled(folder))


def run(
    body: Callable[[Runtime], Awaitable[None]],
    *,
    config: RuntimeConfig = QUICK,
    on_event: Callable[[SlotEvent], None] = lambda event: None,
) -> None:
    async def all_of_it() -> None:
        runtime = Runtime(config, on_event)
        try:
            await body(runtime)
        finally:
            await runtime.close()

    asyncio.run(all_of_it())


async def start(runtime: Runtime, toy: Parts, name: str = "toy") -> None:
    await runtime.start(name, toy.folder, toy.variant, toy.manifest)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_model_serves_and_is_counted(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        result = await runtime.infer("toy", [tensor(0, 1, 2, 3)])
        assert floats(result.outputs[0]) == [0, 2, 4, 6]
        assert (result.version, result.variant) == ("1", "native-fp32")
        (health,) = runtime.health(reset=True)
        assert (health.predictions, health.errors, health.state) == (1, 0, ModelState.SERVING)
        assert health.latency_p50_ms > 0 and 1e6 < health.rss_bytes < 100e6
        (again,) = runtime.health()
        assert again.predictions == 0 and again.latency_p50_ms == 0

    run(body)


def test_many_at_once_each_get_their_own_answer(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        results = await asyncio.gather(*(runtime.infer("toy", [tensor(0, i)]) for i in range(60)))
        assert [floats(each.outputs[0])[1] for each in results] == [2 * i for i in range(60)]

    run(body)


def test_too_many_at_once_are_told_so(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        asked = [runtime.infer("toy", [tensor(parts.SLOW, 20)]) for _ in range(8)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in results if isinstance(each, RequestError)]
        assert len(refused) == 4 and all(each.status == 503 and "busy" in str(each) for each in refused)

    run(body, config=dataclasses.replace(QUICK, every=ModelConfig(queue=3)))


@pytest.mark.parametrize(
    ("inputs", "status"),
    [
        ([], 400),
        ([tensor(1), tensor(1)], 400),
        ([Tensor("z", DType.FP32, (1, 4), bytes(16))], 400),
        ([Tensor("x", DType.FP32, (4,), bytes(16))], 400),
        ([Tensor("x", DType.INT32, (1, 4), bytes(16))], 400),
        ([Tensor("x", DType.FP32, (1, 4), ref="0" * 64)], 400),
    ],
)
def test_wrong_inputs_are_refused_before_the_worker_sees_them(toy: Parts, inputs: list[Tensor], status: int) -> None:
    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        with pytest.raises(RequestError) as caught:
            await runtime.infer("toy", inputs)
        assert caught.value.status == status
        with pytest.raises(RequestError) as unknown:
            await runtime.infer("nobody", inputs)
        assert unknown.value.status == 404
        assert runtime.health()[0].errors == 0

    run(body)


@pytest.mark.parametrize(
    ("what", "reason", "words"),
    [
        (parts.SEGFAULT, Reason.CRASHED, "SIGSEGV"),
        (parts.HANG, Reason.TIMEOUT, "no answer"),
        (parts.FORGE, Reason.CRASHED, "protocol"),
    ],
)
def test_a_worker_that_dies_fails_one_request_and_comes_back(toy: Parts, what: int, reason: Reason, words: str) -> None:
    events: list[SlotEvent] = []

    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        bad = asyncio.create_task(runtime.infer("toy", [tensor(what)]))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(runtime.infer("toy", [tensor(0, i)])) for i in range(5)]
        with pytest.raises(WorkerError, match=words) as caught:
            await bad
        assert caught.value.reason is reason
        assert [floats((await each).outputs[0])[1] for each in waiting] == [0, 2, 4, 6, 8]
        (health,) = runtime.health()
        assert (health.errors, health.restarts, health.predictions) == (1, 1, 5)
        assert [event.reason for event in events] == [reason, Reason.OK]

    run(body, config=dataclasses.replace(QUICK, deadline_s=0.5), on_event=events.append)


def test_nan_and_failures_are_errors_and_the_worker_lives_on(toy: Parts) -> None:
    events: list[SlotEvent] = []

    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        slot = runtime.slot("toy")
        assert slot is not None
        before = slot.pid
        for what, words in ((parts.NAN, "holds NaN"), (parts.FAIL, "returned 7")):
            with pytest.raises(WorkerError, match=words) as caught:
                await runtime.infer("toy", [tensor(what)])
            assert caught.value.reason is Reason.UNHEALTHY
        assert slot.pid == before and slot.counters.unhealthy == 2 and slot.counters.restarts == 0
        assert [event.reason for event in events] == [Reason.UNHEALTHY] * 2

    run(body, on_event=events.append)


def test_a_killed_worker_is_replaced_and_the_idle_slot_loses_nothing(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        slot = runtime.slot("toy")
        assert slot is not None and slot.pid is not None
        for _ in range(3):
            restarts = slot.counters.restarts
            assert slot.pid is not None
            os.kill(slot.pid, 9)
            await until(lambda before=restarts: slot.counters.restarts > before)  # type: ignore[misc]
            assert floats((await runtime.infer("toy", [tensor(0, 7)])).outputs[0])[1] == 14
        assert slot.counters.errors == 0

    run(body)


def test_a_swap_under_load_loses_nothing(toy: Parts, folder: Path) -> None:
    better = bundle(folder, compiled(folder, FACTOR=3), version="2", factor=3)

    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        await start(runtime, better, "toy@trial")
        assert (await runtime.golden("toy@trial", better.manifest, folder)).ok
        assert runtime.models() == ["toy"]
        answers: list[tuple[str, float]] = []

        async def ask(number: int) -> None:
            for i in range(40):
                result = await runtime.infer("toy", [tensor(0, i)])
                assert floats(result.outputs[0])[1] == (2 if result.version == "1" else 3) * i
                answers.append((result.version, i))

        clients = [asyncio.create_task(ask(number)) for number in range(10)]
        await until(lambda: len(answers) > 60)
        old = runtime.slot("toy")
        runtime.swap("toy")
        await asyncio.gather(*clients)
        assert len(answers) == 400 and {version for version, _ in answers} == {"1", "2"}
        assert old is not None
        await until(lambda: old.state is ModelState.STOPPED and old.pid is None)
        with pytest.raises(WorkerError, match="no trial"):
            runtime.swap("toy")

    run(body)


def test_a_swap_to_other_inputs_lets_the_old_worker_serve_those_who_wait(toy: Parts, folder: Path) -> None:
    wider = bundle(folder, compiled(folder, ELEMENTS=8), version="2", elements=8)

    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        await start(runtime, wider, "toy@trial")
        waiting = [asyncio.create_task(runtime.infer("toy", [tensor(parts.SLOW, 5)])) for _ in range(5)]
        await asyncio.sleep(0)
        runtime.swap("toy")
        assert {each.version for each in await asyncio.gather(*waiting)} == {"1"}
        result = await runtime.infer("toy", [tensor(0, 1, elements=8)])
        assert result.version == "2" and len(floats(result.outputs[0])) == 8

    run(body)


def test_a_caller_that_goes_away_disturbs_nobody(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        leaving = asyncio.create_task(runtime.infer("toy", [tensor(parts.SLOW, 50)]))
        await asyncio.sleep(0.01)
        staying = asyncio.create_task(runtime.infer("toy", [tensor(0, 4)]))
        await asyncio.sleep(0)
        leaving.cancel()
        assert floats((await staying).outputs[0])[1] == 8

    run(body)


def test_what_does_not_load_is_refused_and_leaves_the_live_model(toy: Parts, folder: Path) -> None:
    crashing = compiled(
        folder, "__attribute__((constructor)) void born(void) { *(volatile int *)8 = 1; }" + parts.SOURCE
    )
    cases = [
        (b"no library at all", "does not load"),
        (compiled(folder, ELEMENTS=5), "other tensors"),
        (crashing, "SIGSEGV"),
    ]

    async def body(runtime: Runtime) -> None:
        await start(runtime, toy)
        for library, words in cases:
            bad = bundle(folder, library)
            with pytest.raises(WorkerError, match=words) as caught:
                await start(runtime, bad)
            assert caught.value.reason is Reason.LOAD
        assert floats((await runtime.infer("toy", [tensor(0, 1)])).outputs[0])[1] == 2

    run(body)


def test_a_blob_that_is_not_its_digest_is_never_opened(toy: Parts, tmp_path: Path) -> None:
    name = toy.variant.blobs["library"].sha256
    good = (toy.folder / name).read_bytes()

    async def body(runtime: Runtime) -> None:
        for content in (good[:-1] + bytes([good[-1] ^ 1]), good + b"x", b""):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(WorkerError, match="not what its digest says") as caught:
                await runtime.start("toy", tmp_path, toy.variant, toy.manifest)
            assert caught.value.reason is Reason.CORRUPT
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(toy.folder / name)
        with pytest.raises(WorkerError, match="cannot be opened"):
            await runtime.start("toy", tmp_path, toy.variant, toy.manifest)

    run(body)

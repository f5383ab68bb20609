"""Several workers for one model: they serve at the same time, cover for each other, and leave first."""

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
from skerry_agent.slot import Slot
from skerry_agent.slot_view import WORKER_BYTES
from skerry_agent.supervision import ModelConfig, RuntimeConfig, SlotEvent
from skerry_contracts.device import ModelState, Reason

TWO = RuntimeConfig(
    deadline_s=20, first_delay_s=0.01, last_delay_s=0.05, wait_s=30, cores=2, every=ModelConfig(instances=2)
)
SLOW_MS = 400


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("instances")
    return bundle(folder, compiled(folder))


def run(
    body: Callable[[Runtime], Awaitable[None]],
    config: RuntimeConfig = TWO,
    on_event: Callable[[SlotEvent], None] = lambda event: None,
) -> None:
    async def all_of_it() -> None:
        runtime = Runtime(config, on_event)
        try:
            await body(runtime)
        finally:
            await runtime.close()

    asyncio.run(all_of_it())


async def start(runtime: Runtime, toy: Parts, name: str = "toy") -> Slot:
    manifest = dataclasses.replace(toy.manifest, model=name.partition("@")[0])
    slot = await runtime.start(name, toy.folder, toy.variant, manifest)
    await runtime.room.grown()
    return slot


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def pids(slot: Slot) -> list[int]:
    return [each.pid for each in slot.instances if each.pid is not None]


def test_two_workers_run_at_the_same_time_and_are_counted_together(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        slot = await start(runtime, toy)
        assert len(set(pids(slot))) == slot.serving == 2
        asked = [asyncio.ensure_future(runtime.infer("toy", [tensor(parts.SLOW, SLOW_MS)])) for _ in range(2)]
        await until(lambda: slot.busy == 2)
        assert not any(each.done() for each in asked), "the second waited for the first"
        await asyncio.gather(*asked)
        answers = await asyncio.gather(*(runtime.infer("toy", [tensor(0, at)]) for at in range(40)))
        assert [floats(each.outputs[0])[1] for each in answers] == [2 * at for at in range(40)]
        assert slot.counters.predictions == 42 and all(each.predictions for each in slot.instances)
        assert slot.rss_bytes() == sum(each.rss_bytes() for each in slot.instances) > 2e6
        [worker] = runtime.status()["workers"]
        assert (worker["instances"], worker["instances_wanted"]) == (2, 2)

    run(body)


def test_different_models_run_at_the_same_time(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        slots = [await start(runtime, toy, name) for name in "ab"]
        asked = [asyncio.ensure_future(runtime.infer(name, [tensor(parts.SLOW, SLOW_MS)])) for name in "ab"]
        await until(lambda: all(slot.busy for slot in slots))
        assert not any(each.done() for each in asked)
        # A model that is busy, with a queue behind it, delays no other.
        behind = [asyncio.ensure_future(runtime.infer("a", [tensor(parts.SLOW, SLOW_MS)])) for _ in range(3)]
        await asked[1]
        assert floats((await runtime.infer("b", [tensor(0, 3)])).outputs[0])[1] == 6
        assert not all(each.done() for each in behind)
        for each in behind:
            each.cancel()
        await asyncio.gather(*asked, *behind, return_exceptions=True)

    run(body, dataclasses.replace(TWO, every=ModelConfig()))


def test_a_lone_client_is_served_by_one_worker(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        slot = await start(runtime, toy)
        for at in range(20):
            await runtime.infer("toy", [tensor(0, at)])
        assert [each.predictions for each in slot.instances] == [20, 0]

    run(body)


@pytest.mark.parametrize("what", [parts.SEGFAULT, parts.HANG])
def test_while_one_worker_dies_the_others_serve(toy: Parts, what: int) -> None:
    events: list[SlotEvent] = []

    async def body(runtime: Runtime) -> None:
        slot = await start(runtime, toy)
        before = pids(slot)
        bad = asyncio.ensure_future(runtime.infer("toy", [tensor(what)], deadline_s=0.5))
        await until(lambda: slot.busy == 1 or bad.done())
        for at in range(20):
            assert floats((await runtime.infer("toy", [tensor(0, at)])).outputs[0])[1] == 2 * at
            assert slot.ready and slot.state is ModelState.SERVING
        with pytest.raises(WorkerError):
            await bad
        await until(lambda: slot.serving == 2)
        assert len(set(pids(slot)) & set(before)) == 1 and slot.counters.restarts == 1
        assert [event.reason for event in events] == [Reason.TIMEOUT if what == parts.HANG else Reason.CRASHED, "ok"]
        assert slot.counters.errors == 1

    run(body, on_event=events.append)


def test_all_workers_killed_at_once_lose_nobody_who_waits(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        slot = await start(runtime, toy)
        running = [asyncio.ensure_future(runtime.infer("toy", [tensor(parts.SLOW, SLOW_MS)])) for _ in range(2)]
        waiting = [asyncio.ensure_future(runtime.infer("toy", [tensor(0, at)])) for at in range(6)]
        await until(lambda: slot.busy == 2)
        for pid in pids(slot):
            os.kill(pid, 9)
        failed = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(each, WorkerError) for each in failed)
        assert [floats((await each).outputs[0])[1] for each in waiting] == [2 * at for at in range(6)]

    run(body)


def test_unload_load_swap_and_close_mean_all_of_them(toy: Parts, tmp_path: Path) -> None:
    def gone(pid: int) -> bool:
        return not Path(f"/proc/{pid}").exists()

    async def body(runtime: Runtime) -> None:
        slot = await start(runtime, toy)
        first = pids(slot)
        await slot.unload()
        assert all(gone(pid) for pid in first) and slot.cost_bytes() == 0
        await runtime.load("toy")
        await runtime.room.grown()
        second = pids(slot)
        assert len(second) == 2 and not set(first) & set(second)
        trial = await start(runtime, toy, "toy@trial")
        assert trial.serving == 1, "a trial takes the memory of one"
        runtime.swap("toy")
        await runtime.room.grown()
        assert trial.serving == 2
        await until(lambda: all(gone(pid) for pid in second))
        third = pids(trial)
        await runtime.close()
        assert all(gone(pid) for pid in third)

    run(body)


@pytest.mark.parametrize("steps", [0, 1, 3, 10, 100])
def test_a_slot_that_ends_while_it_grows_leaves_no_process_behind(toy: Parts, steps: int) -> None:
    def children() -> set[int]:
        return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}

    before = children()

    async def body(runtime: Runtime) -> None:
        await runtime.start("toy", toy.folder, toy.variant, toy.manifest)
        for _ in range(steps):
            await asyncio.sleep(0)
        await runtime.stop("toy")
        await runtime.room.grown()

    run(body)
    assert children() == before


def test_no_more_instances_than_cores_and_memory_allow(toy: Parts) -> None:
    async def one_core(runtime: Runtime) -> None:
        slot = await start(runtime, toy)
        assert slot.serving == runtime.room.wanted(slot) == 1

    run(one_core, dataclasses.replace(TWO, cores=1))

    async def no_room(runtime: Runtime) -> None:
        slot = await start(runtime, toy)
        assert slot.serving == 1 and runtime.room.wanted(slot) == 2
        assert floats((await runtime.infer("toy", [tensor(0, 1)])).outputs[0])[1] == 2
        runtime.config = TWO
        assert await runtime.relieve() == []
        await runtime.room.grown()
        assert slot.serving == 2, "the room that came was not used"

    run(no_room, dataclasses.replace(TWO, memory_budget_bytes=WORKER_BYTES + (2 << 20)))


def test_further_instances_leave_before_any_model_does(toy: Parts) -> None:
    declared = WORKER_BYTES + toy.variant.memory_bytes

    async def body(runtime: Runtime) -> None:
        slot = await start(runtime, toy, "a")
        assert slot.serving == 2 and runtime.counted_bytes() <= 2.5 * declared
        other = await start(runtime, toy, "b")
        assert (slot.serving, other.serving) == (1, 1) and not slot.evicted
        assert floats((await runtime.infer("a", [tensor(0, 1)])).outputs[0])[1] == 2
        assert runtime.counted_bytes() <= 2.5 * declared
        await runtime.relieve()
        await runtime.room.grown()
        assert (slot.serving, other.serving) == (1, 1), "one came back at once where it had to leave"

    run(body, dataclasses.replace(TWO, memory_budget_bytes=int(2.5 * declared)))


def test_what_waits_too_long_or_lost_its_caller_is_not_run(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        slot = await start(runtime, toy)
        running = asyncio.ensure_future(runtime.infer("toy", [tensor(parts.SLOW, SLOW_MS)]))
        await until(lambda: slot.busy == 1)
        late = asyncio.ensure_future(runtime.infer("toy", [tensor(0, 1)], wait_s=0.01))
        left = asyncio.ensure_future(runtime.infer("toy", [tensor(0, 2)]))
        stays = asyncio.ensure_future(runtime.infer("toy", [tensor(0, 3)]))
        await until(lambda: late.done())
        with pytest.raises(RequestError, match="in time") as caught:
            await late
        assert caught.value.status == 503 and caught.value.retry_after_s is not None
        left.cancel()
        await asyncio.sleep(0)
        assert slot.waiting == 1
        await running
        assert floats((await stays).outputs[0])[1] == 6
        assert slot.counters.predictions == 2, "one was run for nobody"

    run(body, dataclasses.replace(TWO, every=ModelConfig()))


def test_a_client_that_fills_the_queue_keeps_no_other_out(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        slot = await start(runtime, toy)
        running = asyncio.ensure_future(runtime.infer("toy", [tensor(parts.SLOW, SLOW_MS)], client="greedy"))
        await until(lambda: slot.busy == 1)
        order: list[str] = []

        async def ask(who: str) -> None:
            await runtime.infer("toy", [tensor(0, 1)], client=who)
            order.append(who)

        greedy = [asyncio.ensure_future(ask("greedy")) for _ in range(4)]
        await asyncio.sleep(0)
        modest = asyncio.ensure_future(ask("modest"))
        await running
        ended = await asyncio.gather(*greedy, modest, return_exceptions=True)
        refused = [each for each in ended if isinstance(each, RequestError)]
        assert len(refused) == 1 and ended[-1] is None and "busy" in str(refused[0])
        assert order.index("modest") <= 1, "it waited for more than one of the other's"

    run(body, dataclasses.replace(TWO, every=ModelConfig(queue=4)))

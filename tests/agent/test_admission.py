"""Several models in a bounded memory: who leaves, who comes back, who is refused; with real workers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent import serving_parts as parts
from tests.agent.serving_parts import Parts, bundle, compiled, floats, tensor

from skerry_agent.admission import leavers, worth
from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.runtime import Runtime
from skerry_agent.slot_view import WORKER_BYTES
from skerry_agent.supervision import RuntimeConfig
from skerry_contracts.device import ModelState, Reason

MB = 1_000_000
ROOM = 3 * (WORKER_BYTES + 10 * MB)  # for three toys that declare 10 MB each and measure less


@dataclasses.dataclass
class Seat:
    cost: int
    cold_start_ms: float
    used_s: float

    def cost_bytes(self) -> int:
        return self.cost


SEATS = st.lists(
    st.builds(Seat, st.integers(1, 100), st.floats(1, 1000, allow_nan=False), st.floats(0, 50, allow_nan=False)),
    max_size=8,
)


@given(SEATS, st.integers(-10, 500))
@settings(derandomize=True, max_examples=300)
def test_enough_leave_none_needlessly_and_the_cheapest_first(seats: list[Seat], short: int) -> None:
    found = leavers(seats, short, 50.0)
    if found is None:
        assert sum(seat.cost for seat in seats) < short
        return
    freed = sum(seat.cost for seat in found)
    assert freed >= max(0, short) and all(freed - seat.cost < short for seat in found)
    if found:
        dearest = max(worth(seat, 50.0) for seat in found)
        stay = [seat for seat in seats if all(seat is not each for each in found)]
        # One that is cheaper and stays could not have taken the place of the dearest that leaves.
        spare = [seat for seat in stay if worth(seat, 50.0) < dearest]
        assert sum(seat.cost for seat in spare) < short


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("blobs")
    return bundle(folder, compiled(folder))


def named(toy: Parts, name: str, memory_bytes: int = 10 * MB) -> Parts:
    variant = dataclasses.replace(toy.variant, memory_bytes=memory_bytes)
    return Parts(toy.folder, dataclasses.replace(toy.manifest, model=name, variants=(variant,)))


def run(body: Callable[[Runtime], Awaitable[None]], budget_bytes: int = ROOM) -> None:
    async def all_of_it() -> None:
        runtime = Runtime(RuntimeConfig(first_delay_s=0.01, wait_s=30, memory_budget_bytes=budget_bytes))
        try:
            await body(runtime)
        finally:
            await runtime.close()

    asyncio.run(all_of_it())


async def start(runtime: Runtime, found: Parts, name: str | None = None) -> None:
    await runtime.start(name or found.manifest.model, found.folder, found.variant, found.manifest)


def states(runtime: Runtime) -> dict[str, ModelState]:
    return {name: slot.state for name in runtime.models() if (slot := runtime.slot(name)) is not None}


def test_the_least_recently_asked_leaves_and_comes_back_when_it_is_asked(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        for name in "abc":
            await start(runtime, named(toy, name))
        for name, slot in ((name, runtime.slot(name)) for name in "abc"):
            assert slot is not None
            slot.cold_start_ms, slot.used_s = 100.0, {"a": -50.0, "b": -500.0, "c": -60.0}[name]
        await start(runtime, named(toy, "d"))
        assert [name for name, state in states(runtime).items() if state == ModelState.STOPPED] == ["b"]
        slot = runtime.slot("b")
        assert slot is not None and slot.evicted and slot.cost_bytes() == 0
        answers = await asyncio.gather(*(runtime.infer("b", [tensor(0, at)]) for at in range(8)))
        assert [floats(each.outputs[0])[1] for each in answers] == [2 * at for at in range(8)]
        assert slot.cold_start_ms > 0 and not slot.evicted
        assert runtime.counted_bytes() <= ROOM

    run(body)


def test_many_models_in_little_room_all_answer(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        for name in "abcdef":
            await start(runtime, named(toy, name))
            assert runtime.counted_bytes() <= ROOM
        asked = [runtime.infer(name, [tensor(0, at)]) for at in range(3) for name in "abcdef"]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in answers if isinstance(each, BaseException)]
        assert all(isinstance(each, RequestError) and each.status == 503 for each in refused), refused
        for name in "abcdef":
            assert floats((await runtime.infer(name, [tensor(0, 7)])).outputs[0])[1] == 14
            assert runtime.counted_bytes() <= ROOM

    run(body)


def test_what_cannot_fit_is_refused_with_the_reason_and_the_others_serve_on(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        await start(runtime, named(toy, "a"))
        slot = runtime.slot("a")
        assert slot is not None
        pid = slot.pid
        with pytest.raises(WorkerError, match="needs 114 MB, 72 MB are for models") as caught:
            await start(runtime, named(toy, "huge", 100 * MB))
        assert caught.value.reason == Reason.UNFIT
        assert slot.pid == pid and slot.ready and runtime.models() == ["a"]

    run(body)


def test_nothing_that_runs_is_on_trial_or_was_unloaded_by_hand_leaves(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        await start(runtime, named(toy, "a"))
        await start(runtime, named(toy, "a"), "a@trial")
        await start(runtime, named(toy, "b"))
        running = asyncio.ensure_future(runtime.infer("b", [tensor(parts.SLOW, 300)]))
        busy = asyncio.ensure_future(runtime.infer("a", [tensor(parts.SLOW, 300)]))
        await asyncio.sleep(0.02)
        with pytest.raises(WorkerError, match="in use"):
            await start(runtime, named(toy, "c", 40 * MB))
        await asyncio.gather(running, busy)
        trial, slot = runtime.slot("a@trial"), runtime.slot("b")
        assert trial is not None and trial.ready and slot is not None and slot.ready
        await slot.unload()
        with pytest.raises(RequestError, match="unloaded"):
            await runtime.infer("b", [tensor(0, 1)])
        await runtime.load("b")
        assert floats((await runtime.infer("b", [tensor(0, 1)])).outputs[0])[1] == 2

    run(body)


def test_a_model_without_room_beside_itself_is_replaced_all_the_same(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        await start(runtime, named(toy, "a", 40 * MB))
        with pytest.raises(WorkerError, match="in use"):
            await start(runtime, named(toy, "a", 45 * MB), "a@trial")
        slot = runtime.slot("a")
        assert slot is not None and slot.ready, "a trial never costs the model that serves"
        await start(runtime, named(toy, "a", 45 * MB))
        assert floats((await runtime.infer("a", [tensor(0, 1)])).outputs[0])[1] == 2

    run(body)


def test_what_grew_beyond_the_budget_makes_the_idle_leave(toy: Parts) -> None:
    async def body(runtime: Runtime) -> None:
        for name in "ab":
            await start(runtime, named(toy, name))
        assert await runtime.relieve() == []
        runtime.config = dataclasses.replace(runtime.config, memory_budget_bytes=WORKER_BYTES + 12 * MB)
        await runtime.infer("b", [tensor(0, 1)])
        assert await runtime.relieve() == ["a"]
        assert floats((await runtime.infer("b", [tensor(0, 1)])).outputs[0])[1] == 2

    run(body)

"""A slot over time: what it does when its blobs are damaged under it, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent import serving_parts as parts
from tests.agent.serving_parts import Parts, bundle, compiled, floats, tensor

from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.runtime import Runtime
from skerry_agent.supervision import RuntimeConfig, SlotEvent
from skerry_contracts.device import ModelState, Reason


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("slot")
    return bundle(folder, compiled(folder))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_worker_is_not_started_again_from_damaged_blobs(toy: Parts) -> None:
    events: list[SlotEvent] = []
    library = toy.folder / toy.variant.blobs["library"].sha256
    good = library.read_bytes()

    async def body() -> None:
        runtime = Runtime(RuntimeConfig(first_delay_s=0.01, last_delay_s=0.02, wait_s=0.2), events.append)
        slot = await runtime.start("toy", toy.folder, toy.variant, toy.manifest)
        assert slot.pid is not None
        library.write_bytes(good[:-1] + b"!")
        os.kill(slot.pid, 9)
        await until(lambda: Reason.CORRUPT in [event.reason for event in events])
        assert slot.state is ModelState.DEGRADED and not slot.ready and slot.rss_bytes() == 0
        with pytest.raises(RequestError) as caught:
            await runtime.infer("toy", [tensor(0, 1)])
        assert caught.value.status == 503
        library.write_bytes(good)
        await until(lambda: slot.ready)
        assert floats((await runtime.infer("toy", [tensor(0, 1)])).outputs[0])[1] == 2
        await runtime.close()

    asyncio.run(body())


def test_restarts_back_off_and_requests_hear_at_once_that_it_takes_long(toy: Parts) -> None:
    times: list[float] = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        runtime = Runtime(
            RuntimeConfig(first_delay_s=0.02, last_delay_s=60, wait_s=0.5), lambda event: times.append(loop.time())
        )
        slot = await runtime.start("toy", toy.folder, toy.variant, toy.manifest)
        while True:
            try:
                await runtime.infer("toy", [tensor(parts.SEGFAULT)])
            except WorkerError as error:
                assert error.reason is Reason.CRASHED
            except RequestError as error:
                assert error.status == 503
                if "keeps failing" in str(error):
                    break
                assert "in time" in str(error), error  # a worker took long to start: the machine is busy
        # 0.02, 0.04, 0.08, 0.16, 0.32, and 0.64 is longer than anyone waits
        assert slot.counters.crashes == 6 and slot.counters.restarts == 5
        down_s = [up - down for down, up in zip(times[0::2], times[1::2], strict=False)]
        assert len(down_s) == 5 and down_s[4] > 0.32 and down_s[4] > down_s[0]
        await runtime.close()

    asyncio.run(body())


def test_nothing_is_left_behind(toy: Parts) -> None:
    def held() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    other = bundle(toy.folder, compiled(toy.folder, ELEMENTS=5), elements=5)

    async def body() -> None:
        runtime = Runtime(RuntimeConfig(first_delay_s=0.001))
        slot = await runtime.start("toy", toy.folder, toy.variant, toy.manifest)
        before = held()
        for _ in range(5):
            with pytest.raises(WorkerError):
                await runtime.infer("toy", [tensor(parts.SEGFAULT)])
            await runtime.infer("toy", [tensor(0)])
            await runtime.start("toy@trial", toy.folder, toy.variant, toy.manifest)
            slot = runtime.swap("toy")
            with pytest.raises(WorkerError):
                await runtime.start("toy@trial", toy.folder, toy.variant, other.manifest)
        await until(lambda: held() == before)
        pid = slot.pid
        await runtime.close()
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    before = held()
    asyncio.run(body())
    assert held() == before

"""The rounds with real workers: one that is stopped, one that leaks, one that is slow; and who feeds the watchdog."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.agent import serving_parts as parts
from tests.agent.serving_parts import Parts, bundle, compiled, floats, tensor

from skerry_agent.config import AgentConfig
from skerry_agent.core import DeviceCore
from skerry_agent.degrading import Degrader
from skerry_agent.guard import Guard
from skerry_agent.runtime import Runtime
from skerry_agent.supervision import RuntimeConfig, SlotEvent
from skerry_contracts.bundle import Contract
from skerry_contracts.device import Reason

QUICK = RuntimeConfig(deadline_s=20, first_delay_s=0.01, wait_s=30, pulse_s=0.05)
LEAKS = r"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
const uint32_t skerry_abi = 1;
const uint64_t skerry_sizes[] = {1, 1, ELEMENTS * 4, ELEMENTS * 4};
int32_t skerry_run(const void *const *inputs, void *const *outputs) {
  volatile char *lost = malloc(40000);
  for (int i = 0; lost && i < 40000; i += 1000) lost[i] = 1;
  memcpy(outputs[0], inputs[0], ELEMENTS * 4);
  return 0;
}
"""


class Core:
    """As much of the core as the guard looks at."""

    def __init__(self) -> None:
        self.degraded: dict[str, str] = {}
        self.now_s, self.due_s = 100.0, 101.0
        self.clock = types.SimpleNamespace(monotonic_s=lambda: self.now_s)

    def next_wake_s(self) -> float:
        return self.due_s


@dataclasses.dataclass
class Link:
    beat_s: float = 0.0
    still_s: float = 1e9


class Steady:
    """A ladder on which nobody moves."""

    async def round(self, now_s: float) -> None:
        return


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blobs")


@dataclasses.dataclass
class World:
    runtime: Runtime
    core: Core
    link: Link
    guard: Guard
    events: list[SlotEvent]


def run(body: Callable[[World], Awaitable[None]], **more: Any) -> None:
    async def all_of_it() -> None:
        events: list[SlotEvent] = []
        runtime, core, link = Runtime(QUICK, events.append), Core(), Link()
        config = AgentConfig(**{"leak_bytes": 2_000_000, "slow_s": 10.0, **more})
        guard = Guard(config, cast(DeviceCore, core), runtime, link, cast(Degrader, Steady()))
        try:
            await body(World(runtime, core, link, guard, events))
        finally:
            await runtime.close()

    asyncio.run(all_of_it())


async def start(world: World, toy: Parts) -> None:
    await world.runtime.start("toy", toy.folder, toy.variant, toy.manifest)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_stopped_worker_is_found_though_nobody_asks_it_for_anything(folder: Path) -> None:
    async def body(world: World) -> None:
        await start(world, bundle(folder, compiled(folder)))
        slot = world.runtime.slot("toy")
        assert slot is not None and slot.pid is not None
        for _ in range(3):
            assert world.guard.round(0.0) == ""
            await asyncio.sleep(0.12)
        assert slot.counters.hangs == 0, "one that answers was ended"
        os.kill(slot.pid, signal.SIGSTOP)
        world.guard.round(0.0)
        await until(lambda: slot.counters.restarts == 1)
        assert slot.counters.hangs == 1 and world.events[0].reason == Reason.TIMEOUT
        assert floats((await world.runtime.infer("toy", [tensor(0, 1, 2, 3)])).outputs[0]) == [0, 2, 4, 6]

    run(body)


def test_a_ping_does_not_end_a_long_inference_nor_cost_one_its_answer(folder: Path) -> None:
    async def body(world: World) -> None:
        await start(world, bundle(folder, compiled(folder)))
        for _ in range(20):
            world.guard.round(0.0)
            answers = await asyncio.gather(*(world.runtime.infer("toy", [tensor(parts.SLOW, 20)]) for _ in range(3)))
            assert [floats(each.outputs[0])[0] for each in answers] == [2 * parts.SLOW] * 3
        slot = world.runtime.slot("toy")
        assert slot is not None and slot.counters.hangs == slot.counters.restarts == 0

    run(body)


def test_a_leaking_worker_is_replaced_and_nobody_is_refused(folder: Path) -> None:
    async def body(world: World) -> None:
        await start(world, bundle(folder, compiled(folder, LEAKS)))
        slot = world.runtime.slot("toy")
        assert slot is not None
        for _ in range(120):
            answers = await asyncio.gather(*(world.runtime.infer("toy", [tensor(1, 2, 3, 4)]) for _ in range(20)))
            assert all(floats(each.outputs[0]) == [1, 2, 3, 4] for each in answers)
            world.guard.round(0.0)
            if slot.counters.leaks:
                break
        await until(lambda: slot.counters.restarts == 1)
        assert (slot.counters.leaks, slot.counters.crashes, slot.counters.errors) == (1, 0, 0)
        assert "was started again" in world.core.degraded["leak toy"]
        assert [each.reason for each in world.events] == [Reason.UNHEALTHY, Reason.OK]
        await world.runtime.stop("toy")
        world.guard.round(0.0)
        assert world.core.degraded == {}, "what no longer runs is no longer ill"

    run(body)


def test_answers_slower_than_promised_for_long_are_told_until_they_are_not(folder: Path) -> None:
    async def body(world: World) -> None:
        toy = bundle(folder, compiled(folder))
        toy = Parts(folder, dataclasses.replace(toy.manifest, contract=Contract(latency_p95_ms=20.0)))
        await start(world, toy)

        async def ask(slow_ms: float, now_s: float) -> None:
            for _ in range(20):
                await world.runtime.infer("toy", [tensor(parts.SLOW, slow_ms)])
            world.guard.round(now_s)

        await ask(25, 0.0)
        assert world.core.degraded == {}
        await ask(25, 11.0)
        assert "promised 20 ms" in world.core.degraded["slow toy"]
        for _ in range(50):  # a busy machine may take its time to be fast again
            await ask(0, 12.0)
            if not world.core.degraded:
                return
        raise AssertionError(world.core.degraded)

    run(body)


def test_the_watchdog_is_fed_only_when_core_link_and_workers_answer(folder: Path, tmp_path: Path) -> None:
    async def body(world: World) -> None:
        await start(world, bundle(folder, compiled(folder)))
        assert world.guard.round(0.0) == ""
        world.core.now_s = 500.0
        assert "the core is" in world.guard.round(0.0)
        world.core.now_s = 100.0
        world.link.still_s = 10.0
        assert "the link" in world.guard.round(20.0)
        world.link.beat_s = 19.0
        assert world.guard.round(20.0) == ""
        running = asyncio.ensure_future(world.runtime.infer("toy", [tensor(parts.SLOW, 200)], deadline_s=1.0))
        await asyncio.sleep(0.02)
        late_s = asyncio.get_running_loop().time() + 60
        world.link.beat_s = late_s
        assert "should have been ended" in world.guard.round(late_s)
        await running
        assert world.guard.round(late_s) == ""

        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(tmp_path / "notify"))
            listening.setblocking(False)
            link = Link()
            config = AgentConfig(watch_s=0.02)
            core = cast(DeviceCore, world.core)
            steady, address = cast(Degrader, Steady()), str(tmp_path / "notify")
            guard = Guard(config, core, world.runtime, link, steady, address=address, period_s=60.0)
            stop = asyncio.Event()
            rounds = asyncio.ensure_future(guard.run(stop))
            loop = asyncio.get_running_loop()
            assert await loop.sock_recv(listening, 100) == b"WATCHDOG=1"
            world.core.now_s = 500.0
            await asyncio.sleep(0.1)
            while True:
                try:
                    listening.recv(100)
                except BlockingIOError:
                    break
            await asyncio.sleep(0.1)
            with pytest.raises(BlockingIOError):
                listening.recv(100)
            stop.set()
            await rounds

    run(body)

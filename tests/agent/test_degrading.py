"""The ladder under a real core and real workers: smaller variant, last good, a clear 503, and back up."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.agent import serving_parts as parts
from tests.agent.serving_parts import bundle, compiled, floats, tensor
from tests.agent.world import FakeClock

from skerry_agent import health
from skerry_agent.config import AgentConfig
from skerry_agent.core import DeviceCore
from skerry_agent.degrading import Degrader
from skerry_agent.disk import RealDisk
from skerry_agent.effects import Serve
from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.ladder import CLIMB_S, FALLS, STEP_S
from skerry_agent.ledger import SqliteLedger
from skerry_agent.runtime import Runtime
from skerry_agent.slot import Slot
from skerry_agent.store import BLOBS, Store
from skerry_agent.supervision import RuntimeConfig, SlotEvent
from skerry_agent.this_device import this_hardware
from skerry_contracts import codec
from skerry_contracts.device import Reason

QUICK = RuntimeConfig(deadline_s=20, first_delay_s=0.01, last_delay_s=0.02, wait_s=30)


@dataclasses.dataclass
class World:
    core: DeviceCore
    runtime: Runtime
    degrader: Degrader
    now_s: float = 1000.0

    @property
    def slot(self) -> Slot:
        found = self.runtime.slot("toy")
        assert found is not None
        return found

    async def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        await self.degrader.round(self.now_s)
        await asyncio.sleep(0)
        await asyncio.gather(*TASKS)

    async def crash(self) -> None:
        for _ in range(FALLS):
            with pytest.raises(WorkerError):
                await self.runtime.infer("toy", [tensor(parts.SEGFAULT)])
            await self.runtime.infer("toy", [tensor(0, 1)])  # it is up again


TASKS: set[asyncio.Task[None]] = set()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a factory bundle (times 2) of two variants: a large and a small one that misbehave alike."""
    found = tmp_path_factory.mktemp("device")
    store = Store(RealDisk(found))
    store.prepare()
    blobs = found / BLOBS
    made = bundle(blobs, compiled(blobs))
    full = dataclasses.replace(made.variant, id="full", memory_bytes=30 << 20)
    small = dataclasses.replace(made.variant, id="small", memory_bytes=1 << 20)
    manifest = dataclasses.replace(made.manifest, variants=(full, small))
    store.mark_factory("toy", store.put_manifest(codec.encode(manifest)))
    for each in blobs.glob("*.c"):
        each.unlink()
    for each in blobs.glob("*.so"):
        each.unlink()
    return found


def run(root: Path, body: Callable[[World], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        TASKS.clear()
        core = DeviceCore(
            tenant="t", device="d", config=AgentConfig(root=root), ledger=SqliteLedger(Path(":memory:")),
            store=Store(RealDisk(root)), clock=FakeClock(), rng=random.Random(1), hardware=this_hardware(),
        )  # fmt: skip
        world: World

        def heard(event: SlotEvent) -> None:
            if event.reason != Reason.OK:
                world.degrader.fell(event.slot, event.bundle, world.now_s)

        runtime = Runtime(QUICK, heard)

        async def start(model: str, identity: str, variant: str) -> None:
            manifest = core.store.manifest(identity)
            assert manifest is not None
            chosen = next(each for each in manifest.variants if each.id == variant)
            await runtime.start(model, root / BLOBS, chosen, manifest, bundle=identity)

        def serve(model: str, identity: str, variant: str) -> None:
            task = asyncio.get_running_loop().create_task(start(model, identity, variant))
            TASKS.add(task)
            task.add_done_callback(TASKS.discard)

        world = World(core, runtime, Degrader(core, runtime, serve, hot_c=85.0))
        try:
            for effect in core.boot():
                if isinstance(effect, Serve):
                    await start(effect.model, effect.bundle, effect.variant)
            await world.pass_s(0.0)
            await body(world)
        finally:
            await runtime.close()

    asyncio.run(all_of_it())


def test_a_worker_that_keeps_failing_gives_way_until_nothing_is_left_and_comes_back(root: Path) -> None:
    async def body(world: World) -> None:
        assert world.slot.variant.id == "full" and world.core.degraded == {}
        await world.crash()
        await world.pass_s(5.0)
        assert world.slot.variant.id == "small"
        assert world.core.degraded["ladder toy"] == "serves 1 (small) instead of 1 (full): its worker keeps failing"
        assert floats((await world.runtime.infer("toy", [tensor(0, 3)])).outputs[0])[1] == 6
        await world.crash()
        await world.pass_s(5.0)
        assert world.core.degraded["ladder toy"].startswith("serves nothing")
        with pytest.raises(RequestError, match="abstains: its worker keeps failing") as caught:
            await world.runtime.infer("toy", [tensor(0, 3)])
        assert caught.value.status == 503
        with pytest.raises(RequestError, match="abstains"):
            await world.runtime.load("toy")
        for _ in range(int(2 * CLIMB_S / 60) + 4):
            await world.pass_s(60.0)
        assert world.slot.variant.id == "full" and world.core.degraded == {}
        assert floats((await world.runtime.infer("toy", [tensor(0, 3)])).outputs[0])[1] == 6

    run(root, body)


def test_falls_of_a_bundle_that_was_taken_back_are_not_those_of_the_one_before(root: Path) -> None:
    async def body(world: World) -> None:
        for _ in range(2 * FALLS):  # it fails on while what served before is being started
            world.degrader.fell("toy", "f" * 64, world.now_s)
        await world.pass_s(5.0)
        assert world.slot.variant.id == "full" and world.core.degraded == {}

    run(root, body)


def test_a_hot_device_serves_the_smaller_variant_then_nothing_then_all_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(world: World) -> None:
        monkeypatch.setattr(health, "temperature_c", lambda: 90.0)
        await world.pass_s(5.0)
        assert world.slot.variant.id == "small" and "the device is hot" in world.core.degraded["ladder toy"]
        await world.pass_s(STEP_S)
        with pytest.raises(RequestError, match="abstains: the device is hot"):
            await world.runtime.infer("toy", [tensor(0, 3)])
        monkeypatch.setattr(health, "temperature_c", lambda: 60.0)
        for _ in range(int(2 * CLIMB_S / 60) + 4):
            await world.pass_s(60.0)
        assert world.slot.variant.id == "full" and world.core.degraded == {}

    run(root, body)


def test_where_memory_is_short_the_idle_leave_before_anything_is_degraded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(world: World) -> None:
        monkeypatch.setattr(health, "available_share", lambda: 0.01)
        world.slot.used_s = -1000.0
        await world.pass_s(5.0)
        assert world.slot.evicted and "ladder toy" not in world.core.degraded
        monkeypatch.setattr(health, "available_share", lambda: 0.5)
        assert floats((await world.runtime.infer("toy", [tensor(0, 3)])).outputs[0])[1] == 6
        monkeypatch.setattr(health, "available_share", lambda: 0.01)
        busy = asyncio.ensure_future(world.runtime.infer("toy", [tensor(parts.SLOW, 300)]))
        await asyncio.sleep(0.02)
        await world.pass_s(5.0)
        await busy
        assert world.slot.variant.id == "small" and "memory is short" in world.core.degraded["ladder toy"]

    run(root, body)

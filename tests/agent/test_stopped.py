"""Everything that serves is stopped for a while (SIGSTOP, a frozen machine) and goes on: nobody is taken for hung."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent import serving_parts as parts
from tests.agent.serving_parts import bundle, compiled, floats, tensor

from skerry_agent.errors import WorkerError
from skerry_agent.runtime import Runtime
from skerry_agent.slot import Slot
from skerry_agent.supervision import RuntimeConfig, SlotEvent
from skerry_contracts.device import Reason

STOP_S = 1.5


def stopped_during(folder: Path, milliseconds: float, deadline_s: float, and_worker: Callable[[Slot], None]) -> float:
    """Let the supervisor be stopped in the middle of an inference; return the answer, and nothing may be counted."""
    events: list[SlotEvent] = []

    async def body() -> float:
        runtime = Runtime(RuntimeConfig(pulse_s=STOP_S / 4), events.append)
        toy = bundle(folder, compiled(folder))
        try:
            slot = await runtime.start("toy", toy.folder, toy.variant, toy.manifest)
            asked = [tensor(parts.SLOW, milliseconds, 5)]
            answer = asyncio.ensure_future(runtime.infer("toy", asked, deadline_s=deadline_s))
            await asyncio.sleep(0.05)
            for instance in slot.instances:
                instance.ping()
            and_worker(slot)
            return floats((await answer).outputs[0])[2]
        finally:
            await runtime.close()

    found = asyncio.run(body())
    assert events == []
    return found


def test_an_answer_that_came_while_the_supervisor_was_stopped_is_one(tmp_path: Path) -> None:
    assert stopped_during(tmp_path, 300, STOP_S / 2, lambda slot: time.sleep(STOP_S)) == 10.0


def test_a_worker_that_was_stopped_too_gets_its_time_again(tmp_path: Path) -> None:
    def freeze(slot: Slot) -> None:
        assert slot.pid is not None
        os.kill(slot.pid, signal.SIGSTOP)
        time.sleep(STOP_S)
        asyncio.get_running_loop().call_later(0.2, os.kill, slot.pid, signal.SIGCONT)

    assert stopped_during(tmp_path, 300, STOP_S / 2, freeze) == 10.0


def test_a_worker_that_hangs_is_found_after_a_stop_all_the_same(tmp_path: Path) -> None:
    async def body() -> None:
        runtime = Runtime(RuntimeConfig(first_delay_s=0.01))
        toy = bundle(tmp_path, compiled(tmp_path))
        try:
            await runtime.start("toy", toy.folder, toy.variant, toy.manifest)
            answer = asyncio.ensure_future(runtime.infer("toy", [tensor(parts.HANG)], deadline_s=0.2))
            await asyncio.sleep(0.05)
            time.sleep(STOP_S)
            with pytest.raises(WorkerError) as caught:
                await answer
            assert caught.value.reason is Reason.TIMEOUT
        finally:
            await runtime.close()

    asyncio.run(body())

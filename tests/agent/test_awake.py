"""A worker that is asked again and again does not sleep in between; one that is not asked does."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.agent.serving_parts import bundle, compiled, tensor

from skerry_agent import worker
from skerry_agent.runtime import Runtime

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S  # utime and stime, fields 14 and 15 of proc(5)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one processor it always sleeps")
def test_it_stays_awake_no_longer_than_it_says(tmp_path: Path) -> None:
    toy = bundle(tmp_path, compiled(tmp_path))

    async def life() -> None:
        runtime = Runtime()
        try:
            slot = await runtime.start("toy", tmp_path, toy.variant, toy.manifest)
            pid = slot.instances[0].pid
            assert pid is not None
            for _ in range(300):  # quick enough that it stays awake
                await runtime.infer("toy", [tensor(0, 1, 2, 3)])
            before_s = processor_s(pid)
            await asyncio.sleep(1.0)
            assert processor_s(pid) - before_s <= worker.AWAKE_NS / 1e9 + 5 * TICK_S  # a second, if it never slept
            assert (await runtime.infer("toy", [tensor(0, 1, 2, 3)])).outputs
        finally:
            await runtime.close()

    asyncio.run(life())

"""Generated code on several threads, in the agent: helpers inside a locked worker, no more than there are cores, and
nothing lost where there are none.
"""

from __future__ import annotations

import _thread
import asyncio
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from tests.agent.serving_parts import bundle, compiled

from skerry_agent.engines import base, catalogue
from skerry_agent.engines.base import EngineError, Job
from skerry_agent.engines.native import NativeEngine
from skerry_agent.errors import WorkerError
from skerry_agent.process import Answer, WorkerProcess
from skerry_contracts.bundle import Variant
from skerry_contracts.device import Reason

# Answers how many helpers came within 5 s, and by whom it was told to give way.
SOURCE = r"""
#include <stdint.h>
#include <time.h>
const uint32_t skerry_abi = 1;
const uint64_t skerry_sizes[] = {1, 1, 16, 16};
static int32_t (*rest)(void);
static int running, came;
uint32_t skerry_ended;
int32_t skerry_threads(int32_t (*give)(void)) { rest = give; return 3; }
void skerry_help(int32_t slot, uint32_t turn) {
  while (__atomic_load_n(&skerry_ended, __ATOMIC_SEQ_CST) < turn) {
    if (__atomic_load_n(&running, __ATOMIC_SEQ_CST)) __atomic_fetch_or(&came, 1 << slot, __ATOMIC_SEQ_CST);
    rest();
  }
}
int32_t skerry_run(const void *const *inputs, void *const *outputs) {
  const float *x = inputs[0];
  float *y = outputs[0];
  const struct timespec nap = {0, 1000000};
  __atomic_store_n(&came, 0, __ATOMIC_SEQ_CST);
  __atomic_store_n(&running, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < 5000 && __atomic_load_n(&came, __ATOMIC_SEQ_CST) != (int)x[0]; i++) nanosleep(&nap, 0);
  __atomic_store_n(&running, 0, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&skerry_ended, 1, __ATOMIC_SEQ_CST);
  y[0] = (float)came, y[1] = rest != 0, y[2] = y[3] = 0;
  return 0;
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("threads")


@pytest.fixture(scope="module")
def made(folder: Path) -> Any:
    return bundle(folder, compiled(folder, SOURCE))


def tasks(pid: int | str = "self") -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def with_option(made: Any, threads: str) -> Variant:
    one = made.variant
    return Variant(one.id, one.engine, one.precision, one.blobs, one.requires, one.memory_bytes, {"threads": threads})


def loaded(made: Any, threads: str) -> NativeEngine:
    path = made.folder / made.variant.blobs["library"].sha256
    found = catalogue.load(with_option(made, threads), {"library": path}, made.manifest.signature)
    assert isinstance(found, NativeEngine)
    return found


def asked(engine: NativeEngine, helpers: int) -> tuple[float, ...]:
    target = bytearray(16)
    source = struct.pack("<4f", helpers, 0, 0, 0)
    call = engine.bind([memoryview(source)], [memoryview(target)])
    for _ in range(3):
        call()
    return struct.unpack("<4f", target)


def test_helpers_come_to_every_inference_and_leave_with_the_engine(made: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    before = tasks()
    engine = loaded(made, "4")  # the library takes three
    assert tasks() == before + 2
    assert asked(engine, 0b110)[:2] == (0b110, 1)
    engine.close()
    for _ in range(500):
        if tasks() == before:
            return
        time.sleep(0.01)
    raise AssertionError("the helpers stay")


def test_fewer_cores_take_fewer_threads_and_one_core_takes_none(made: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5})
    assert asked(loaded(made, "4"), 0b010)[0] == 0b010
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert asked(loaded(made, "4"), 0)[0] == 0


def test_the_device_may_allow_more_than_the_variant_asks() -> None:
    assert Job("native", {}, [], [], {}, 3).threads == 3
    assert Job("native", {}, [], [], {"threads": "1"}, 3).threads == 3


def test_a_machine_that_gives_no_thread_runs_alone(made: Any, monkeypatch: Any) -> None:
    def none(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(_thread, "start_new_thread", none)
    assert asked(loaded(made, "3"), 0)[0] == 0


@pytest.mark.parametrize("wrong", ["0", "-1", "1000", "65", "x", "", " 2", "²", "2.0"])
def test_a_variant_for_a_strange_number_of_threads_is_refused(made: Any, wrong: str) -> None:
    assert base.threads_wanted({"threads": wrong}) == 0
    with pytest.raises(EngineError, match="threads, which is no number from 1 to 64"):
        loaded(made, wrong)


def served(made: Any, variant: Variant, helpers: int) -> tuple[tuple[float, ...], int]:
    """Return a locked worker's answer and how many threads it has."""

    async def body() -> tuple[tuple[float, ...], int]:
        worker = await WorkerProcess.start(
            made.folder,
            variant,
            made.manifest.signature,
            threads=1,
            extra_bytes=8 << 20,
            timeout_s=60,
            on_death=lambda error: None,
        )
        done: asyncio.Future[Answer | WorkerError | None] = asyncio.get_running_loop().create_future()
        assert worker.run([struct.pack("<4f", helpers, 0, 0, 0)], 30, done.set_result)
        answer = await done
        assert isinstance(answer, Answer), answer
        count = tasks(worker.pid)
        found = struct.unpack("<4f", bytes(answer.outputs[0]))
        worker.kill(WorkerError("done", reason=Reason.UNHEALTHY))
        await worker.buried()
        return found, count

    return asyncio.run(body())


def test_helpers_work_inside_a_locked_worker(made: Any) -> None:
    helpers = min(3, len(os.sched_getaffinity(0))) - 1
    mask = sum(2 << slot for slot in range(helpers))
    found, count = served(made, with_option(made, "3"), mask)
    assert found[:2] == (mask, 1 if helpers else 0) and count == 1 + helpers


def test_a_worker_that_cannot_read_the_number_says_so(made: Any) -> None:
    with pytest.raises(WorkerError, match="threads, which is no number from 1 to 64"):
        served(made, with_option(made, "1000"), 0)

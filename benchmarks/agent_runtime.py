"""Figures of the running agent (benchmarks/agent.py): its memory, what an inference costs, unloading and eviction."""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import spine_agent, spine_runtime
from benchmarks.agent_options import Options
from benchmarks.spine_runtime import Toy, build, pss_mb

from skerry_agent.client import LocalClient
from skerry_agent.engines import catalogue
from skerry_agent.runtime import Runtime
from skerry_agent.slot_view import WORKER_BYTES
from skerry_agent.supervision import RuntimeConfig
from skerry_contracts.tensor import DType, Tensor

RUNS, WARM_RUNS, WARM_CYCLES = 4000, 400, 50


def memory(_: Options) -> dict[str, float]:
    """Return the memory of a real agent."""
    found = spine_agent.figures()
    return {"supervisor_rss_mb": found["supervisor_rss_mb"], "agent_total_rss_mb": found["agent_native_rss_mb"]}


def times_us(call: Callable[[], object]) -> list[float]:
    """Return the times of many calls, rising, after some to warm up."""
    taken = []
    for number in range(RUNS + WARM_RUNS):
        begin_ns = time.perf_counter_ns()
        call()
        if number >= WARM_RUNS:
            taken.append((time.perf_counter_ns() - begin_ns) / 1e3)
    return sorted(taken)


def overhead(name: str, taken: list[float], direct: list[float]) -> dict[str, float]:
    """Return what a way costs beyond the engine's own call: percentile less percentile."""
    shares = {"p50": 0.5, "p99": 0.99}
    place = {key: int(share * (len(taken) - 1)) for key, share in shares.items()}
    return {f"{name}_overhead_{key}_us": taken[at] - direct[at] for key, at in place.items()}


@contextmanager
def served(toy: Toy) -> Iterator[tuple[int, LocalClient]]:
    """Serve a toy in a process of its own; gives its id and a client."""
    command = [sys.executable, "-c", spine_runtime.SERVE, str(toy.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            with LocalClient(toy.folder / "api.sock") as client:
                yield parent.pid, client
        finally:
            parent.terminate()


def infer(_: Options) -> dict[str, float]:
    """Return what an inference costs beyond the engine's own call."""
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        toy = build(Path(name, "toy"), *spine_runtime.LARGE)
        elements, outputs = spine_runtime.LARGE
        variant = toy.manifest.variants[0]
        paths = {role: toy.folder / blob.sha256 for role, blob in variant.blobs.items()}
        engine = catalogue.load(variant, paths, toy.manifest.signature)
        data, answer = bytearray(4 * elements), bytearray(4 * outputs)
        direct = times_us(engine.bind([memoryview(data)], [memoryview(answer)]))
        with served(toy) as (_pid, client):
            plain = bytes(data)
            http = times_us(lambda: client.infer("toy", {"x": plain}))
            with client.share("toy") as frame:
                if not frame.fast:
                    raise RuntimeError("the agent has no fast channel")

                def through_memory() -> None:
                    frame.write("x", plain)
                    frame.infer()

                shared = times_us(through_memory)
        worker = asyncio.run(_inside(toy, plain))
    return {
        **overhead("shm", shared, direct),
        **overhead("http", http, direct),
        **overhead("worker", worker, direct),
        "engine_call_p50_us": statistics.median(direct),
    }


async def _inside(toy: Toy, data: bytes) -> list[float]:
    runtime, taken = Runtime(), []
    await runtime.start("toy", toy.folder, toy.manifest.variants[0], toy.manifest)
    tensor = Tensor("x", DType.FP32, (1, spine_runtime.LARGE[0]), data)
    for number in range(RUNS + WARM_RUNS):
        begin_ns = time.perf_counter_ns()
        await runtime.infer("toy", [tensor])
        if number >= WARM_RUNS:
            taken.append((time.perf_counter_ns() - begin_ns) / 1e3)
    await runtime.close()
    return sorted(taken)


def unload(options: Options) -> dict[str, float]:
    """Return how much the agent grows when a model is unloaded and loaded again and again, by the local API."""
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        toy = build(Path(name, "toy"), *spine_runtime.SMALL)
        data, taken, before = bytes(4 * spine_runtime.SMALL[0]), [], 0.0
        with served(toy) as (pid, client):
            for cycle in range(WARM_CYCLES + options.cycles):
                if cycle == WARM_CYCLES:
                    before = pss_mb(pid)
                client.unload("toy")
                begin_s = time.perf_counter()
                client.load("toy")
                taken.append(1e3 * (time.perf_counter() - begin_s))
                client.infer("toy", {"x": data})
            grown = pss_mb(pid) - before
    return {"unload_leak_mb": grown, "unload_cycles": options.cycles, "cold_start_ms": statistics.median(taken)}


def evict(_: Options) -> dict[str, float]:
    """Return how long the first inference of an evicted model takes."""
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        toy = build(Path(name, "toy"), *spine_runtime.SMALL)
        return {"evict_cold_start_ms": asyncio.run(_in_turns(toy))}


async def _in_turns(toy: Toy) -> float:
    """Return the median time of inferences of two models that fit only one at a time, asked in turn."""
    runtime, taken = Runtime(RuntimeConfig(memory_budget_bytes=int(1.5 * WORKER_BYTES))), []
    tensor = Tensor("x", DType.FP32, (1, spine_runtime.SMALL[0]), bytes(4 * spine_runtime.SMALL[0]))
    for model in ("one", "two"):
        manifest = dataclasses.replace(toy.manifest, model=model)
        await runtime.start(model, toy.folder, manifest.variants[0], manifest)
    for number in range(20):
        begin_s = time.perf_counter()
        await runtime.infer(("one", "two")[number % 2], [tensor])
        taken.append(1e3 * (time.perf_counter() - begin_s))
    await runtime.close()
    return statistics.median(taken)

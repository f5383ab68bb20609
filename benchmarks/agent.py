"""Figures of the device agent in one run; with --json the last line is `{"figures": {KEY: number}}`.

    python benchmarks/agent.py [--json] [--only PART ...] [--cycles N]

    memory   supervisor_rss_mb, agent_total_rss_mb: a real enrolled agent, idle and with a native model (PSS, all
             processes)
    infer    the median and 99th percentile of one inference of 150 kB, less the same engine called in this process:
             shm_overhead_*: a program on the device with tensors in shared memory, writing its input included;
             http_overhead_*: the same with binary tensors over the Unix socket; worker_overhead_*: inside the agent,
             from its loop to the worker and back
    unload   unload_leak_mb: how much the agent grew over many times unload and load; cold_start_ms: one load
    evict    evict_cold_start_ms: an inference of a model that had left to make room, all of it
    kill     kill_points, kill_violations: one update, killed at every durable system call (strace; else a wrapper)
    hostile  hostile_models, hostile_survived: models that attack, in real workers beside one that behaves
    mutants  mutants, mutants_killed: safety bugs planted in copies of the agent, and those that its tests noticed

A part that cannot run here says so and leaves its keys out. Whatever is compared is measured in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks import spine_agent, spine_runtime
from benchmarks.spine_runtime import Toy, build, pss_mb

from skerry_agent.client import LocalClient
from skerry_agent.engines import catalogue
from skerry_agent.errors import AgentError
from skerry_agent.runtime import Runtime
from skerry_agent.slot_view import WORKER_BYTES
from skerry_agent.supervision import RuntimeConfig
from skerry_contracts.tensor import DType, Tensor
from skerry_simulators import killpoints
from skerry_simulators.errors import SimulatorError
from skerry_simulators.hostile import run_hostile
from skerry_simulators.mutants import run_mutants

RUNS, WARM_RUNS, WARM_CYCLES = 4000, 400, 50
# key: (must reach, aims at); all at most, but for those that count what was tried
GOALS = {
    "supervisor_rss_mb": (32, 26),
    "agent_total_rss_mb": (52, 42),
    "shm_overhead_p50_us": (50, 20),
    "shm_overhead_p99_us": (150, 50),
    "http_overhead_p50_us": (400, 150),
    "unload_leak_mb": (2, 0),
    "kill_violations": (0, 0),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the parts are told."""

    cycles: int


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


def kill(_: Options) -> dict[str, float]:
    """Return at how many points an update was killed, and how often that broke a promise."""
    found = killpoints.enumerate_points()
    for words in found.violations:
        print(f"kill: {words}", file=sys.stderr)
    return {"kill_points": found.points, "kill_violations": len(found.violations)}


def hostile(_: Options) -> dict[str, float]:
    """Return how many hostile models were run in real workers, and how many of them did no harm."""
    found = run_hostile()
    for each in found:
        for words in each.wrong:
            print(f"hostile: {each.name}: {words}", file=sys.stderr)
    tried = sum(each.ended != "skipped" for each in found)
    return {"hostile_models": tried, "hostile_survived": sum(each.survived for each in found)}


def mutants(_: Options) -> dict[str, float]:
    """Return how many safety bugs were planted in copies of the agent, and how many its tests noticed."""
    found = run_mutants(jobs=2)
    for each in found:
        if not each.killed:
            print(f"mutants: survived: {each.name}", file=sys.stderr)
    return {"mutants": len(found), "mutants_killed": sum(each.killed for each in found)}


PARTS: dict[str, Callable[[Options], dict[str, float]]] = {
    "memory": memory,
    "infer": infer,
    "unload": unload,
    "evict": evict,
    "kill": kill,
    "hostile": hostile,
    "mutants": mutants,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line; progress on stderr")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cycles", type=int, default=1000, help="how often a model is unloaded (default 1000)")
    arguments = parser.parse_args()
    found: dict[str, float] = {}
    for part in arguments.only:
        print(f"{part} ...", file=sys.stderr, flush=True)
        try:
            found |= PARTS[part](Options(arguments.cycles))
        except (AgentError, SimulatorError, OSError, subprocess.SubprocessError, RuntimeError) as error:
            print(f"{part}: cannot be measured here: {error}", file=sys.stderr, flush=True)
    if not arguments.json:
        for key, value in found.items():
            goal = GOALS.get(key)
            words = f"   at most {goal[0]:g}, aim {goal[1]:g}" if goal is not None else ""
            print(f"{key:<24} {value:>10.4g}{words}")
    print(json.dumps({"figures": {key: round(value, 4) for key, value in found.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

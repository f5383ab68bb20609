"""What serving a model costs on the device: memory of the processes, and time around the model's own.

`python benchmarks/spine_runtime.py`. Memory is proportional set size (PSS: shared pages divided among those who map
them), times are medians of many inferences of a model that does almost nothing, so what is left is ours. All in one
run:

    worker_native_pss_mb       a sandboxed worker with a native model of 64 inputs
    serving_parent_pss_mb      its supervisor: asyncio, runtime and local API, without the link to the fleet
    agent_native_rss_mb        both together
    bare_onnxruntime_rss_mb    a process that only imports onnxruntime
    worker_round_trip_us       150 528 bytes to a worker through shared memory and back, without an event loop
    runtime_infer_us           the same through Runtime.infer
    api_binary_infer_us        the small model over the Unix socket with binary tensors, client included
    worker_start_ms            from nothing to a loaded, locked-down worker
    engine_call_us             the large model's engine called in this process, tensors where they lie
    http_overhead_p50_us       150 528 bytes over the Unix socket with binary tensors, client included, less that call
    frame_overhead_p50_us      the same with the tensors in memory shared with the client, less that call
    shm_overhead_p50_us, _p99  the same through Runtime.infer: shared memory between supervisor and worker, less that
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_agent.client import LocalClient
from skerry_agent.engines import catalogue
from skerry_agent.engines.base import Job
from skerry_agent.runtime import Runtime
from skerry_contracts import codec
from skerry_contracts.bundle import Blob, Contract, Golden, Manifest, Predicates, Recipe, Signature, Variant
from skerry_contracts.tensor import DType, Tensor, TensorSpec

SMALL, LARGE = (
    (64, 10),
    (37_632, 1000),
)  # elements in and out: a digit; an image of 3 x 112 x 112 and a thousand classes
DOES_LITTLE = """
const unsigned skerry_abi = 1;
const unsigned long long skerry_sizes[] = {1, 1, ELEMENTS * 4, OUTPUTS * 4};
int skerry_run(const void *const *inputs, void *const *outputs) {
  ((float *)outputs[0])[0] = ((const float *)inputs[0])[0];
  return 0;
}
"""
SERVE = """
import asyncio, sys
from pathlib import Path
from skerry_agent.api import LocalApi
from skerry_agent.runtime import Runtime
from skerry_contracts import codec
from skerry_contracts.bundle import Manifest
class Hooks:
    count = 0
    def next_prediction(self, model):
        Hooks.count += 1
        return f"bench/00000001-00000000/{Hooks.count}"
    def on_prediction(self, prediction): pass
    def status(self): return {}
async def main():
    folder = Path(sys.argv[1])
    manifest = codec.decode(Manifest, (folder / "manifest.json").read_bytes())
    runtime = Runtime()
    slot = await runtime.start("toy", folder, manifest.variants[0], manifest)
    await LocalApi(runtime, Hooks()).start(folder / "api.sock")
    print(slot.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@dataclasses.dataclass(frozen=True)
class Toy:
    """A bundle of one native variant, its blobs by digest in a folder."""

    folder: Path
    manifest: Manifest


def build(folder: Path, elements: int, outputs: int, code: str = DOES_LITTLE) -> Toy:
    """Return a bundle whose model does almost nothing, or what `code` does."""
    folder.mkdir()
    source, library = folder / "toy.c", folder / "toy.so"
    source.write_text(code)
    compiler = [found] if (found := shutil.which("gcc")) else [sys.executable, "-m", "ziglang", "cc"]
    sizes = [f"-DELEMENTS={elements}", f"-DOUTPUTS={outputs}"]
    command = [*compiler, "-shared", "-fPIC", "-O1", *sizes, "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)

    def put(data: bytes) -> Blob:
        name = codec.digest(data)
        (folder / name).write_bytes(data)
        return Blob(name, len(data))

    variant = Variant(
        id="native-fp32",
        engine="native",
        precision="fp32",
        blobs={"library": put(library.read_bytes())},
        requires=Predicates("linux", "any"),
        memory_bytes=1 << 20,
    )
    manifest = Manifest(
        format=1,
        model="toy",
        version="1",
        release=1,
        target="host",
        signature=Signature(
            (TensorSpec("x", DType.FP32, (1, elements)),), (TensorSpec("y", DType.FP32, (1, outputs)),)
        ),
        variants=(variant,),
        golden=Golden(1, put(bytes(4 * elements)), put(bytes(4 * outputs)), 0.0, 0.0, same_label=False),
        contract=Contract(),
        baseline=(),
        recipe=Recipe("benchmark", "0" * 64, "c", "host", "0" * 64),
    )
    (folder / "manifest.json").write_bytes(codec.encode(manifest))
    return Toy(folder, manifest)


def pss_mb(pid: int) -> float:
    """Return a process's proportional set size in megabytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this kernel gives no smaps_rollup")


def times_us(call: Callable[[], object], runs: int) -> list[float]:
    """Return the times of a call in rising order, after some to warm up."""
    times = []
    for number in range(runs + runs // 10):
        begin_ns = time.perf_counter_ns()
        call()
        if number >= runs // 10:
            times.append((time.perf_counter_ns() - begin_ns) / 1e3)
    return sorted(times)


def median_us(call: Callable[[], object], runs: int) -> float:
    """Return the median time of a call, after some to warm up."""
    return statistics.median(times_us(call, runs))


def bare_onnxruntime_mb() -> float:
    """Return the memory of a process that imports onnxruntime and nothing else."""
    script = "import onnxruntime, sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        found = pss_mb(child.pid)
        child.stdin.close()
    return found


def serving(toy: Toy) -> dict[str, float]:
    """Return memory and latency of a supervisor that serves the toy over its Unix socket."""
    command = [sys.executable, "-c", SERVE, str(toy.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            worker = int(parent.stdout.readline())
            data = bytes(4 * SMALL[0])
            with LocalClient(toy.folder / "api.sock") as client:
                api_us = median_us(lambda: client.infer("toy", {"x": data}), 3000)
            figures = {"worker_native_pss_mb": pss_mb(worker), "serving_parent_pss_mb": pss_mb(parent.pid)}
        finally:
            parent.terminate()
    return figures | {
        "agent_native_rss_mb": figures["worker_native_pss_mb"] + figures["serving_parent_pss_mb"],
        "api_binary_infer_us": api_us,
    }


def engine_call_us(toy: Toy) -> float:
    """Return the time of the engine's own call in this process."""
    variant = toy.manifest.variants[0]
    signature = {
        side: [
            {"name": each.name, "dtype": each.dtype.value, "shape": each.shape}
            for each in getattr(toy.manifest.signature, side)
        ]
        for side in ("inputs", "outputs")
    }
    paths = {role: str(toy.folder / blob.sha256) for role, blob in variant.blobs.items()}
    job = Job.from_plain({"engine": variant.engine, "options": dict(variant.options)}, paths, signature, 1)
    tensors = [[memoryview(bytearray(spec.size_bytes)) for spec in side] for side in (job.inputs, job.outputs)]
    return median_us(catalogue.start(job).bind(*tensors), 5000)


def over_the_socket(toy: Toy, engine_us: float) -> dict[str, float]:
    """Return what the large model costs a client more than the engine's own call."""
    command = [sys.executable, "-c", SERVE, str(toy.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            data = bytes(4 * LARGE[0])
            with LocalClient(toy.folder / "api.sock") as client, client.share("toy") as frame:
                http_us = median_us(lambda: client.infer("toy", {"x": data}), 2000)
                frame_us = median_us(frame.infer, 2000)
        finally:
            parent.terminate()
    return {"http_overhead_p50_us": http_us - engine_us, "frame_overhead_p50_us": frame_us - engine_us}


async def through_the_runtime(toy: Toy, engine_us: float) -> dict[str, float]:
    """Return the time of a large tensor's way to a worker and back, with the event loop and without."""
    runtime, starts = Runtime(), []
    for _ in range(5):
        begin_ns = time.perf_counter_ns()
        slot = await runtime.start("toy", toy.folder, toy.manifest.variants[0], toy.manifest)
        starts.append((time.perf_counter_ns() - begin_ns) / 1e6)
    tensor, times = Tensor("x", DType.FP32, (1, LARGE[0]), bytes(4 * LARGE[0])), []
    for _ in range(2000):
        begin_ns = time.perf_counter_ns()
        await runtime.infer("toy", [tensor])
        times.append(time.perf_counter_ns() - begin_ns)
    direct_us = round_trip_us(slot._worker)
    rising_us = sorted(each / 1e3 for each in times[200:])
    await runtime.close()
    return {
        "worker_start_ms": statistics.median(starts),
        "runtime_infer_us": statistics.median(times[200:]) / 1e3,
        "worker_round_trip_us": direct_us,
        "shm_overhead_p50_us": rising_us[len(rising_us) // 2] - engine_us,
        "shm_overhead_p99_us": rising_us[int(len(rising_us) * 0.99)] - engine_us,
    }


def round_trip_us(worker: Any) -> float:
    """Return the bare round trip: copy in, wake the worker, wait for it, copy out."""
    from skerry_agent import worker_protocol

    channel: socket.socket = worker._channel
    channel.setblocking(True)
    data, counter = bytes(4 * LARGE[0]), [worker._flights.next()[0] - 1]

    def once() -> bytes:
        worker.region.inputs[0][:] = data
        counter[0] += 1
        channel.send(worker_protocol.run(counter[0]))
        channel.recv(64)
        return bytes(worker.region.outputs[0])

    found = median_us(once, 2000)
    channel.setblocking(False)
    return found


def figures() -> dict[str, float]:
    """Measure everything; see the top of this file."""
    with tempfile.TemporaryDirectory() as folder:
        toy = build(Path(folder, "small"), *SMALL)
        image = build(Path(folder, "large"), *LARGE)
        engine_us = engine_call_us(image)
        found = {"engine_call_us": engine_us, **serving(toy), **over_the_socket(image, engine_us)}
        found |= asyncio.run(through_the_runtime(image, engine_us))
    return found | {"bare_onnxruntime_rss_mb": bare_onnxruntime_mb()}


if __name__ == "__main__":
    print(json.dumps({"figures": {key: round(value, 2) for key, value in figures().items()}}))

"""How many inferences a second one model gives to 1, 4 and 16 clients with one worker and with two.

Clients are one process with as many Unix sockets, each asking again as soon as it was answered (binary tensors). The
agents with one and with two workers, and one whose worker never has its next requests laid ready, take turns within
each round, on the same cores as the clients. Rates and times are those of the best round (what else runs on the machine
only takes away), processor times and ratios the middle; a ratio is of neighbours in time.
`work` is a C model of a fixed number of multiplications (2 to 4 ms); the trained networks are added where the shared
models are, on ONNX Runtime with one thread.
"""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

from benchmarks import spine_runtime
from benchmarks.agent_options import Options
from benchmarks.spine_runtime import Toy, build

from skerry_contracts import codec
from skerry_contracts.bundle import Blob, Signature, Variant
from skerry_contracts.tensor import DType, TensorSpec

CLIENTS = (1, 4, 16)
AGENTS = {"x1": (1, True), "x2": (2, True), "plain": (1, False)}  # workers, and whether requests are laid ready
ROUND_S, WARM_S = 1.0, 0.2
WORK = """
const unsigned skerry_abi = 1;
const unsigned long long skerry_sizes[] = {1, 1, ELEMENTS * 4, OUTPUTS * 4};
int skerry_run(const void *const *inputs, void *const *outputs) {
  float sum = ((const float *)inputs[0])[0];
  for (int i = 0; i < 2000000; i++) sum = sum * 0.999f + 1.0f;
  ((float *)outputs[0])[0] = sum;
  return 0;
}
"""
# Networks by the shapes of their input and output, a batch of one.
NETWORKS = {
    "ad": ((1, 640), (1, 640)),
    "kws": ((1, 49, 10, 1), (1, 12)),
    "resnet8": ((1, 32, 32, 3), (1, 10)),
    "vww": ((1, 96, 96, 3), (1, 2)),
}
SERVE = spine_runtime.SERVE.replace(
    "runtime = Runtime()",
    "from skerry_agent.supervision import ModelConfig, RuntimeConfig\n"
    "    runtime = Runtime(RuntimeConfig(every=ModelConfig(instances=int(sys.argv[2])), cores=2))\n"
    "    from skerry_agent import dispatch\n"
    "    dispatch.QUICK_NS *= int(sys.argv[3])",
).replace("    await LocalApi", "    await runtime.room.grown()\n    await LocalApi")


def throughput(options: Options) -> dict[str, float]:
    """Return inferences a second, and the lone client's median time."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        for model, toy in models(Path(name)):
            prefix = "" if model == "work" else f"{model}_"
            found |= {f"{prefix}{key}": value for key, value in measure(toy, options.rounds).items()}
    return found


def models(folder: Path) -> Iterator[tuple[str, Toy]]:
    """Give the models that can be measured here."""
    yield "work", build(folder / "work", *spine_runtime.SMALL, WORK)
    shared = Path(os.environ.get("SKERRY_MODELS", Path(__file__).parents[2] / "shared" / "models"))
    for name, (taken, given) in NETWORKS.items():
        if (shared / f"{name}.onnx").exists():
            yield name, network(folder / name, (shared / f"{name}.onnx").read_bytes(), taken, given)


def network(folder: Path, model: bytes, taken: tuple[int, ...], given: tuple[int, ...]) -> Toy:
    """Return a bundle of an ONNX file as it is."""
    plain = build(folder, 1, 1).manifest
    blob = Blob(codec.digest(model), len(model))
    (folder / blob.sha256).write_bytes(model)
    variant = Variant("onnx", "onnxruntime", "fp32", {"model": blob}, plain.variants[0].requires, 64 << 20)
    signature = Signature((TensorSpec("input_1", DType.FP32, taken),), (TensorSpec("Identity", DType.FP32, given),))
    manifest = dataclasses.replace(plain, variants=(variant,), signature=signature)
    (folder / "manifest.json").write_bytes(codec.encode(manifest))
    return Toy(folder, manifest)


def measure(toy: Toy, rounds: int) -> dict[str, float]:
    """Return the figures of one model."""
    seen: dict[tuple[int, str], list[Slice]] = {}
    with ExitStack() as stack:
        agents = {name: stack.enter_context(serving(toy, name)) for name in AGENTS}
        for _ in range(rounds):
            for clients in CLIENTS:
                for name, (path, pid) in agents.items():
                    seen.setdefault((clients, name), []).append(slice_of(path, pid, toy, clients))
    found: dict[str, float] = {}
    for (clients, name), slices in seen.items():
        if name != "plain":
            found[f"infer_per_s_{clients}{name}"] = max(each.per_s for each in slices)
            found[f"cpu_us_{clients}{name}"] = statistics.median(each.cpu_us for each in slices)
        if clients == 1 and name != "x2":
            found[f"lone_p50_us_{name}"] = min(each.p50_us for each in slices)
    for clients in CLIENTS[1:]:
        one, two, plain = (seen[clients, name] for name in ("x1", "x2", "plain"))
        pairs = zip(two, one, strict=True)
        found[f"two_over_one_{clients}"] = statistics.median(b.per_s / a.per_s for b, a in pairs)
        ready = list(zip(one, plain, strict=True))
        found[f"ready_over_plain_{clients}"] = statistics.median(b.per_s / a.per_s for b, a in ready)
        found[f"ready_over_plain_cpu_{clients}"] = statistics.median(b.cpu_us / a.cpu_us for b, a in ready)
    return found


@dataclasses.dataclass(frozen=True)
class Slice:
    """A moment of load: inferences a second, the median wait, and the agent's processor time for one inference."""

    per_s: float
    p50_us: float
    cpu_us: float


def slice_of(path: Path, pid: int, toy: Toy, clients: int) -> Slice:
    """Return what an agent does for so many clients."""
    with Load(path, toy, clients) as load:
        load.run(WARM_S)
        before_us = cpu_us(pid)
        taken = load.run(ROUND_S)
        used_us = cpu_us(pid) - before_us
    if not taken:
        raise RuntimeError(f"not one answer in {ROUND_S:g} s: the machine is too busy")
    return Slice(len(taken) / ROUND_S, 1e6 * statistics.median(taken), used_us / len(taken))


def cpu_us(pid: int) -> float:
    """Return the processor time of an agent and its workers (proc(5), schedstat: nanoseconds)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(int(Path(f"/proc/{each}/schedstat").read_text().split()[0]) for each in (pid, *children)) / 1e3


@contextmanager
def serving(toy: Toy, name: str) -> Iterator[tuple[Path, int]]:
    """Serve a model with an agent of `AGENTS` in a process of its own; gives its socket and process id."""
    instances, ready = AGENTS[name]
    script = SERVE.replace('folder / "api.sock"', f'folder / "{name}.sock"')
    command = [sys.executable, "-c", script, str(toy.folder), str(instances), str(int(ready))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            if not parent.stdout.readline():
                raise RuntimeError("the agent did not start")
            yield toy.folder / f"{name}.sock", parent.pid
        finally:
            parent.terminate()


class Load:
    """So many clients of one model, each with a connection; every answer is read whole and its status checked."""

    def __init__(self, path: Path, toy: Toy, clients: int) -> None:
        self._request = request(toy)
        self._selector = selectors.DefaultSelector()
        self._sockets = []
        for _ in range(clients):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(path))
            self._selector.register(connection, selectors.EVENT_READ)
            self._sockets.append(connection)

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._sockets:
            connection.close()
        self._selector.close()

    def run(self, seconds: float) -> list[float]:
        """Ask for so long; returns the seconds that each answer took."""
        begun_s = dict.fromkeys(self._sockets, time.perf_counter())
        said = dict.fromkeys(self._sockets, b"")
        for connection in self._sockets:
            connection.sendall(self._request)
        taken: list[float] = []
        end_s, waiting = time.perf_counter() + seconds, len(self._sockets)
        while waiting:
            for key, _ in self._selector.select():
                connection = cast(socket.socket, key.fileobj)
                said[connection] += connection.recv(1 << 16)
                if not whole(said[connection]):
                    continue
                now_s, said[connection] = time.perf_counter(), b""
                if now_s >= end_s:
                    waiting -= 1
                    continue
                taken.append(now_s - begun_s[connection])
                begun_s[connection] = now_s
                connection.sendall(self._request)
        return taken


def request(toy: Toy) -> bytes:
    """Return an inference of a model as the bytes of an HTTP request."""
    entries, data = [], b""
    for spec in toy.manifest.signature.inputs:
        said = {"binary_data_size": spec.size_bytes}
        entries.append({"name": spec.name, "shape": list(spec.shape), "datatype": spec.dtype.value, "parameters": said})
        data += bytes(spec.size_bytes)
    head = json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}).encode()
    lines = [
        "POST /v2/models/toy/infer HTTP/1.1",
        "Host: localhost",
        f"Inference-Header-Content-Length: {len(head)}",
        f"Content-Length: {len(head) + len(data)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + head + data


def whole(answer: bytes) -> bool:
    """Return whether an answer is all there.

    Raises:
        RuntimeError: it is none, or a refusal.
    """
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    if b" 200 " not in head[:16]:
        raise RuntimeError(f"the agent refused: {answer[:300]!r}")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return len(body) >= int(length.partition(b":")[2])

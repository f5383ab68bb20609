"""What gRPC costs (benchmarks/agent.py): an inference through the front process beside the same over HTTP."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import spine_runtime
from benchmarks.agent_options import Options
from benchmarks.agent_runtime import overhead, times_us
from benchmarks.spine_runtime import build, pss_mb

from skerry_agent.client import LocalClient

SERVE = """
import asyncio, sys
from pathlib import Path
from skerry_agent.api import LocalApi
from skerry_agent.config import AgentConfig
from skerry_agent.fronting import Front
from skerry_agent.runtime import Runtime
from skerry_contracts import codec
from skerry_contracts.bundle import Manifest
class Hooks:
    def next_prediction(self, model): return "bench/00000001-00000000/1"
    def on_prediction(self, prediction): pass
async def main():
    root = Path(sys.argv[1])
    manifest = codec.decode(Manifest, (root / "run/manifest.json").read_bytes())
    runtime = Runtime()
    await runtime.start("toy", root / "run", manifest.variants[0], manifest)
    api = LocalApi(runtime, Hooks())
    await api.start(root / "run/api.sock")
    front = Front(AgentConfig(root=root, grpc=True), {}, api.behalf.secret)
    running = asyncio.create_task(front.run(asyncio.Event()))
    while "pid" not in front.status()["grpc"]:
        await asyncio.sleep(0.01)
    print(front.status()["grpc"]["pid"], flush=True)
    await running
asyncio.run(main())
"""


def grpc(_: Options) -> dict[str, float]:
    """Return what an inference of 150 kB takes over gRPC and over HTTP, and the front's memory.

    Raises:
        RuntimeError: the extra is not installed.
    """
    if importlib.util.find_spec("grpc") is None:
        raise RuntimeError("gRPC is not installed: pip install 'skerry[grpc]'")
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        root = Path(name)
        toy = build(root / "run", *spine_runtime.LARGE)
        data = bytes(4 * spine_runtime.LARGE[0])
        with subprocess.Popen([sys.executable, "-c", SERVE, name], stdout=subprocess.PIPE, text=True) as parent:
            try:
                assert parent.stdout is not None
                pid = int(parent.stdout.readline())
                with LocalClient(toy.folder / "api.sock") as client:
                    http = times_us(lambda: client.infer("toy", {"x": data}))
                front = times_us(_caller(root / "run/grpc.sock", data))
                memory = pss_mb(pid)
            finally:
                parent.terminate()
    ratio = front[len(front) // 2] / http[len(http) // 2]
    return {**overhead("grpc_http", front, http), "grpc_http_ratio": ratio, "grpc_front_pss_mb": memory}


def _caller(path: Path, data: bytes) -> Callable[[], object]:
    """Return a call of ModelInfer over a channel that stays open."""
    import grpc as library  # heavy, and an extra

    from skerry_agent.grpc_front import schema

    found = schema.load()
    method = found.methods["ModelInfer"]
    ask = library.insecure_channel(f"unix:{path}").unary_unary(
        f"/{found.service}/ModelInfer", method.request.SerializeToString, method.response.FromString
    )

    def call() -> object:
        request = method.request(model_name="toy", raw_input_contents=[data])
        request.inputs.add(name="x", datatype="FP32", shape=[1, spine_runtime.LARGE[0]])
        answer: object = ask(request)
        return answer

    return call

"""A real gRPC front before a local API that serves, and grpcio itself as the client, with stubs from our own file."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from tests.agent.api_parts import Live, serving

from skerry_agent.config import AgentConfig
from skerry_agent.fronting import Front
from skerry_agent.grpc_front import schema

SCHEMA = schema.load()
DEADLINE_S = 60.0


@dataclasses.dataclass
class Fronted:
    """A front process, its supervisor and the API behind it."""

    live: Live
    front: Front
    root: Path
    degraded: dict[str, str]

    @property
    def said(self) -> dict[str, Any]:
        """What `skerry agent status` says of it."""
        return dict(self.front.status()["grpc"])

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is so."""
        end_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end_s, f"never came true: {what}"
            time.sleep(0.02)

    @contextlib.contextmanager
    def channel(self, *, port: bool = False) -> Iterator[Any]:
        """Give a channel of its own connection."""
        where = f"127.0.0.1:{self.said['port']}" if port else f"unix:{self.said['socket']}"
        with grpc.insecure_channel(where, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield channel

    def call(
        self, name: str, /, *, metadata: tuple[tuple[str, str], ...] = (), port: bool = False, **fields: Any
    ) -> Any:
        """Return a call's answer."""
        with self.channel(port=port) as channel:
            return call(channel, name, SCHEMA.methods[name].request(**fields), metadata=metadata)

    def refused(self, name: str, /, **fields: Any) -> tuple[Any, str]:
        """Return the code and words of a call that is refused."""
        try:
            answer = self.call(name, **fields)
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError(f"answered: {answer}")


def call(channel: Any, name: str, request: Any, **more: Any) -> Any:
    """Ask over a channel."""
    method = SCHEMA.methods[name]
    ask = channel.unary_unary(f"/{SCHEMA.service}/{name}", method.request.SerializeToString, method.response.FromString)
    return ask(request, **{"timeout": DEADLINE_S, **more})


@contextlib.contextmanager
def fronted(root: Path, *, token: str | None = None, port: int = 0, until: bool = True) -> Iterator[Fronted]:
    """Serve the toy model by gRPC too; everything is gone afterwards."""
    (root / "run").mkdir()
    with serving(root / "run") as live:
        degraded: dict[str, str] = {}
        front = Front(AgentConfig(root=root, grpc_port=port, grpc_message_bytes=4 << 20), degraded, live.secret)
        front.token = token
        found = Fronted(live, front, root, degraded)

        async def begin() -> tuple[asyncio.Event, asyncio.Task[None]]:
            stop = asyncio.Event()
            return stop, asyncio.create_task(front.run(stop))

        async def end(stop: asyncio.Event, running: asyncio.Task[None]) -> None:
            stop.set()
            await running

        handles = asyncio.run_coroutine_threadsafe(begin(), live.loop).result(DEADLINE_S)
        try:
            if until:
                found.until(lambda: found.said["serving"], "gRPC is served")
            yield found
        finally:
            asyncio.run_coroutine_threadsafe(end(*handles), live.loop).result(DEADLINE_S)
    assert not (root / "run/grpc.sock").exists()


def toy_request(*values: float, raw: bool = True, **more: Any) -> Any:
    """Return a ModelInferRequest for the toy, raw or typed."""
    request = SCHEMA.messages["ModelInferRequest"](model_name="toy", **more)
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    if raw:
        request.raw_input_contents.append(struct.pack(f"<{len(values)}f", *values))
    else:
        tensor.contents.fp32_contents.extend(values)
    return request

"""A local API that serves in its own thread, over real agent parts, and plain HTTP to ask it with."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.agent.serving_parts import bundle, compiled

from skerry_agent.api import LocalApi
from skerry_agent.captures import check_id
from skerry_agent.fast import FastLimits
from skerry_agent.hooks import CaptureOrder, Prediction
from skerry_agent.runtime import Runtime
from skerry_agent.supervision import RuntimeConfig


class Notes:
    """The hooks: counts ids and keeps what it hears of."""

    def __init__(self) -> None:
        self.predictions: list[Prediction] = []
        self.orders: dict[str, CaptureOrder] = {}
        self.count = 0

    def next_prediction(self, model: str) -> str:
        self.count += 1
        return f"dev/00000001-00000000/{self.count}"

    def on_prediction(self, prediction: Prediction) -> None:
        self.predictions.append(prediction)

    def check_capture(self, name: str) -> None:
        check_id(name)

    def capture(self, order: CaptureOrder) -> None:
        self.orders[order.id] = order

    def capture_status(self, name: str) -> dict[str, Any] | None:
        return {"id": name, "state": "buffered"} if name in self.orders else None

    def status(self) -> dict[str, Any]:
        return {"device": "dev", "predictions": self.count}


@dataclasses.dataclass
class Live:
    """An API that serves in its own thread."""

    socket_path: Path
    port: int
    notes: Notes
    runtime: Runtime
    loop: asyncio.AbstractEventLoop
    secret: str = ""

    def http(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Ask over TCP with the standard library's client; return status and JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"{}")
        finally:
            connection.close()
            self.settle()

    def ask(self, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        """Ask with a JSON document."""
        return self.http(method, path, None if document is None else json.dumps(document).encode())

    @contextlib.contextmanager
    def beside(self, call: Callable[[], object]) -> Iterator[None]:
        """Let a call run in a thread of its own."""
        thread = threading.Thread(target=call)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def until_busy(self) -> None:
        """Wait until the model's worker is at an inference."""
        slot = self.runtime.slot("toy")
        assert slot is not None
        while not slot.busy:
            self.settle()

    def settle(self) -> None:
        """Wait until the hooks have heard: they are told after the answer has gone out."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result()


@contextlib.contextmanager
def serving(folder: Path, fast: FastLimits | None = None, **more: Any) -> Iterator[Live]:
    """Serve the toy model, and a candidate beside it, from a folder; everything is gone afterwards."""
    toy = bundle(folder, compiled(folder))
    notes, started, stop = Notes(), threading.Event(), asyncio.Event()
    made: list[Live] = []

    async def serve() -> None:
        runtime = Runtime(RuntimeConfig(deadline_s=0.5, first_delay_s=0.01, **more))
        api = LocalApi(runtime, notes, fast=fast)
        await runtime.start("toy", folder, toy.variant, toy.manifest)
        await runtime.start("toy@trial", folder, toy.variant, toy.manifest)
        await api.start(folder / "api.sock", 0)
        assert api.port is not None
        made.append(Live(folder / "api.sock", api.port, notes, runtime, asyncio.get_running_loop(), api.behalf.secret))
        started.set()
        await stop.wait()
        await api.close()
        await runtime.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(60)
    try:
        yield made[0]
    finally:
        made[0].loop.call_soon_threadsafe(stop.set)
        thread.join()
    assert not list(folder.glob("*.sock"))


def infer_body(*values: float, **more: Any) -> bytes:
    return json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [*values]}], **more}
    ).encode()

"""A named place for one model: a queue in front of a worker process, a watch over it, and another worker when it dies.

Requests wait in order and run one at a time. A crash or hang fails only the request that was running; those that wait
are served by the next worker. Restarts back off exponentially and start afresh after a quiet minute.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.latency import LatencyHistogram
from skerry_agent.pending import Pending
from skerry_agent.process import Answer, WorkerProcess
from skerry_agent.supervision import Counters, RuntimeConfig, SlotEvent
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import ModelHealth, ModelState, Reason


class Served(NamedTuple):
    """An answer and the slot that gave it: after a swap not the one that was asked."""

    slot: Slot
    answer: Answer


class Slot:
    """One model in one supervised worker. Made by `Runtime.start`."""

    def __init__(
        self,
        name: str,
        blob_dir: Path,
        variant: Variant,
        manifest: Manifest,
        bundle: str,
        config: RuntimeConfig,
        on_event: Callable[[SlotEvent], None],
    ) -> None:
        self.name = name
        self.variant = variant
        self.manifest = manifest
        self.bundle = bundle
        self.counters = Counters()
        self.latency = LatencyHistogram()
        self._blob_dir = blob_dir
        self._config = config
        self._on_event = on_event
        self._worker: WorkerProcess | None = None
        self._queue: deque[Pending[Served]] = deque()
        self._streak = 0
        self._retry_at = 0.0
        self._serving_since = 0.0
        self._revival: asyncio.Task[None] | None = None
        self._stopping = self._unloaded = False
        self._loading = asyncio.Lock()
        self._reported = Counters()

    @property
    def state(self) -> ModelState:
        """How the model fares."""
        if self._stopping or self._unloaded:
            return ModelState.STOPPED
        if self._worker is None:
            return ModelState.DEGRADED if self._revival is not None else ModelState.STARTING
        return ModelState.TRIAL if "@" in self.name else ModelState.SERVING

    @property
    def ready(self) -> bool:
        """Whether a worker is there to answer."""
        return self._worker is not None and not self._stopping

    @property
    def unloaded(self) -> bool:
        """Whether a local program has freed the worker; the model stays installed, and `load` brings it back."""
        return self._unloaded

    @property
    def loading(self) -> bool:
        """Whether `load` is starting a worker."""
        return self._unloaded and self._loading.locked()

    @property
    def sandbox(self) -> str:
        """The sandbox's layers in force, as `rlimits landlock:7 capabilities seccomp`; empty without a worker."""
        return self._worker.layers if self._worker is not None else ""

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._worker.pid if self._worker is not None else None

    @property
    def load_ms(self) -> float:
        """How long the engine took to load the model."""
        return self._worker.load_ms if self._worker is not None else 0.0

    def rss_bytes(self) -> int:
        """Return the worker's resident memory."""
        return self._worker.rss_bytes() if self._worker is not None else 0

    async def open(self) -> None:
        """Start the first worker.

        Raises:
            WorkerError: it does not load.
        """
        await self._launch()

    async def run(self, inputs: Sequence[bytes], deadline_s: float | None = None) -> Served:
        """Return what the model makes of the inputs (bytes by the signature).

        Raises:
            WorkerError: the model failed, crashed, hung or said NaN.
            RequestError: 503, too many wait already, or no worker came up in time; 400, the model is unloaded.
        """
        if len(self._queue) >= self._config.queue:
            raise RequestError(f"{self.manifest.model} is busy: {len(self._queue)} requests wait", status=503)
        if self._stopping:
            raise RequestError(f"{self.manifest.model} is being stopped", status=503)
        if self._unloaded:
            hint = f"POST /v2/repository/models/{self.manifest.model}/load"
            raise RequestError(f"{self.manifest.model} is unloaded", hint=hint)
        loop = asyncio.get_running_loop()
        if self._worker is None and self._retry_at - loop.time() > self._config.wait_s:
            raise RequestError(f"{self.manifest.model} is not ready: its worker keeps failing", status=503)
        request: Pending[Served] = Pending(inputs, deadline_s or self._config.deadline_s, loop.create_future())
        self._queue.append(request)
        self._pump()
        if request in self._queue:
            request.timer = loop.call_later(self._config.wait_s, self._waited_too_long, request)
        return await request.future

    def hand_over(self, other: Slot) -> None:
        """Let another slot serve those who wait here; the one that runs ends here. Where the two take other inputs,
        all end here.
        """
        if other.manifest.signature.inputs != self.manifest.signature.inputs:
            return
        other._queue.extend(self._queue)
        self._queue.clear()
        other._pump()

    async def retire(self) -> None:
        """Serve those who wait, then close. Bounded: each waits and runs within its own deadline."""
        while self._queue:
            await asyncio.sleep(0.005)
        await self.close()

    async def close(self) -> None:
        """Let the running inference end, then end the worker; those who wait are told 503."""
        self._stopping = True
        await self._quit("stopped")

    async def unload(self) -> None:
        """Free the worker as `close` does, but keep the place: `load` starts another. Unloaded already: no error."""
        async with self._loading:
            self._unloaded = True
            await self._quit("unloaded")

    async def load(self) -> None:
        """Start a worker again after `unload`; does nothing where one serves.

        Raises:
            WorkerError: it does not load; the model stays unloaded.
            RequestError: 503, its worker keeps failing and is being restarted, or the slot was stopped meanwhile.
        """
        async with self._loading:
            if self._unloaded and not self._stopping:
                await self._launch()
                self._unloaded = False
            if self._stopping:  # replaced while it loaded
                await self._quit("stopped")
        if not self.ready:
            raise RequestError(f"{self.manifest.model} is being stopped or restarted", status=503, hint="ask again")
        self._pump()

    async def _quit(self, why: str) -> None:
        """End the worker and whatever would start another."""
        if self._revival is not None:
            self._revival.cancel()
            await asyncio.gather(self._revival, return_exceptions=True)
            self._revival = None
        while self._queue:
            self._queue.popleft().settle(RequestError(f"{self.manifest.model} was {why}", status=503))
        if (worker := self._worker) is not None:
            while worker.busy:
                await asyncio.sleep(0.002)  # bounded by the inference's own deadline
            worker.kill(WorkerError(why))
            await worker.buried()
            self._worker = None

    def health(self, *, reset: bool) -> ModelHealth:
        """Return the model's health; with `reset`, counts and latencies begin anew (one heartbeat's worth)."""
        now, before = self.counters, self._reported
        health = ModelHealth(
            model=self.manifest.model,
            version=self.manifest.version,
            bundle=self.bundle,
            variant=self.variant.id,
            state=self.state,
            predictions=now.predictions - before.predictions,
            errors=now.errors - before.errors,
            restarts=now.restarts - before.restarts,
            latency_p50_ms=self.latency.percentile_ms(0.5),
            latency_p95_ms=self.latency.percentile_ms(0.95),
            rss_bytes=self.rss_bytes(),
        )
        if reset:
            self._reported = dataclasses.replace(now)
            self.latency.clear()
        return health

    def _pump(self) -> None:
        """Give the worker the next request, if it is there and idle."""
        worker = self._worker
        while worker is not None and worker.idle and self._queue:
            request = self._queue.popleft()
            if request.future.done():
                continue
            request.begin()
            if not worker.run(request.inputs, request.deadline_s, functools.partial(self._answered, request)):
                self._queue.appendleft(request)  # the next worker serves it
            request.given()

    def _answered(self, request: Pending[Served], answer: Answer | WorkerError) -> None:
        if isinstance(answer, Answer):
            request.count(self.counters, answer.elapsed_ns)
            self.latency.add(answer.elapsed_ns)
            request.settle(Served(self, answer))
        else:
            request.count_error(self.counters)
            request.settle(answer)
            if answer.reason is Reason.UNHEALTHY:
                self.counters.unhealthy += 1
                self._on_event(SlotEvent(self.name, self.bundle, answer.reason, str(answer)))
        self._pump()

    def _waited_too_long(self, request: Pending[Served]) -> None:
        if request in self._queue:
            self._queue.remove(request)
        request.count_error(self.counters)
        request.settle(RequestError(f"{self.manifest.model} did not come to this request in time", status=503))

    async def _launch(self) -> None:
        config = self._config
        worker = await WorkerProcess.start(
            self._blob_dir,
            self.variant,
            self.manifest.signature,
            threads=config.threads,
            extra_bytes=2 * self.variant.memory_bytes + config.headroom_bytes,
            timeout_s=config.load_s,
            on_death=self._died,
        )
        if worker.dead is not None:
            raise worker.dead
        self._worker = worker
        self._serving_since = asyncio.get_running_loop().time()
        self._pump()

    def _died(self, error: WorkerError) -> None:
        if self._worker is None or self._stopping or self._unloaded:
            return  # it never served: whoever started it hears of it
        self._worker = None
        self.counters.crashes += error.reason is not Reason.TIMEOUT
        self.counters.hangs += error.reason is Reason.TIMEOUT
        loop = asyncio.get_running_loop()
        if loop.time() - self._serving_since > self._config.quiet_s:
            self._streak = 0
        self._back_off()
        self._revival = loop.create_task(self._revive())
        self._on_event(SlotEvent(self.name, self.bundle, error.reason, str(error)))

    def _back_off(self) -> None:
        """Say when the next worker is due: each time twice as late."""
        delay_s = min(self._config.last_delay_s, self._config.first_delay_s * 2.0 ** min(self._streak, 20))
        self._streak += 1
        self._retry_at = asyncio.get_running_loop().time() + delay_s

    async def _revive(self) -> None:
        """Start workers until one serves."""
        while True:
            await asyncio.sleep(self._retry_at - asyncio.get_running_loop().time())
            try:
                await self._launch()
            except WorkerError as error:
                self._back_off()
                self._on_event(SlotEvent(self.name, self.bundle, error.reason, str(error)))
                continue
            self.counters.restarts += 1
            self._revival = None
            self._on_event(SlotEvent(self.name, self.bundle, Reason.OK, "serves again"))
            return

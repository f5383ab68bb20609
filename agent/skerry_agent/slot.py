"""A named place for one model: a queue in front of a worker process, a watch over it, and another worker when it dies.

Requests wait in order and run one at a time. A crash or hang fails only the request that was running; those that wait
are served by the next worker. Restarts back off exponentially and start afresh after a quiet minute.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Sequence
from typing import NamedTuple

from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.pending import Pending
from skerry_agent.process import Answer, WorkerProcess
from skerry_agent.slot_view import SlotView
from skerry_agent.supervision import SlotEvent
from skerry_contracts.device import Reason


class Served(NamedTuple):
    """An answer and the slot that gave it: after a swap not the one that was asked."""

    slot: Slot
    answer: Answer


class Slot(SlotView["Served"]):
    """One model in one supervised worker. Made by `Runtime.start`."""

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
        self._refuse_if_abstaining()
        if self._unloaded and not self._evicted:
            hint = f"POST /v2/repository/models/{self.manifest.model}/load"
            raise RequestError(f"{self.manifest.model} is unloaded", hint=hint)
        if self._unloaded:
            raise RequestError(f"{self.manifest.model} was just unloaded to make room", status=503, hint="ask again")
        loop = asyncio.get_running_loop()
        self.used_s = loop.time()
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

    async def unload(self, *, evict: bool = False) -> None:
        """Free the worker as `close` does, but keep the place: `load` starts another. Unloaded already: no error.

        `evict`: to make room, so that the next inference may load it again.
        """
        async with self._loading:
            self._evicted = evict and (self._evicted or not self._unloaded)
            self._unloaded = True
            await self._quit("unloaded")

    async def abstain(self, why: str) -> None:
        """Free the worker and answer 503 with the reason, until another slot takes this one's place."""
        self.abstains = why
        await self.unload()

    def _refuse_if_abstaining(self) -> None:
        if self.abstains:
            words = f"{self.manifest.model} abstains: {self.abstains}"
            raise RequestError(words, status=503, hint="it comes back by itself; see skerry agent status")

    def ping(self) -> None:
        """Ask the worker for a sign of life, if it is at nothing; one that gives none is ended as hung."""
        if self._worker is not None:
            self._worker.ping(self._config.pulse_s)

    def renew(self, why: str) -> None:
        """Replace the worker, after the inference it is at: it has grown too large. Those who wait are served next."""
        self._leaving = True
        self._leave(WorkerError(why, reason=Reason.UNHEALTHY))

    def _leave(self, why: WorkerError) -> None:
        worker = self._worker
        if worker is not None and not worker.busy:
            worker.kill(why)
        elif worker is not None:
            asyncio.get_running_loop().call_later(0.01, self._leave, why)  # bounded by the inference's own deadline

    async def load(self) -> None:
        """Start a worker again after `unload`; does nothing where one serves.

        Raises:
            WorkerError: it does not load; the model stays unloaded.
            RequestError: 503, its worker keeps failing and is being restarted, or the slot was stopped meanwhile.
        """
        self._refuse_if_abstaining()
        async with self._loading:
            if self._unloaded and not self._stopping:
                await self._launch()
                self._unloaded = self._evicted = False
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

    def _pump(self) -> None:
        """Give the worker the next request, if it is there and idle."""
        worker = self._worker
        while worker is not None and worker.idle and self._queue and not self._leaving:
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
            self.recent.add(answer.elapsed_ns)
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
        config, begin_s = self._config, time.perf_counter()
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
        self._worker, self._leaving = worker, False
        self.cold_start_ms = 1e3 * (time.perf_counter() - begin_s)
        self._serving_since = asyncio.get_running_loop().time()
        self._pump()

    def _died(self, error: WorkerError) -> None:
        if self._worker is None or self._stopping or self._unloaded:
            return  # it never served: whoever started it hears of it
        self._worker = None
        self.counters.leaks += error.reason is Reason.UNHEALTHY
        self.counters.crashes += error.reason not in (Reason.TIMEOUT, Reason.UNHEALTHY)
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

"""A named place for one model: a queue in front of its workers (instance.py), and what is told of them.

Requests wait in turns (waiting.py) and run one at a time in each worker. A crash or hang fails only the request that
was running there; those that wait are served by the other workers or the next.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.instance import Instance
from skerry_agent.pending import Pending, Waiter
from skerry_agent.process import Answer, WorkerProcess
from skerry_agent.slot_view import SlotView
from skerry_agent.supervision import SlotEvent
from skerry_contracts.device import Reason


class Served(NamedTuple):
    """An answer and the slot that gave it: after a swap not the one that was asked."""

    slot: Slot
    answer: Answer


class Slot(SlotView["Served"]):
    """One model in its supervised workers. Made by `Runtime.start`."""

    async def open(self) -> None:
        """Start the first worker.

        Raises:
            WorkerError: it does not load.
        """
        await self._open_instance()

    async def run(
        self,
        inputs: Sequence[bytes],
        deadline_s: float | None = None,
        *,
        client: Hashable = None,
        wait_s: float | None = None,
    ) -> Served:
        """Return what the model makes of the inputs (bytes by the signature).

        `deadline_s` bounds the inference, `wait_s` the time before it begins. Clients that wait take turns; a caller
        that is cancelled waits no longer, and is not run.

        Raises:
            WorkerError: the model failed, crashed, hung or said NaN.
            RequestError: 503, too many wait already, or no worker came to it in time; 400, the model is unloaded.
        """
        future: asyncio.Future[Served] = asyncio.get_running_loop().create_future()
        request = self.ask(inputs, future, deadline_s, client=client, wait_s=wait_s)
        try:
            return await future
        except asyncio.CancelledError:
            self._line.remove(request)
            raise

    def ask(
        self,
        inputs: Sequence[bytes],
        waiter: Waiter[Served],
        deadline_s: float | None = None,
        *,
        client: Hashable = None,
        wait_s: float | None = None,
    ) -> Pending[Served]:
        """Let `waiter` have later on, on the event loop, what `run` returns or raises; returns what waits for it.

        Raises:
            RequestError: what `run` refuses at once.
        """
        self._refuse()
        loop = asyncio.get_running_loop()
        self.used_s = loop.time()
        patience_s = self._config.wait_s if wait_s is None else min(self._config.wait_s, wait_s)
        request: Pending[Served] = Pending(
            inputs, deadline_s or self._config.deadline_s, waiter, client, self.used_s + patience_s
        )
        free = None if self._line else next((each for each in self.instances if each.idle), None)
        if free is not None:
            self._give(free, request)
        else:
            self._let_wait(request, patience_s)
        if self._line:
            self._pump()
            if not request.future.done() and self._line:
                self._set_bell(request.expires_s)
        return request

    def _let_wait(self, request: Pending[Served], patience_s: float) -> None:
        back_s = 0.0 if self.ready else self._back_s() - asyncio.get_running_loop().time()
        if back_s > patience_s:
            words = f"{self.manifest.model} is not ready: its worker keeps failing"
            raise RequestError(words, status=503, retry_after_s=back_s)
        here, loser = self._line.add(request)
        if loser is not None:
            loser.settle(self._busy())
        if not here:
            raise self._busy()

    def hand_over(self, other: Slot) -> None:
        """Let another slot serve those who wait here; the one that runs ends here. Where the two take other inputs,
        all end here.
        """
        if other.manifest.signature.inputs != self.manifest.signature.inputs:
            return
        other._line.adopt(self._line.drain())
        other._pump()
        other._set_bell(other._line.next_late_s())

    async def retire(self) -> None:
        """Serve those who wait, then close. Bounded: each waits and runs within its own deadline."""
        while self._line:
            await asyncio.sleep(0.005)
        await self.close()

    async def close(self) -> None:
        """Let the running inferences end, then end the workers; those who wait are told 503."""
        self._stopping = True
        await self._quit("stopped")

    async def unload(self, *, evict: bool = False) -> None:
        """Free the workers as `close` does, but keep the place: `load` starts one again. Unloaded already: no error.

        `evict`: to make room, so that the next inference may load it again.
        """
        async with self._loading:
            self._evicted = evict and (self._evicted or not self._unloaded)
            self._unloaded = True
            await self._quit("unloaded")

    async def abstain(self, why: str) -> None:
        """Free the workers and answer 503 with the reason, until another slot takes this one's place."""
        self.abstains = why
        await self.unload()

    async def load(self) -> None:
        """Start a worker again after `unload`; does nothing where one serves.

        Raises:
            WorkerError: it does not load; the model stays unloaded.
            RequestError: 503, its worker keeps failing and is being restarted, or the slot was stopped meanwhile.
        """
        self._refuse_if_abstaining()
        async with self._loading:
            if self._unloaded and not self._stopping:
                await self._open_instance()
                self._unloaded = self._evicted = False
        if not self.ready:
            raise RequestError(f"{self.manifest.model} is being stopped or restarted", status=503, hint="ask again")
        self._pump()

    async def grow(self) -> None:
        """Start one more worker beside those that serve; room was made for it.

        Raises:
            WorkerError: it does not load; the others serve on.
        """
        async with self._loading:
            if not (self._unloaded or self._stopping):
                await self._open_instance()

    async def shed(self, instance: Instance) -> None:
        """End one worker after the inference it is at; the others serve on."""
        if instance in self.instances:
            self.instances.remove(instance)
            await instance.quit("freed to make room")

    async def _open_instance(self) -> None:
        instance, begin_s = Instance(self._start_worker, self._config, self), time.perf_counter()
        self.instances.append(instance)
        try:
            await instance.open()
        except BaseException:
            if instance in self.instances:
                self.instances.remove(instance)
            raise
        self.cold_start_ms = 1e3 * (time.perf_counter() - begin_s)
        if instance not in self.instances:  # all were ended meanwhile
            await instance.quit("stopped")

    async def _start_worker(self, on_death: Callable[[WorkerError], None]) -> WorkerProcess:
        config = self._config
        return await WorkerProcess.start(
            self._blob_dir,
            self.variant,
            self.manifest.signature,
            threads=config.threads,
            extra_bytes=2 * self.variant.memory_bytes + config.headroom_bytes,
            timeout_s=config.load_s,
            on_death=on_death,
        )

    async def _quit(self, why: str) -> None:
        """End the workers and whatever would start others."""
        for request in self._line.drain():
            request.settle(RequestError(f"{self.manifest.model} was {why}", status=503))
        if self._bell is not None:
            self._bell.cancel()
            self._bell = None
        leaving = list(self.instances)
        await asyncio.gather(*(each.quit(why) for each in leaving))
        self.instances = [each for each in self.instances if each not in leaving]

    def _pump(self) -> None:
        """Give the workers that are idle the next requests; the first workers first, so that few are kept warm."""
        now_s = asyncio.get_running_loop().time()
        for instance in self.instances:
            while instance.idle:
                request, late = self._line.take(now_s)
                for each in late:
                    self._too_late(each)
                if request is None:
                    return
                if not request.future.done():
                    self._give(instance, request)

    def _give(self, instance: Instance, request: Pending[Served]) -> None:
        assert instance.worker is not None
        request.begin()
        answered = functools.partial(self._answered, instance, request)
        if not instance.worker.run(request.inputs, request.deadline_s, answered):
            self._line.put_back(request)  # another worker serves it
        request.given()

    def _answered(self, instance: Instance, request: Pending[Served], answer: Answer | WorkerError) -> None:
        if isinstance(answer, Answer):
            request.count(self.counters, answer.elapsed_ns)
            instance.predictions += 1
            self.latency.add(answer.elapsed_ns)
            self.recent.add(answer.elapsed_ns)
            request.settle(Served(self, answer))
        else:
            request.count_error(self.counters)
            request.settle(answer)
            if answer.reason is Reason.UNHEALTHY:
                self.counters.unhealthy += 1
                self._tell(answer.reason, str(answer))
        if self._line:
            self._pump()

    def _set_bell(self, due_s: float | None) -> None:
        """See that nobody waits unheard beyond their time. The timer is moved only when it would ring too late."""
        if due_s is None or (self._bell is not None and self._bell.when() <= due_s):
            return
        if self._bell is not None:
            self._bell.cancel()
        self._bell = asyncio.get_running_loop().call_at(due_s, self._ring)

    def _ring(self) -> None:
        self._bell = None
        for request in self._line.late(asyncio.get_running_loop().time()):
            self._too_late(request)
        self._set_bell(self._line.next_late_s())

    def _too_late(self, request: Pending[Served]) -> None:
        request.count_error(self.counters)
        words = f"{self.manifest.model} did not come to this request in time"
        request.settle(RequestError(words, status=503, retry_after_s=self.drain_s()))

    # What the instances tell (instance.Owner).

    def came(self) -> None:
        """A worker can be given inferences."""
        self._pump()

    def fell(self, error: WorkerError) -> None:
        """A worker died, and another is coming."""
        self.counters.leaks += error.reason is Reason.UNHEALTHY
        self.counters.crashes += error.reason not in (Reason.TIMEOUT, Reason.UNHEALTHY)
        self.counters.hangs += error.reason is Reason.TIMEOUT
        self._tell(error.reason, str(error))
        self._pump()

    def stayed_away(self, error: WorkerError) -> None:
        """A worker could not be started again."""
        self._tell(error.reason, str(error))

    def returned(self) -> None:
        """A worker serves again."""
        self.counters.restarts += 1
        self._tell(Reason.OK, "serves again")

    def _tell(self, reason: Reason, detail: str) -> None:
        self._on_event(SlotEvent(self.name, self.bundle, reason, detail))

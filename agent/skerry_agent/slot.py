"""A named place for one model: its workers (instance.py) come and go, behind a queue (dispatch.py).

A crash or hang fails only the request that was running there; those that wait are served by the other workers or the
next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from skerry_agent.dispatch import Dispatch
from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.instance import Instance
from skerry_agent.process import WorkerProcess
from skerry_contracts.device import Reason


class Slot(Dispatch):
    """One model in its supervised workers. Made by `Runtime.start`."""

    async def open(self) -> None:
        """Start the first worker.

        Raises:
            WorkerError: it does not load.
        """
        await self._open_instance()

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

    async def close(self, *, now: bool = False) -> None:
        """Let the running inferences end (`now`: do not), then end the workers; those who wait are told 503."""
        self._stopping = True
        await self._quit("stopped", now=now)

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
            spare=config.spare,
        )

    async def _quit(self, why: str, *, now: bool = False) -> None:
        """End the workers and whatever would start others."""
        for request in self._line.drain():
            request.settle(RequestError(f"{self.manifest.model} was {why}", status=503))
        if self._bell is not None:
            self._bell.cancel()
            self._bell = None
        leaving = list(self.instances)
        await asyncio.gather(*(each.quit(why, now=now) for each in leaving))
        self.instances = [each for each in self.instances if each not in leaving]

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

"""One of a model's workers over time: started, watched, and started again when it dies, ever later while it keeps
dying. Restarts back off exponentially and start afresh after a quiet minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from skerry_agent.errors import WorkerError
from skerry_agent.process import WorkerProcess
from skerry_agent.supervision import RuntimeConfig
from skerry_contracts.device import Reason

Start = Callable[[Callable[[WorkerError], None]], Awaitable[WorkerProcess]]


class Owner(Protocol):
    """Who is told what becomes of a worker (slot.Slot)."""

    def came(self) -> None:
        """A worker can be given inferences."""

    def fell(self, error: WorkerError) -> None:
        """A worker that served died, and another is coming."""

    def stayed_away(self, error: WorkerError) -> None:
        """A worker could not be started again, and will be tried later."""

    def returned(self) -> None:
        """A worker serves again."""


class Instance:
    """A place for one worker. `start` makes a worker, given whom to tell of its death."""

    def __init__(self, start: Start, config: RuntimeConfig, owner: Owner) -> None:
        self.worker: WorkerProcess | None = None
        self.retry_at_s = 0.0
        self.predictions = 0
        self._start, self._config, self._owner = start, config, owner
        self._streak = 0
        self._serving_since_s = 0.0
        self._revival: asyncio.Task[None] | None = None
        self._over = self._leaving = False

    @property
    def idle(self) -> bool:
        """Whether it can be given an inference now."""
        return self.worker is not None and self.worker.idle and not self._leaving and not self._over

    @property
    def room(self) -> int:
        """How many inferences it can be given now, the one it is at included."""
        return self.worker.room if self.worker is not None and not self._leaving and not self._over else 0

    @property
    def busy(self) -> bool:
        """Whether it is at an inference."""
        return self.worker is not None and self.worker.busy

    @property
    def reviving(self) -> bool:
        """Whether its worker died and the next is coming."""
        return self._revival is not None

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self.worker.pid if self.worker is not None else None

    def rss_bytes(self) -> int:
        """Return the worker's resident memory."""
        return self.worker.rss_bytes() if self.worker is not None else 0

    def cost_bytes(self, declared_bytes: int) -> int:
        """Return the memory to count: measured once it has served, declared before.

        What is resident holds pages that workers share; counted to each, so that the sum errs on the safe side.
        """
        found = self.rss_bytes()
        return found if found and self.predictions else max(found, declared_bytes)

    async def open(self) -> None:
        """Start the first worker.

        Raises:
            WorkerError: it does not load.
        """
        await self._launch()

    def ping(self) -> None:
        """Ask the worker for a sign of life, if it is at nothing; one that gives none is ended as hung."""
        if self.worker is not None:
            self.worker.ping(self._config.pulse_s)

    def renew(self, why: str) -> None:
        """Replace the worker, after the inference it is at: it has grown too large."""
        self._leaving = True
        self._leave(WorkerError(why, reason=Reason.UNHEALTHY))

    def _leave(self, why: WorkerError) -> None:
        worker = self.worker
        if worker is not None and not worker.busy:
            worker.kill(why)
        elif worker is not None:
            asyncio.get_running_loop().call_later(0.01, self._leave, why)  # bounded by the inference's own deadline

    async def quit(self, why: str, *, now: bool = False) -> None:
        """End the worker after the inference it is at (`now`: in it), and whatever would start another. It is not used
        again.
        """
        self._over = True
        if self._revival is not None:
            self._revival.cancel()
            await asyncio.gather(self._revival, return_exceptions=True)
            self._revival = None
        if (worker := self.worker) is not None:
            while worker.busy and not now:
                await asyncio.sleep(0.002)  # bounded by the inference's own deadline
            worker.kill(WorkerError(why))
            await worker.buried()
            self.worker = None

    async def _launch(self) -> None:
        worker = await self._start(self._died)
        if worker.dead is not None:
            raise worker.dead
        self.worker, self._leaving = worker, False
        self._serving_since_s = asyncio.get_running_loop().time()
        self._owner.came()

    def _died(self, error: WorkerError) -> None:
        if self.worker is None or self._over:
            return  # it never served: whoever started it hears of it
        self.worker = None
        loop = asyncio.get_running_loop()
        if loop.time() - self._serving_since_s > self._config.quiet_s:
            self._streak = 0
        self._back_off()
        self._revival = loop.create_task(self._revive())
        self._owner.fell(error)

    def _back_off(self) -> None:
        """Say when the next worker is due: each time twice as late."""
        delay_s = min(self._config.last_delay_s, self._config.first_delay_s * 2.0 ** min(self._streak, 20))
        self._streak += 1
        self.retry_at_s = asyncio.get_running_loop().time() + delay_s

    async def _revive(self) -> None:
        """Start workers until one serves."""
        while True:
            await asyncio.sleep(self.retry_at_s - asyncio.get_running_loop().time())
            try:
                await self._launch()
            except WorkerError as error:
                self._back_off()
                self._owner.stayed_away(error)
                continue
            self._revival = None
            self._owner.returned()
            return

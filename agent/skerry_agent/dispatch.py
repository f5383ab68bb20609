"""How a model's requests come to its workers: they wait in turns (waiting.py); an idle worker takes the next.

Where all are at work and the model is quick, the next requests are laid ready for them (flights.py).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.instance import Instance
from skerry_agent.pending import Pending, Waiter
from skerry_agent.process import Answer
from skerry_agent.slot_view import SlotView
from skerry_agent.supervision import SlotEvent
from skerry_contracts.device import Reason

QUICK_NS = 1_000_000  # a model that takes less has its next requests laid ready: nobody waits long for their turn


class Served(NamedTuple):
    """An answer and the slot that gave it: after a swap not the one that was asked."""

    slot: Dispatch
    answer: Answer


class Dispatch(SlotView["Served"]):
    """A slot's queue in front of its workers."""

    async def run(
        self,
        inputs: Sequence[bytes | memoryview],
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
            self.withdraw(request)
            raise

    def withdraw(self, request: Pending[Served]) -> None:
        """Take out what `ask` returned, if it waits: nobody is there for its answer."""
        self._line.remove(request)

    def ask(
        self,
        inputs: Sequence[bytes | memoryview],
        waiter: Waiter[Served],
        deadline_s: float | None = None,
        *,
        client: Hashable = None,
        wait_s: float | None = None,
    ) -> Pending[Served]:
        """Let `waiter` have later, on the event loop, what `run` returns or raises; returns what `withdraw` takes.

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

    def _pump(self) -> None:
        """Give the next requests to idle workers, the first one first, so that few are kept warm; then, where the model
        is quick, to those that will be idle next.
        """
        now_s = asyncio.get_running_loop().time()
        while self._line:
            instance = next((each for each in self.instances if each.idle), None)
            if instance is None and 0 < self._pace_ns < QUICK_NS:
                instance = max(self.instances, key=lambda each: each.room, default=None)
            if instance is None or not instance.room:
                return
            request, late = self._line.take(now_s)
            for each in late:
                self._too_late(each)
            if request is not None and not request.future.done():
                self._give(instance, request)

    def _give(self, instance: Instance, request: Pending[Served]) -> None:
        assert instance.worker is not None
        request.begin()
        answered = functools.partial(self._answered, instance, request)
        if not instance.worker.run(request.inputs, request.deadline_s, answered):
            self._put_back(request)  # another worker serves it
        request.given()

    def _put_back(self, request: Pending[Served]) -> None:
        if self._stopping or self._unloaded:
            request.settle(RequestError(f"{self.manifest.model} was stopped or unloaded", status=503))
        else:
            self._line.put_back(request)
            self._set_bell(request.expires_s)

    def _answered(self, instance: Instance, request: Pending[Served], answer: Answer | WorkerError | None) -> None:
        if answer is None:  # the worker died before it began this one; what it was at is told next
            self._put_back(request)
            return
        if self._line:  # first: the worker has nothing to do, and who gets the answer may take a while
            self._pump()
        if isinstance(answer, Answer):
            request.count(self.counters, answer.elapsed_ns, answer.behind_ns)
            instance.predictions += 1
            self.latency.add(answer.elapsed_ns)
            self.recent.add(answer.elapsed_ns)
            self._pace_ns += (answer.elapsed_ns - self._pace_ns) // 8 if self._pace_ns else answer.elapsed_ns
            request.settle(Served(self, answer))
        else:
            request.count_error(self.counters)
            request.settle(answer)
            if answer.reason is Reason.UNHEALTHY:
                self.counters.unhealthy += 1
                self._tell(answer.reason, str(answer))

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

    def _tell(self, reason: Reason, detail: str) -> None:
        self._on_event(SlotEvent(self.name, self.bundle, reason, detail))

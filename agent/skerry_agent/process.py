"""One worker process seen from the supervisor: start it, give it inputs, take answers, notice that it died or hangs.

Everything runs on the event loop in callbacks: an inference costs one send, one wake-up and no task switch. A worker is
used once: after a crash the slot starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from skerry_agent import worker_protocol
from skerry_agent.blobs import open_checked
from skerry_agent.deadline import Deadline
from skerry_agent.errors import WorkerError
from skerry_agent.flights import Flights
from skerry_agent.pulse import Pulse
from skerry_agent.shm import Region
from skerry_agent.spawn import Child, launch
from skerry_contracts.bundle import Signature, Variant
from skerry_contracts.device import Reason

_HANG_UP_S = 1.0


class Answer:
    """What one RUN brought: the outputs' bytes, the worker's own time, and how long it lay ready behind others."""

    __slots__ = ("behind_ns", "elapsed_ns", "outputs")

    def __init__(self, outputs: list[bytes], elapsed_ns: int, behind_ns: int = 0) -> None:
        self.outputs = outputs
        self.elapsed_ns = elapsed_ns
        self.behind_ns = behind_ns


OnAnswer = Callable[[Answer | WorkerError | None], None]


class WorkerProcess:
    """A started worker. `on_death(error)` is called once, whatever the cause; a pending answer gets the same error."""

    def __init__(
        self, region: Region, child: Child, channel: socket.socket, on_death: Callable[[WorkerError], None]
    ) -> None:
        self.region = region
        self.layers = ""
        self.load_ms = 0.0
        self._locked = self._gone = self._reset = False
        self.dead: WorkerError | None = None
        self._child = child
        self._channel = channel
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._flights: Flights[Answer | WorkerError] = Flights(len(region.places))
        self._deadline = Deadline(self._hung)
        self._pulse = Pulse(channel, self._bury)
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._buried: asyncio.Future[None] = self._loop.create_future()
        self._burial: asyncio.Task[None] | None = None
        self._loop.add_reader(channel, self._on_readable)

    @classmethod
    async def start(
        cls,
        blob_dir: Path,
        variant: Variant,
        signature: Signature,
        *,
        threads: int,
        extra_bytes: int,
        timeout_s: float,
        on_death: Callable[[WorkerError], None],
        spare: bool = False,
    ) -> WorkerProcess:
        """Return a worker that has locked itself down and loaded the variant; `spare`: on cycles nobody else wants.

        Raises:
            WorkerError: a blob is missing or changed, or the worker failed, crashed or took longer than `timeout_s`.
        """
        opened: dict[str, int] = {}
        try:
            for role, blob in variant.blobs.items():
                opened[role] = await asyncio.get_running_loop().run_in_executor(None, open_checked, blob_dir, blob)
            region, child, channel = launch(opened, variant, signature, threads, extra_bytes, spare)
            worker = cls(region, child, channel, on_death)
        finally:
            for descriptor in opened.values():
                os.close(descriptor)
        try:
            async with asyncio.timeout(timeout_s):
                await worker._ready
        except TimeoutError:
            error = WorkerError(f"not loaded within {timeout_s:g} s", reason=Reason.LOAD)
            worker.kill(error)
            await worker.buried()
            raise error from None
        except BaseException:
            worker.kill(WorkerError("given up while loading", reason=Reason.LOAD))
            await worker.buried()
            raise
        return worker

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._child.pid

    @property
    def busy(self) -> bool:
        """Whether an inference is under way."""
        return len(self._flights) > 0

    @property
    def idle(self) -> bool:
        """Whether it can be given an inference now: alive as far as known, and not at one."""
        return not self._flights and self.room > 0

    @property
    def room(self) -> int:
        """How many inferences it can be given now: where it is at one, the next wait behind it."""
        return self._flights.room if self._burial is None and not self._gone else 0

    def rss_bytes(self) -> int:
        """Return the worker's resident memory, 0 when it is gone."""
        return self._child.rss_bytes()

    def run(self, inputs: Sequence[bytes | memoryview], deadline_s: float, on_answer: OnAnswer) -> bool:
        """Start one inference, behind those under way, and return True; `on_answer` is called exactly once, with None
        where the worker died before it began. One that runs too long is killed.

        False, and no call, where the worker turned out to be gone before it saw the request.
        """
        if not self.room:
            return False
        counter, place = self._flights.next()
        for view, data in zip(self.region.places[place][0], inputs, strict=True):
            view[:] = data
        given_ns = time.perf_counter_ns()
        try:
            self._channel.send(worker_protocol.run(counter, place))
        except (BrokenPipeError, ConnectionResetError):
            self._gone = True  # what it answered before is still to be read; then comes the end
            return False
        except OSError:
            self._bury(None)
            return False
        self._flights.give(deadline_s, given_ns, on_answer)
        if self._deadline.due_s is None:
            self._deadline.set(deadline_s)
        return True

    @property
    def due_s(self) -> float | None:
        """When the inference under way is ended if it is not answered (the loop's time); None: there is none."""
        return self._deadline.due_s

    def ping(self, deadline_s: float) -> None:
        """Ask an idle worker for a sign of life; without one it is ended as hung (pulse.py)."""
        if self.idle:
            self._pulse.ask(deadline_s)

    def kill(self, error: WorkerError) -> None:
        """End the worker now; what waits for it gets `error`."""
        self._bury(error)

    async def buried(self) -> None:
        """Wait until the process is gone and its resources are given back."""
        await asyncio.shield(self._buried)

    def _hung(self, deadline_s: float) -> None:
        self._bury(WorkerError(f"no answer within {deadline_s:g} s: killed", reason=Reason.TIMEOUT))

    def _on_readable(self) -> None:
        """Take what there is to read: as many answers as there are inferences, with one wake-up."""
        for _ in range(max(1, len(self._flights))):
            if self._burial is not None or not self._read():
                return

    def _read(self) -> bool:
        """Take one frame; returns whether another may be there."""
        try:
            frame = self._channel.recv(worker_protocol.MAX_REPLY_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            # It died with frames of ours unread: said once, and before the answers that it gave (unix(7) is silent).
            if isinstance(error, ConnectionResetError) and not self._reset:
                self._gone = self._reset = True
                return True
            frame = b""
        if not frame:
            self._bury(None)
            return False
        try:
            self._take(worker_protocol.read_reply(frame))
        except worker_protocol.FrameError as error:
            reason = Reason.CRASHED if self._ready.done() else Reason.LOAD
            self._bury(WorkerError(f"the worker broke its protocol ({error}): killed", reason=reason))
            return False
        return True

    def _take(self, reply: worker_protocol.Reply) -> None:
        if not self._ready.done():
            self._take_while_loading(reply)
            return
        if reply.kind == worker_protocol.PONG and self._pulse.answered():
            return
        first = self._flights.first
        if (
            first is None
            or reply.counter != first.counter
            or reply.kind not in (worker_protocol.DONE, worker_protocol.FAILED)
        ):
            raise worker_protocol.FrameError("an answer that nobody asked for")
        # Copied once: what the model writes later cannot change an answer that was given.
        outputs = [bytes(view) for view in self.region.places[first.place][1]]
        flight, ran_ns, behind_ns = self._flights.answered(time.perf_counter_ns())
        self._deadline.lift()
        if (following := self._flights.first) is not None:
            self._deadline.set(following.deadline_s)
        if reply.kind == worker_protocol.DONE:
            flight.tell(Answer(outputs, min(reply.elapsed_ns, ran_ns), behind_ns))  # its word, within our own clock
        else:
            flight.tell(WorkerError(reply.text or "the model failed", reason=Reason.UNHEALTHY))

    def _take_while_loading(self, reply: worker_protocol.Reply) -> None:
        if reply.kind == worker_protocol.LOCKED and not self._locked:
            self._locked = True  # said once, before the model's code is there to say otherwise
            self.layers = reply.text
        elif reply.kind == worker_protocol.READY and self._locked:
            self.load_ms = reply.load_ms
            self._ready.set_result(None)
        elif reply.kind == worker_protocol.FAILED:
            self._bury(WorkerError(reply.text or "the model does not load", reason=Reason.LOAD))
        else:
            raise worker_protocol.FrameError("not what a worker says while it loads")

    def _bury(self, error: WorkerError | None) -> None:
        if self._burial is not None:
            return
        self._loop.remove_reader(self._channel)
        self._pulse.end()
        with contextlib.suppress(ProcessLookupError):
            if error is not None:
                self._child.kill()
        self._burial = self._loop.create_task(self._reap(error))

    async def _reap(self, error: WorkerError | None) -> None:
        """Collect the process without blocking the loop, say why it died, give back what it held."""
        waited_s, step_s = 0.0, 0.001
        while self._child.poll() is None:
            if waited_s > _HANG_UP_S:  # it hung up but lives on
                self._child.kill()
            await asyncio.sleep(step_s)
            waited_s, step_s = waited_s + step_s, min(0.05, step_s * 2)
        self.dead = error or WorkerError(
            self._child.cause_of_death(), reason=Reason.CRASHED if self._ready.done() else Reason.LOAD
        )
        self._child.close()
        self._channel.close()
        if not self._ready.done():
            self._ready.set_exception(self.dead)
            self._ready.exception()  # seen: a start that was given up has nobody left to tell
        self._deadline.end()
        while (flight := self._flights.last()) is not None:
            flight.tell(None if self._flights else self.dead)
        self.region.close()
        self._buried.set_result(None)
        self._on_death(self.dead)

"""One candidate at work: its worker on spare cycles, the few inputs that wait for it, and what it came to.

The live path only puts an input into a short queue, after its answer was given; where that is full, or the purse empty,
the input is dropped and counted.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_agent import health
from skerry_agent.effects import ShadowReady
from skerry_agent.errors import AgentError, RequestError, WorkerError
from skerry_agent.golden import run_golden
from skerry_agent.hooks import Prediction
from skerry_agent.leaks import LeakWatch
from skerry_agent.shadow_budget import CpuPurse, Gate, Verdict
from skerry_agent.shadow_compare import disagrees, unlike
from skerry_agent.shadow_tally import Tally
from skerry_agent.shadowing import SUFFIX, Shadower
from skerry_agent.slot import Slot
from skerry_agent.supervision import RuntimeConfig, SlotEvent
from skerry_agent.tensors import check_inputs
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import Reason
from skerry_contracts.shadow import ShadowAnswer, ShadowState
from skerry_contracts.tensor import Tensor

QUEUE = 2  # inputs that wait: more would only be older
PROVEN = 32  # answers after which earlier strikes are forgiven
BAD = 3  # answers that are none, before it has proven itself (again)
PATIENCE_S = 60.0  # for one answer: on spare cycles it may take long
LOAD_S = 300.0
HUNG_CPU_S = 2.0  # a worker that used less than this within its patience was starved, and does not hang
REST_S = 60.0  # before it comes back into memory
STARVED_S = 600.0
RESTLESS_S = 3.0  # of processor time while nothing was asked
CHANGE_S = 5.0  # between two reports of a changed state

Decide = Callable[..., None]


class Candidate:
    """A model's candidate, from the moment it may run. `decide(call, *values)` lets the core decide."""

    def __init__(
        self, ready: ShadowReady, core: Shadower, blobs: Path, config: RuntimeConfig, leak_bytes: int, decide: Decide
    ) -> None:
        self.model, self.bundle, self.terms = ready.model, ready.bundle, ready.terms
        self.name = ready.model + SUFFIX
        self.gate = Gate()
        self.verdict = Verdict("its worker is not started yet")
        self.back_s = 0.0  # not in memory before this moment
        self.due = True  # whether it may be started; not while it is, nor while a strike waits
        self.note = ""  # what a report says where nothing keeps it from running
        self._core, self._blobs, self._decide = core, blobs, decide
        self._config = dataclasses.replace(config, spare=True, deadline_s=PATIENCE_S, load_s=LOAD_S)
        self._slot: Slot | None = None  # in memory, or on the way there
        self._serves = False  # its golden vectors were right
        self._queue: deque[Prediction] = deque()
        self._task: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._purse = CpuPurse(self.terms.cpu_share, self._now())
        self._cpu_s = self._asked_cpu_s = self._restless_s = 0.0
        self._leak_bytes = leak_bytes
        self._leaks = LeakWatch(leak_bytes)
        self._good = self._bad = 0
        self._tally = self._fresh()
        self._told: tuple[ShadowState, str] | None = None
        self._told_s = self._now()

    # What the runner sees and does.

    @property
    def state(self) -> ShadowState:
        """Whether it is asked now."""
        return ShadowState.RUNNING if self._serves and not self.verdict.why else ShadowState.WAITING

    @property
    def loaded(self) -> bool:
        """Whether there is a worker, or one on the way."""
        return self._slot is not None

    def cost_bytes(self) -> int:
        """Return the memory that its worker takes, or is going to take (admission.Guest)."""
        return self._slot.cost_bytes() if self._slot is not None else 0

    def status(self) -> dict[str, Any]:
        """Return what `skerry agent status` shows of a candidate at work."""
        said = {"state": self.state.value, "rss_bytes": self._slot.rss_bytes() if self._slot is not None else 0}
        counts = {name: getattr(self._tally, name) for name in ("chosen", "compared", "disagreed", "dropped", "failed")}
        words = {"waits_for": self.verdict.why, "note": self.note}
        return {**said, **counts, **{name: each for name, each in words.items() if each}}

    def offer(self, prediction: Prediction) -> None:
        """Take a prediction that was chosen and answered; drop it where there is no time for it."""
        if prediction.bundle != self._tally.against and not self._tally.empty:
            self._tell()  # another bundle serves: its numbers begin anew
        self._tally.against = prediction.bundle
        self._tally.chosen += 1
        if self.state is not ShadowState.RUNNING or len(self._queue) >= QUEUE or not self._purse.open(self._now()):
            self._tally.dropped += 1
            return
        self._queue.append(prediction)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._ask_all())

    async def start(self, variant: Variant, manifest: Manifest) -> None:
        """Start a worker and ask it the golden vectors; the core hears where that fails."""
        slot = Slot(self.name, self._blobs, variant, manifest, self.bundle, self._config, self._heard)
        self._slot, self._serves, self._cpu_s = slot, False, 0.0
        self._opening = asyncio.get_running_loop().create_task(slot.open())
        await asyncio.wait({self._opening})
        if self._slot is not slot:  # it was asked to leave meanwhile
            await slot.close(now=True)
            return
        try:
            self._opening.result()
            result = await run_golden(slot, manifest, self._blobs, runs=1)
        except AgentError as error:
            left = self._slot is not slot
            await self._leave(slot)
            if not left:
                self._failed(error.reason if isinstance(error, WorkerError) else Reason.LOAD, str(error))
            return
        if self._slot is not slot:
            return
        self._leaks, self._good, self._bad = LeakWatch(self._leak_bytes), 0, 0
        if result.ok:
            self._serves = True
            return
        await self._leave(slot)
        words = f"{result.passed} of {result.count} golden vectors: {'; '.join(result.failures)[:200]}"
        self._decide(self._core.shadow_struck, self.model, Reason.GOLDEN, words, True)

    async def look(self, verdict: Verdict) -> None:
        """Make a round: pay for processor time, watch the memory, leave where it must, report what is due."""
        self.verdict = verdict
        slot = self._slot
        if slot is not None:
            self._charge(slot)
            if verdict.leave:
                await self.leave()
            elif self._serves and (trouble := self._ill(slot)):
                await self._strike(slot, Reason.UNHEALTHY, trouble)
        passed_s, now, before = self._now() - self._told_s, (self.state, self.verdict.why), self._told
        changed = before is None or before[0] is not now[0]
        news = changed or now != before or not self._tally.empty
        if before is None or (news and passed_s >= (CHANGE_S if changed else self.terms.report_s)):
            self._tell()

    async def leave(self) -> None:
        """Give the memory back, for a while: an update is on trial, or what serves needs the room."""
        if self._slot is not None:
            await self._leave(self._slot)
            self.back_s, self.due = self._now() + REST_S, True
            self._decide(self._core.shadow_rested, self.model)

    async def stop(self) -> None:
        """End the worker for good, and tell what it came to."""
        if self._slot is not None:
            await self._leave(self._slot)
        if not self._tally.empty:
            self._tell()

    # Inside.

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _fresh(self) -> Tally:
        return Tally(self.terms.id, self.model, self.bundle, self._core.clock.wall_s())

    def _tell(self) -> None:
        tally, against = self._tally, self._tally.against
        self._tally, self._told, self._told_s = self._fresh(), (self.state, self.verdict.why), self._now()
        self._tally.against = against
        rss_bytes = self._slot.rss_bytes() if self._slot is not None else 0
        words = self.verdict.why or self.note
        self._decide(self._core.shadow_told, tally, self.state, Reason.OK, words, rss_bytes)

    async def _ask_all(self) -> None:
        try:
            while self._queue and self._slot is not None:
                await self._ask(self._slot, self._queue.popleft())
        finally:
            self._task = None

    async def _ask(self, slot: Slot, prediction: Prediction) -> None:
        """Ask one input and compare the answers."""
        live = self._core.store.manifest(prediction.bundle)
        self._asked_cpu_s = self._cpu_s
        try:
            if live is None or unlike(live, slot.manifest):
                raise RequestError("the two cannot be compared")
            data = check_inputs(slot.manifest.signature.inputs, prediction.inputs)
            answer = (await slot.run(data)).answer
        except RequestError:
            self._tally.dropped += 1
            return
        except WorkerError as error:
            if self._slot is not slot:  # it was asked to leave meanwhile
                self._tally.dropped += 1
                return
            self._tally.failed += 1
            self._bad += 1
            if error.reason is Reason.UNHEALTHY and self._bad >= BAD:
                words = f"{self._bad} inputs without an answer: {error}"
                await self._strike(slot, Reason.UNHEALTHY, words, final=True)
            return
        finally:
            self._charge(slot)
        said = [tensor.data or b"" for tensor in prediction.outputs]
        differs = disagrees(live, said, slot.manifest, answer.outputs, self.terms.tolerance)
        self._tally.compare(disagrees=differs, live_ms=prediction.latency_ms, own_ms=answer.elapsed_ns / 1e6)
        if differs:
            specs = slot.manifest.signature.outputs
            outputs = tuple(
                Tensor(spec.name, spec.dtype, spec.shape, data)
                for spec, data in zip(specs, answer.outputs, strict=True)
            )
            shadow = ShadowAnswer(self.terms.id, self.bundle, slot.manifest.version, outputs)
            self._decide(self._core.disagreed, prediction, shadow)
        self._good += 1
        if self._good == PROVEN:
            self._good = self._bad = 0
            self._decide(self._core.shadow_proven, self.model)

    def _charge(self, slot: Slot) -> None:
        """Pay for the processor time since the last look; what is used while nothing is asked is watched."""
        if slot.pid is None:
            return
        used_s = max(health.cpu_s(slot.pid) - self._cpu_s, 0.0)
        self._cpu_s += used_s
        self._tally.cpu_s += used_s
        self._purse.spend(used_s, self._now())
        asked = self._task is not None or not self._serves
        self._restless_s = 0.0 if asked else self._restless_s + used_s

    def _ill(self, slot: Slot) -> str:
        """Return what is wrong with a worker that answers; empty: nothing."""
        rss_bytes, allowed = slot.rss_bytes(), self.terms.memory_bytes
        if allowed is not None and rss_bytes > allowed:
            return f"it takes {rss_bytes // 10**6} MB, {allowed // 10**6} MB are allowed"
        if grown := self._leaks.see(slot.pid or -1, slot.counters.predictions, rss_bytes):
            return f"it grew by {grown // 10**6} MB while it answered"
        if self._restless_s > RESTLESS_S:
            return f"it used {self._restless_s:.0f} s of processor time while nothing was asked"
        return ""

    def _heard(self, event: SlotEvent) -> None:
        """The worker died or hung; an answer that holds NaN is counted where it was asked."""
        slot = self._slot
        if slot is None or not self._serves or event.reason in (Reason.OK, Reason.UNHEALTHY):
            return
        starved = event.reason is Reason.TIMEOUT and self._cpu_s - self._asked_cpu_s < HUNG_CPU_S
        if starved:
            self.back_s = self._now() + STARVED_S
        fell = self._starved(slot) if starved else self._strike(slot, event.reason, event.detail)
        self._falling = asyncio.get_running_loop().create_task(fell)

    async def _starved(self, slot: Slot) -> None:
        """Nobody left it a cycle for a whole answer: no fault of its own."""
        await self._leave(slot)
        self.due = True
        self._decide(self._core.shadow_rested, self.model)

    def _failed(self, reason: Reason, words: str) -> None:
        """It did not start: damaged files are fetched again, the rest is a strike."""
        if reason in (Reason.CORRUPT, Reason.STORAGE):
            self._decide(self._core.shadow_lost, self.model)
        else:
            self._decide(self._core.shadow_struck, self.model, reason, words)

    async def _strike(self, slot: Slot, reason: Reason, words: str, final: bool = False) -> None:
        await self._leave(slot)
        self._decide(self._core.shadow_struck, self.model, reason, words, final)

    async def _leave(self, slot: Slot) -> None:
        """End a worker; what waits for it is dropped."""
        if self._slot is slot:
            self._slot, self._serves = None, False
        self._tally.dropped += len(self._queue)
        self._queue.clear()
        if self._opening is not None:
            self._opening.cancel()
        await slot.close(now=True)

"""The bench on which candidates are measured: workers of their own on spare cycles, two at a time, watched.

What serves comes first. Nothing is begun while a local program is being answered, a pair that it came into is run
again, and where memory is short or an update is tried the workers leave.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

from skerry_agent.errors import AgentError, RequestError, StorageError, WorkerError
from skerry_agent.records import Stage
from skerry_agent.runtime import Runtime
from skerry_agent.shadow_budget import Gate, Readings
from skerry_agent.slot import Slot
from skerry_agent.slot_view import declared_bytes
from skerry_agent.supervision import RuntimeConfig, SlotEvent
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import Reason
from skerry_contracts.measuring import MODEL, MeasureOrder, Outcome

LOOK_S = 0.2
QUIET_S = 0.5  # without a request before anything is run again
PATIENCE_S = 30.0  # for one answer, on spare cycles
LOAD_S = 60.0
SUFFIX = "@measure"
_OUTCOMES = {Reason.LOAD: Outcome.NO_LOAD, Reason.TIMEOUT: Outcome.HUNG, Reason.UNHEALTHY: Outcome.NO_NUMBER}


class TimeUp(AgentError):
    """The order's time is over."""


class Fell(AgentError):
    """A candidate came to grief: that is what was to be found out. `variant` and `outcome` say which and how."""

    def __init__(self, message: str, variant: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.variant, self.outcome = variant, outcome


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What a bench stands in: the runtime whose models come first, where blobs lie, what the device reads, and why
    nothing may be in memory just now (empty: it may).
    """

    runtime: Runtime
    blobs: Path
    readings: Callable[[], Readings]
    busy: Callable[[], str]


class MeasureBench:
    """Workers of candidates, by variant. `say` hears why it waits, and "" when it goes on."""

    name = MODEL

    def __init__(self, order: MeasureOrder, manifest: Manifest, around: Surroundings, say: Callable[[str], None]):
        self._order, self._manifest, self._around, self._say = order, manifest, around, say
        usual = around.runtime.config
        self._config: RuntimeConfig = dataclasses.replace(usual, spare=True, deadline_s=PATIENCE_S, load_s=LOAD_S)
        self._slots: dict[str, Slot] = {}
        self._peaks: dict[str, int] = {}
        self._fat: dict[str, str] = {}
        self._gate, self._why, self._told = Gate(), "", ""
        self._end_s = self._now() + order.seconds
        self._traffic, self._traffic_s = self._count(), self._now() - QUIET_S
        self._leaves = 0
        self.disturbed = 0
        around.runtime.room.guests.append(self)
        self._look()
        self._watch = asyncio.get_running_loop().create_task(self._watch_all())

    # What the runner does.

    @property
    def left_s(self) -> float:
        """How much of the order's time is left."""
        return self._end_s - self._now()

    def peak_bytes(self, variant: str) -> int:
        """Return the highest resident size that was seen of a candidate."""
        return self._peaks.get(variant, 0)

    def load_ms(self, variant: str) -> float:
        """Return how long a candidate's engine took to start."""
        return self._slots[variant].load_ms if variant in self._slots else 0.0

    async def ask(self, variant: Variant, inputs: list[bytes]) -> tuple[list[bytes], int]:
        """Return a candidate's answer, and the nanoseconds it took; it is started where it does not run.

        Raises:
            Fell: it came to grief.
            TimeUp: the order's time is over.
            RequestError: its worker had to leave meanwhile: ask again.
        """
        leaves = self._leaves
        slot = self._slots.get(variant.id) or await self._open(variant, leaves)
        if self.left_s <= 0:
            raise TimeUp("its time is up")
        try:
            answer = (await slot.run(inputs)).answer
        except (WorkerError, RequestError) as error:
            raise await self._fell(variant, error, leaves) from error
        self._see(variant.id, slot)
        return list(answer.outputs), answer.elapsed_ns

    async def quiet(self) -> int:
        """Wait until nothing speaks against running; return a mark for `disturbed_since`.

        Raises:
            TimeUp: the order's time is over.
        """
        while True:
            if self.left_s <= 0:
                raise TimeUp("its time is up" + (f"; it waited: {self._why}" if self._why else ""))
            now_s = self._now()
            live = self._heard_s() > now_s - QUIET_S or any(slot.busy or slot.waiting for slot in self._serving())
            why = self._why or ("what serves is being asked" if live else "")
            if why != self._told:
                self._told = why
                self._say(why)
            if not why:
                return self._count() + self._leaves
            await asyncio.sleep(min(LOOK_S, max(0.01, self.left_s)))

    def disturbed_now(self, mark: int) -> bool:
        """Whether what runs now is in the way of others."""
        return self._count() + self._leaves != mark

    def disturbed_since(self, mark: int) -> bool:
        """Whether what serves was asked, or a worker had to leave, since `quiet` returned this mark."""
        self._heard_s()
        if self._count() + self._leaves == mark:
            return False
        self.disturbed += 1
        return True

    async def drop(self, variant: str) -> None:
        """End a candidate's worker."""
        slot = self._slots.pop(variant, None)
        if slot is not None:
            await slot.close(now=True)

    async def close(self) -> None:
        """End everything."""
        self._watch.cancel()
        await asyncio.wait((self._watch,))
        if self in self._around.runtime.room.guests:
            self._around.runtime.room.guests.remove(self)
        for variant in list(self._slots):
            await self.drop(variant)

    # What the room asks (admission.Guest).

    def cost_bytes(self) -> int:
        """Return the memory that the workers take."""
        return sum(slot.cost_bytes() for slot in self._slots.values())

    async def leave(self) -> None:
        """Give the memory back; the pair that ran is run again."""
        if self._slots:
            self._leaves += 1
        for variant in list(self._slots):
            await self.drop(variant)

    # Inside.

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _count(self) -> int:
        """Return how often local programs asked, requests under way included."""
        counted = ((each.counters, each.busy + each.waiting) for each in self._serving())
        return sum(seen.predictions + seen.errors + now for seen, now in counted)

    def _serving(self) -> list[Slot]:
        runtime = self._around.runtime
        return [slot for name in runtime.models() if (slot := runtime.slot(name)) is not None]

    def _heard_s(self) -> float:
        """Return when what serves was last asked, as far as was seen."""
        if (count := self._count()) != self._traffic:
            self._traffic, self._traffic_s = count, self._now()
        return self._traffic_s

    async def _open(self, variant: Variant, leaves: int) -> Slot:
        need, allowed = declared_bytes(variant), self._order.memory_bytes
        left = self._around.runtime.room.left_bytes()
        for most, words in ((allowed, "are allowed"), (left, "are left")):
            if most is not None and need > most:
                raise Fell(f"it needs {need // 10**6} MB, {most // 10**6} MB {words}", variant.id, Outcome.TOO_LARGE)
        slot = Slot(
            MODEL + SUFFIX,
            self._around.blobs,
            variant,
            self._manifest,
            self._order.bundle,
            self._config,
            lambda event: self._heard(variant.id, event),
        )
        self._slots[variant.id] = slot
        try:
            await slot.open()
        except WorkerError as error:
            raise await self._fell(variant, error, leaves) from error
        except BaseException:
            await self.drop(variant.id)
            raise
        return slot

    async def _fell(self, variant: Variant, error: AgentError, leaves: int) -> AgentError:
        """Return what an error of a worker means: it left, it came to grief, or the device has trouble of its own."""
        await self.drop(variant.id)
        if words := self._fat.pop(variant.id, ""):
            return Fell(words, variant.id, Outcome.TOO_LARGE)
        if self._leaves != leaves:
            return RequestError("it had to leave the memory to others", status=503)
        if not isinstance(error, WorkerError):
            return Fell(str(error), variant.id, Outcome.CRASHED)
        if error.reason in (Reason.CORRUPT, Reason.STORAGE):
            return StorageError(str(error), reason=error.reason)
        return Fell(str(error), variant.id, _OUTCOMES.get(error.reason, Outcome.CRASHED))

    def _heard(self, variant: str, event: SlotEvent) -> None:
        """A worker died: who asked it hears so; here nothing is to be done."""

    def _see(self, variant: str, slot: Slot) -> int:
        rss_bytes = slot.rss_bytes()
        self._peaks[variant] = max(self._peaks.get(variant, 0), rss_bytes)
        return rss_bytes

    def _look(self) -> bool:
        """Look at the device; return whether the workers must leave."""
        readings = dataclasses.replace(self._around.readings(), busy=self._around.busy())
        verdict = self._gate.see(readings, self._order)
        self._why = verdict.why
        return verdict.leave

    async def _watch_all(self) -> None:
        """Look at the device and the workers, again and again."""
        while True:
            if self._look():
                await self.leave()
            for variant, slot in list(self._slots.items()):
                rss_bytes, allowed = self._see(variant, slot), self._order.memory_bytes
                if rss_bytes > allowed:
                    self._fat[variant] = f"it took {rss_bytes // 10**6} MB, {allowed // 10**6} MB are allowed"
                    await slot.close(now=True)
            await asyncio.sleep(LOOK_S)


def trying(stages: list[Stage]) -> str:
    """Return why nothing may be measured for the sake of updates; empty: it may."""
    return "an update is tried" if any(each in (Stage.TRIAL, Stage.OBSERVING) for each in stages) else ""

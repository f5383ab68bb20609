"""Which workers the device has room for: a model's first before anything else, further instances while memory is left.

Further instances are the first to leave where memory is short, and come only into memory that nobody uses. Guests,
which serve nobody (shadow_candidate.py), leave before any of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence

from skerry_agent.admission import Guest, leavers
from skerry_agent.engines.base import threads_wanted
from skerry_agent.errors import WorkerError
from skerry_agent.instance import Instance
from skerry_agent.slot import Slot
from skerry_agent.slot_view import declared_bytes
from skerry_agent.supervision import RuntimeConfig
from skerry_contracts.device import Reason

LOG = logging.getLogger("skerry.agent")
TRIAL = "@trial"
IDLE_S = 60.0
GROW_AGAIN_S = 60.0  # after an instance had to leave, or did not load


@dataclasses.dataclass(frozen=True, eq=False)
class Leaver:
    """A whole slot, or one instance of it beyond the first, that may leave memory (admission.Place)."""

    slot: Slot
    instance: Instance | None = None

    @property
    def name(self) -> str:
        """What leaves, in a word."""
        return self.slot.name if self.instance is None else f"one of {self.slot.name}"

    @property
    def cold_start_ms(self) -> float:
        """What it costs to have it back."""
        return self.slot.cold_start_ms

    @property
    def used_s(self) -> float:
        """When its model was last asked."""
        return self.slot.used_s

    def cost_bytes(self) -> int:
        """Return the memory that leaves with it."""
        if self.instance is None:
            return self.slot.cost_bytes()
        return self.instance.cost_bytes(declared_bytes(self.slot.variant))

    async def leave(self) -> None:
        """Free it."""
        if self.instance is None:
            await self.slot.unload(evict=True)
        else:
            self.slot.grow_at_s = asyncio.get_running_loop().time() + GROW_AGAIN_S
            await self.slot.shed(self.instance)


class Room:
    """The memory of one runtime's slots. `config` is asked each time: a test may change it."""

    def __init__(self, slots: Mapping[str, Slot], config: Callable[[], RuntimeConfig]) -> None:
        self._slots, self._config = slots, config
        self._coming: dict[Slot, int] = {}  # what workers that are being started will take
        self._admitting = asyncio.Lock()
        self._growth: asyncio.Task[None] | None = None
        self.guests: list[Guest] = []

    def counted_bytes(self) -> int:
        """Return the memory that models take, or are about to."""
        here = set(self._slots.values())
        coming = sum(need for slot, need in self._coming.items() if slot not in here)
        return sum(slot.cost_bytes() for slot in here) + coming + self._guests_bytes()

    def left_bytes(self) -> int | None:
        """Return the memory that nobody takes; None where there is no bound."""
        budget_bytes = self._config().memory_budget_bytes
        return max(0, budget_bytes - self.counted_bytes()) if budget_bytes else None

    def wanted(self, slot: Slot) -> int:
        """Return how many instances of a slot there should be, if memory allows: a trial gets one."""
        config = self._config()
        if TRIAL in slot.name:
            return 1
        cores = config.cores or len(os.sched_getaffinity(0))
        threads = max(config.threads, min(threads_wanted(slot.variant.options), cores))
        return max(1, min(config.of(slot.manifest.model).instances, cores // threads))

    async def admit(self, slot: Slot) -> None:
        """Make room for the first worker of a slot, and count it as coming until `settled`.

        Raises:
            WorkerError: UNFIT, there is no room and none can be made.
        """
        need_bytes, budget_bytes = declared_bytes(slot.variant), self._config().memory_budget_bytes
        async with self._admitting:
            own_bytes = slot.cost_bytes() * (slot.name in self._slots)
            if need_bytes <= budget_bytes:
                await self._dismiss(self.counted_bytes() - own_bytes + need_bytes - budget_bytes)
            used_bytes = self.counted_bytes() - own_bytes
            if budget_bytes and used_bytes + need_bytes > budget_bytes:
                chosen = None
                if need_bytes <= budget_bytes:
                    chosen = self._make_room(slot, used_bytes + need_bytes - budget_bytes)
                if chosen is None:
                    why = f"{used_bytes // 10**6} MB are in use" if used_bytes else "no more may be given to it"
                    words = f"needs {need_bytes // 10**6} MB, {budget_bytes // 10**6} MB are for models; {why}"
                    raise WorkerError(words, reason=Reason.UNFIT, hint="see memory_budget_bytes in docs/agent.md")
                for each in chosen:
                    await each.leave()
            self._coming[slot] = need_bytes

    def settled(self, slot: Slot) -> None:
        """Take note that a slot's worker was started, or was not."""
        self._coming.pop(slot, None)

    async def relieve(self, *, short: bool = False) -> list[str]:
        """Free idle workers where models have grown beyond the budget; `short`: one more that nobody asked lately.

        Returns what left, in words.
        """
        async with self._admitting:
            budget_bytes = self._config().memory_budget_bytes
            over_bytes = self.counted_bytes() - budget_bytes if budget_bytes else 0
            if gone := await self._dismiss(max(over_bytes, int(short))):
                return gone
            chosen = self._leavers(over_bytes, ()) or []
            if short and not chosen:
                now_s = asyncio.get_running_loop().time()
                recent = [name for name, slot in self._slots.items() if now_s - slot.used_s < IDLE_S]
                chosen = self._leavers(1, recent) or []
            for each in chosen:
                await each.leave()
        return [each.name for each in chosen]

    async def _dismiss(self, short_bytes: int) -> list[str]:
        """Let guests leave until so much is free; returns who left."""
        gone: list[str] = []
        for guest in list(self.guests):
            if short_bytes > 0 and (cost_bytes := guest.cost_bytes()):
                await guest.leave()
                short_bytes -= cost_bytes
                gone.append(guest.name)
        return gone

    def _guests_bytes(self) -> int:
        return sum(guest.cost_bytes() for guest in self.guests)

    def _make_room(self, slot: Slot, short_bytes: int) -> list[Leaver] | None:
        """Return who leaves for a slot. The live slot of its name goes only if nothing else helps, and never for its
        own trial.
        """
        model = slot.name.removesuffix(TRIAL)
        own = self._slots.get(model)
        found = self._leavers(short_bytes, (model,))
        if found is None and own is not None and own is not slot and slot.name == model and own.ready:
            rest = self._leavers(short_bytes - own.cost_bytes(), (model,))
            found = None if rest is None else [Leaver(own), *rest]
        return found

    def _leavers(self, short_bytes: int, spared: Sequence[str]) -> list[Leaver] | None:
        """Return who leaves so that so much becomes free; models named in `spared` keep their first instance."""
        now_s = asyncio.get_running_loop().time()
        further = [
            Leaver(slot, each)
            for slot in self._slots.values()
            if slot.serving > 1
            for each in slot.instances[1:]
            if not each.busy
        ]
        found = leavers(further, short_bytes, now_s)
        if found is not None:
            return found
        idle = [
            slot
            for name, slot in self._slots.items()
            if TRIAL not in name and name not in spared and slot.ready and slot.quiet()
        ]
        whole = [Leaver(slot) for slot in idle]
        return leavers([*whole, *(each for each in further if each.slot not in idle)], short_bytes, now_s)

    def grow_soon(self) -> None:
        """Begin to start the instances that are missing and have room, in the background."""
        if self._growth is None or self._growth.done():
            self._growth = asyncio.get_running_loop().create_task(self._grow_all())

    async def grown(self) -> None:
        """Wait until what was begun by `grow_soon` is over."""
        if self._growth is not None:
            await asyncio.wait((self._growth,))

    async def close(self) -> None:
        """Stop growing."""
        if self._growth is not None:
            self._growth.cancel()
            await asyncio.wait((self._growth,))

    async def _grow_all(self) -> None:
        while (slot := next((each for each in self._slots.values() if self._may_grow(each)), None)) is not None:
            slot.grow_at_s = asyncio.get_running_loop().time() + GROW_AGAIN_S
            async with self._admitting:
                if not self._fits(slot):
                    continue
                if budget_bytes := self._config().memory_budget_bytes:
                    await self._dismiss(self.counted_bytes() + slot.instance_bytes() - budget_bytes)
                growing = asyncio.ensure_future(slot.grow())
                await asyncio.sleep(0)  # it counts from now on
            try:
                await growing
            except WorkerError as error:
                LOG.warning("%s: one more instance: %s", slot.name, error, extra={"skerry_model": slot.manifest.model})
            else:
                slot.grow_at_s = 0.0

    def _may_grow(self, slot: Slot) -> bool:
        here = len(slot.instances)
        due = slot.grow_at_s <= asyncio.get_running_loop().time()
        return slot.ready and not slot.unloaded and due and here < self.wanted(slot) and self._fits(slot)

    def _fits(self, slot: Slot) -> bool:
        budget_bytes = self._config().memory_budget_bytes
        taken_bytes = self.counted_bytes() - self._guests_bytes()
        return not budget_bytes or taken_bytes + slot.instance_bytes() <= budget_bytes

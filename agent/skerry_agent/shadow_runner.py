"""All candidates of a device: who may run now, for heat, battery, memory and updates; and the share they are given."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from skerry_agent import health
from skerry_agent.effects import ShadowLoad, ShadowReady
from skerry_agent.hooks import Prediction
from skerry_agent.records import Stage
from skerry_agent.runtime import Runtime
from skerry_agent.shadow_budget import Readings, Verdict
from skerry_agent.shadow_candidate import Candidate, Decide
from skerry_agent.shadow_compare import unlike
from skerry_agent.shadowing import Shadower
from skerry_agent.slot_view import declared_bytes
from skerry_contracts.device import Reason

LOG = logging.getLogger("skerry.agent.shadow")
ROUND_S = 1.0
NO_SENSOR = "no temperature sensor: heat does not stop it"


class ShadowRunner:
    """Carries out what the core asks of shadows. `readings` looks at the device; tests put their own there."""

    def __init__(
        self,
        core: Shadower,
        runtime: Runtime,
        blobs: Path,
        leak_bytes: int,
        decide: Decide,
        readings: Callable[[], Readings] | None = None,
    ) -> None:
        self._core, self._runtime, self._blobs, self._decide = core, runtime, blobs, decide
        self._leak_bytes = leak_bytes
        self._readings = readings or read_device
        self._candidates: dict[str, Candidate] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Make rounds while there is a candidate."""
        while not stop.is_set():
            if self._candidates:
                await self.round()
            try:
                await asyncio.wait_for(stop.wait(), ROUND_S)
            except TimeoutError:
                continue

    async def close(self) -> None:
        """End every candidate's worker."""
        await asyncio.gather(*(self.stop(model) for model in list(self._candidates)))

    def offer(self, prediction: Prediction) -> None:
        """A prediction was answered: perhaps ask the candidate, too. Returns at once."""
        candidate = self._candidates.get(prediction.model)
        if candidate is not None and prediction.keep and self._core.rng.random() < candidate.terms.share:
            candidate.offer(prediction)

    def ready(self, effect: ShadowReady) -> None:
        """A candidate may run from now on, or again."""
        known = self._candidates.get(effect.model)
        if known is not None and known.bundle == effect.bundle and known.terms == effect.terms:
            known.due = True
            return
        if known is not None:
            self._runtime.room.guests.remove(known)
        config = self._runtime.config
        fresh = Candidate(effect, self._core, self._blobs, config, self._leak_bytes, self._decide)
        self._candidates[effect.model] = fresh
        self._runtime.room.guests.append(fresh)
        if known is not None:
            self._leaving = asyncio.get_running_loop().create_task(known.stop())

    async def load(self, effect: ShadowLoad) -> None:
        """Start a candidate's worker; the record says so already."""
        candidate, manifest = self._candidates.get(effect.model), self._core.store.manifest(effect.bundle)
        variants = manifest.variants if manifest is not None else ()
        variant = next((each for each in variants if each.id == effect.variant), None)
        if candidate is None or candidate.bundle != effect.bundle or candidate.loaded:
            return
        if manifest is None or variant is None:
            self._decide(self._core.shadow_lost, effect.model)
            return
        await candidate.start(variant, manifest)

    def stop(self, model: str) -> Coroutine[Any, Any, None]:
        """Give a candidate nothing more, at once, and return what ends its worker; no such candidate is no error."""
        candidate = self._candidates.pop(model, None)
        if candidate is None:
            return _nothing()
        self._runtime.room.guests.remove(candidate)
        return candidate.stop()

    async def round(self) -> None:
        """Look at the device and at every candidate."""
        readings = self._readings()
        note = NO_SENSOR if readings.temperature_c is None else ""
        for model, candidate in list(self._candidates.items()):
            verdict = self._verdict(candidate, readings)
            candidate.note = note
            await candidate.look(verdict)
            if not candidate.loaded and not verdict.why and candidate.due and self._candidates.get(model) is candidate:
                candidate.due = False
                self._decide(self._core.shadow_loading, model)

    def status(self) -> dict[str, Any]:
        """Return what `skerry agent status` shows of shadows."""
        at_work = {model: candidate.status() for model, candidate in self._candidates.items()}
        return {model: {**said, **at_work.get(model, {})} for model, said in self._core.shadow_status().items()}

    def _verdict(self, candidate: Candidate, readings: Readings) -> Verdict:
        """Return whether a candidate may be asked now, be in memory, or neither."""
        busy = self._busy(candidate)
        verdict = candidate.gate.see(
            Readings(readings.temperature_c, readings.battery, readings.available, busy), candidate.terms
        )
        if verdict.why or candidate.loaded:
            return verdict
        if asyncio.get_running_loop().time() < candidate.back_s:
            return Verdict(candidate.verdict.why or "it left the memory to others a moment ago")
        return Verdict(self._room(candidate))

    def _busy(self, candidate: Candidate) -> str:
        """Return why a candidate has no business in memory now; empty: it has."""
        record = self._core.memory.records.get(candidate.model)
        if record is None or record.active is None:
            return "nothing serves beside it"
        if record.stage in (Stage.TRIAL, Stage.OBSERVING):
            return "an update is tried"
        live = self._core.store.manifest(record.active.bundle)
        own = self._core.store.manifest(candidate.bundle)
        return unlike(live, own) if live is not None and own is not None else ""

    def _room(self, candidate: Candidate) -> str:
        """Return why there is no memory for a candidate's worker; empty: there is."""
        record = self._core.memory.shadows.get(candidate.model)
        variant = self._core.shadow_variant(record) if record is not None else None
        if variant is None:
            return ""
        need, allowed = declared_bytes(variant), candidate.terms.memory_bytes
        if allowed is not None and need > allowed:
            words = f"it needs {need // 10**6} MB, {allowed // 10**6} MB are allowed"
            self._decide(self._core.shadow_struck, candidate.model, Reason.UNFIT, words, True)
            return words
        room = self._runtime.room.left_bytes()
        if room is not None and need > room:
            return f"it needs {need // 10**6} MB, {room // 10**6} MB are left"
        return ""


def read_device() -> Readings:
    """Return the readings of this machine; the control group's limit is the runtime's business."""
    return Readings(health.temperature_c(), health.battery(), health.available_share())


async def _nothing() -> None:
    """Do nothing: there was no such candidate."""

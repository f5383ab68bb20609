"""Keeps every model on its rung of the degradation ladder, and the models together within the memory there is.

The update machine's record is not touched: it says what should serve, the ladder what does meanwhile. A new bundle, or
a start of the agent, begins at the top again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from skerry_agent import health
from skerry_agent.core import DeviceCore
from skerry_agent.ladder import NOTHING, Cause, Ladder, Rung
from skerry_agent.records import Installed, Record, Stage
from skerry_agent.runtime import Runtime
from skerry_targets import fit

LOG = logging.getLogger("skerry.agent.ladder")

Serve = Callable[[str, str, str], None]


class Degrader:
    """Looks at heat, memory and falls in every round. `serve(model, bundle, variant)` begins to serve something."""

    def __init__(self, core: DeviceCore, runtime: Runtime, serve: Serve, hot_c: float) -> None:
        self._core, self._runtime, self._serve, self._hot_c = core, runtime, serve, hot_c
        self._ladders: dict[str, tuple[Installed, Ladder]] = {}

    def fell(self, model: str, bundle: str, now_s: float) -> None:
        """A worker of a model's bundle died, hung or did not start. One that was just taken back may fail on until what
        served before it is up: that is no fall of the latter.
        """
        if model in self._ladders and self._ladders[model][1].rung.bundle == bundle:
            self._ladders[model][1].fell(now_s)

    async def round(self, now_s: float) -> None:
        """Make room where memory is short, and step where there is cause."""
        temperature_c = health.temperature_c()
        hot = temperature_c is not None and temperature_c >= self._hot_c
        short = health.memory_short()
        if await self._runtime.relieve(short=short):
            short = False  # who was idle has left: that may be enough
        records = self._core.memory.records
        for model in set(self._ladders) - set(records):
            self._forget(model)
        largest = self._runtime.largest() if short else None
        for model, record in records.items():
            ladder = self._ladder(model, record)
            if ladder is not None and ladder.step(now_s, hot=hot, short=model == largest):
                await self._apply(model, ladder)

    def _ladder(self, model: str, record: Record) -> Ladder | None:
        """Return a model's ladder; none while an update is tried or observed, which has rules of its own."""
        active = record.active
        if active is None or record.stage in (Stage.TRIAL, Stage.OBSERVING):
            self._forget(model)
            return None
        known = self._ladders.get(model)
        if known is None or known[0] != active:
            self._forget(model)
            rungs = self._rungs(record, active)
            if not rungs:
                return None
            known = self._ladders[model] = (active, Ladder(rungs))
        return known[1]

    def _rungs(self, record: Record, active: Installed) -> list[Rung]:
        found = self._variants(active)
        here = next((rung for rung in found if rung.variant == active.measured.variant), None)
        if here is None:
            return []
        smaller = sorted((rung for rung in found if rung.bytes < here.bytes), key=lambda rung: -rung.bytes)
        rungs = [here, *smaller]
        for other in (record.previous, record.factory):
            if other is not None and other.bundle not in {rung.bundle for rung in rungs}:
                rungs += [rung for rung in self._variants(other) if rung.variant == other.measured.variant]
        return rungs

    def _variants(self, installed: Installed) -> list[Rung]:
        manifest = self._core.store.manifest(installed.bundle)
        if manifest is None:
            return []
        return [
            Rung(installed.bundle, each.id, each.memory_bytes, f"{installed.version} ({each.id})")
            for each in fit.fitting(manifest.variants, self._core.hardware)
            if not self._core.store.missing(each.blobs.values())
        ]

    async def _apply(self, model: str, ladder: Ladder) -> None:
        rung, key = ladder.rung, f"ladder {model}"
        cause = ladder.cause or Cause.FALLS
        if ladder.degraded:
            self._core.degraded[key] = f"serves {rung.words} instead of {ladder.first.words}: {cause}"
            LOG.warning("%s %s", model, self._core.degraded[key], extra={"skerry_model": model})
        else:
            self._core.degraded.pop(key, None)
            LOG.info("%s serves what it should again", model, extra={"skerry_model": model})
        watch = self._core.serving.watches.get(model)
        if watch is not None and watch.bundle == rung.bundle:
            watch.variant = rung.variant  # samples and sketches say what answered
        if rung is NOTHING:
            slot = self._runtime.slot(model)
            if slot is not None:
                await slot.abstain(cause)
        else:
            self._serve(model, rung.bundle, rung.variant)

    def _forget(self, model: str) -> None:
        self._ladders.pop(model, None)
        self._core.degraded.pop(f"ladder {model}", None)

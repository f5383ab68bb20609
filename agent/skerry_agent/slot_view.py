"""What may be asked of a slot: how its model fares, what its worker costs, what it has done. Only `Slot` changes it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from skerry_agent.latency import LatencyHistogram
from skerry_agent.pending import Pending
from skerry_agent.process import WorkerProcess
from skerry_agent.supervision import Counters, RuntimeConfig, SlotEvent
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import ModelHealth, ModelState

WORKER_BYTES = 14_000_000  # resident memory of a worker without a model (benchmarks/spine_runtime.py)

T = TypeVar("T")


def declared_bytes(variant: Variant) -> int:
    """Return what a worker of a variant is expected to take."""
    return WORKER_BYTES + variant.memory_bytes


class SlotView(Generic[T]):
    """The state of a slot."""

    def __init__(
        self,
        name: str,
        blob_dir: Path,
        variant: Variant,
        manifest: Manifest,
        bundle: str,
        config: RuntimeConfig,
        on_event: Callable[[SlotEvent], None],
    ) -> None:
        self.name = name
        self.variant = variant
        self.manifest = manifest
        self.bundle = bundle
        self.counters = Counters()
        self.latency = LatencyHistogram()
        self.recent = LatencyHistogram()  # cleared by the guard, the other by each heartbeat
        self.cold_start_ms = 0.0
        self.used_s = 0.0
        self.abstains = ""  # why nothing is answered on purpose; empty: it is
        self._blob_dir = blob_dir
        self._config = config
        self._on_event = on_event
        self._worker: WorkerProcess | None = None
        self._queue: deque[Pending[T]] = deque()
        self._streak = 0
        self._retry_at = 0.0
        self._serving_since = 0.0
        self._revival: asyncio.Task[None] | None = None
        self._stopping = self._unloaded = self._evicted = self._leaving = False
        self._loading = asyncio.Lock()
        self._reported = Counters()

    @property
    def state(self) -> ModelState:
        """How the model fares."""
        if self.abstains:
            return ModelState.DEGRADED
        if self._stopping or self._unloaded:
            return ModelState.STOPPED
        if self._worker is None:
            return ModelState.DEGRADED if self._revival is not None else ModelState.STARTING
        return ModelState.TRIAL if "@" in self.name else ModelState.SERVING

    @property
    def ready(self) -> bool:
        """Whether a worker is there to answer."""
        return self._worker is not None and not self._stopping

    @property
    def unloaded(self) -> bool:
        """Whether the worker was freed, by a local program or for want of memory; the model stays installed."""
        return self._unloaded

    @property
    def evicted(self) -> bool:
        """Whether the worker was freed to make room: the next inference brings it back."""
        return self._unloaded and self._evicted

    @property
    def loading(self) -> bool:
        """Whether `load` is starting a worker."""
        return self._unloaded and self._loading.locked()

    @property
    def sandbox(self) -> str:
        """The sandbox's layers in force, as `rlimits landlock:7 capabilities seccomp`; empty without a worker."""
        return self._worker.layers if self._worker is not None else ""

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._worker.pid if self._worker is not None else None

    @property
    def load_ms(self) -> float:
        """How long the engine took to load the model."""
        return self._worker.load_ms if self._worker is not None else 0.0

    def rss_bytes(self) -> int:
        """Return the worker's resident memory."""
        return self._worker.rss_bytes() if self._worker is not None else 0

    def cost_bytes(self) -> int:
        """Return the memory to count for this slot: measured once it has served, declared before; 0 when it is freed.

        What is resident holds pages that workers share; counted to each, so that the sum errs on the safe side.
        """
        if self._unloaded and not self._loading.locked():
            return 0
        found = self.rss_bytes()
        return found if found and self.counters.predictions else max(found, declared_bytes(self.variant))

    def quiet(self) -> bool:
        """Whether nothing runs or waits here."""
        return not self._queue and (self._worker is None or not self._worker.busy)

    def overdue(self, now_s: float) -> bool:
        """Whether the worker's inference should have been ended before `now_s` (the event loop's time)."""
        return self._worker is not None and self._worker.due_s is not None and self._worker.due_s < now_s

    def health(self, *, reset: bool) -> ModelHealth:
        """Return the model's health; with `reset`, counts and latencies begin anew (one heartbeat's worth)."""
        now, before = self.counters, self._reported
        health = ModelHealth(
            model=self.manifest.model,
            version=self.manifest.version,
            bundle=self.bundle,
            variant=self.variant.id,
            state=self.state,
            predictions=now.predictions - before.predictions,
            errors=now.errors - before.errors,
            restarts=now.restarts - before.restarts,
            latency_p50_ms=self.latency.percentile_ms(0.5),
            latency_p95_ms=self.latency.percentile_ms(0.95),
            rss_bytes=self.rss_bytes(),
        )
        if reset:
            self._reported = dataclasses.replace(now)
            self.latency.clear()
        return health

"""What may be asked of a slot: how its model fares, what its workers cost, what they did. Only `Slot` changes it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from skerry_agent.errors import RequestError
from skerry_agent.instance import Instance
from skerry_agent.latency import LatencyHistogram
from skerry_agent.pending import Pending
from skerry_agent.process import WorkerProcess
from skerry_agent.supervision import Counters, RuntimeConfig, SlotEvent
from skerry_agent.waiting import Waiting
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import ModelHealth, ModelState

WORKER_BYTES = 14_000_000  # resident memory of a worker without a model (benchmarks/spine_runtime.py)

T = TypeVar("T")


def declared_bytes(variant: Variant) -> int:
    """Return what a worker of a variant is expected to take."""
    return WORKER_BYTES + variant.memory_bytes


class SlotView(Generic[T]):
    """The state of a slot. `instances` are its workers, of which the first is always wanted."""

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
        self.grow_at_s = 0.0  # not before then is another instance tried
        self.abstains = ""  # why nothing is answered on purpose; empty: it is
        self.instances: list[Instance] = []
        self._blob_dir = blob_dir
        self._config = config
        self._on_event = on_event
        self._line: Waiting[Pending[T]] = Waiting(config.of(manifest.model).queue)
        self._pace_ns = 0  # what an inference takes of late; 0: not known yet
        self._bell: asyncio.TimerHandle | None = None
        self._stopping = self._unloaded = self._evicted = False
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
            return ModelState.DEGRADED if any(each.reviving for each in self.instances) else ModelState.STARTING
        return ModelState.TRIAL if "@" in self.name else ModelState.SERVING

    @property
    def _worker(self) -> WorkerProcess | None:
        """The first worker that is there."""
        return next((each.worker for each in self.instances if each.worker is not None), None)

    @property
    def ready(self) -> bool:
        """Whether a worker is there to answer."""
        return self._worker is not None and not self._stopping

    @property
    def serving(self) -> int:
        """How many workers are there to answer."""
        return sum(each.worker is not None for each in self.instances)

    @property
    def busy(self) -> int:
        """How many workers are at an inference."""
        return sum(each.busy for each in self.instances)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._line)

    @property
    def unloaded(self) -> bool:
        """Whether the workers were freed, by a local program or for want of memory; the model stays installed."""
        return self._unloaded

    @property
    def evicted(self) -> bool:
        """Whether the workers were freed to make room: the next inference brings one back."""
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
        """The first worker's process id."""
        return self._worker.pid if self._worker is not None else None

    @property
    def load_ms(self) -> float:
        """How long the engine took to load the model."""
        return self._worker.load_ms if self._worker is not None else 0.0

    def rss_bytes(self) -> int:
        """Return the workers' resident memory."""
        return sum(each.rss_bytes() for each in self.instances)

    def cost_bytes(self) -> int:
        """Return the memory to count for this slot's workers, those being started included; 0 when it is freed."""
        declared = declared_bytes(self.variant)
        if not self.instances and not self._unloaded:
            return declared
        return sum(each.cost_bytes(declared) for each in self.instances)

    def instance_bytes(self) -> int:
        """Return the memory that one more worker will take."""
        declared = declared_bytes(self.variant)
        return max((each.cost_bytes(declared) for each in self.instances), default=declared)

    def quiet(self) -> bool:
        """Whether nothing runs or waits here."""
        return not self._line and not self.busy

    def overdue(self, now_s: float) -> bool:
        """Whether an inference should have been ended before `now_s` (the event loop's time)."""
        workers = [each.worker for each in self.instances if each.worker is not None]
        return any(worker.due_s is not None and worker.due_s < now_s for worker in workers)

    def drain_s(self) -> float:
        """Return how long those who wait will take, as far as can be known; 0 before the first answer."""
        seen = self.counters
        one_s = seen.infer_ns / seen.predictions / 1e9 if seen.predictions else 0.0
        return one_s * (len(self._line) + self.busy) / max(1, self.serving)

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

    def _refuse(self) -> None:
        """Raise RequestError where nothing can be run now."""
        model = self.manifest.model
        if self._stopping:
            raise RequestError(f"{model} is being stopped", status=503)
        self._refuse_if_abstaining()
        if self._unloaded and not self._evicted:
            raise RequestError(f"{model} is unloaded", hint=f"POST /v2/repository/models/{model}/load")
        if self._unloaded:
            raise RequestError(f"{model} was just unloaded to make room", status=503, hint="ask again")

    def _refuse_if_abstaining(self) -> None:
        if self.abstains:
            words = f"{self.manifest.model} abstains: {self.abstains}"
            raise RequestError(words, status=503, hint="it comes back by itself; see skerry agent status")

    def _busy(self) -> RequestError:
        words = f"{self.manifest.model} is busy: {len(self._line)} requests wait"
        return RequestError(words, status=503, hint="ask again later", retry_after_s=self.drain_s())

    def _back_s(self) -> float:
        """Return when the next worker is due, where none is there."""
        return min((each.retry_at_s for each in self.instances), default=0.0)

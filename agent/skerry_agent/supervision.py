"""The words of supervision: how workers are run, what is counted, and what the core hears of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from skerry_contracts.device import Reason


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
    """How one model is run: `instances` workers, as far as cores and memory allow, and `queue` requests that may
    wait.
    """

    instances: int = 1
    queue: int = 64


@dataclasses.dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """How workers are run.

    `deadline_s` bounds one inference, `wait_s` the time in the queue before it, `load_s` the start of a worker.
    `headroom_bytes` of address space are given on top of twice what the variant says it needs. `first_delay_s` doubles
    with each crash up to `last_delay_s`. `pulse_s`: an idle worker that was asked for a sign of life gives it within
    twice this time. `memory_budget_bytes` bounds what all models take together; 0 does not. `every` is how models are
    run that `models` does not name; `cores` is how many workers may run at once, 0: as many as this process may use.
    `spare`: on processor cycles that nobody else wants, and first to go where the kernel has no memory left.
    """

    deadline_s: float = 10.0
    wait_s: float = 10.0
    load_s: float = 60.0
    threads: int = 1
    headroom_bytes: int = 256 * 1024 * 1024
    first_delay_s: float = 0.1
    last_delay_s: float = 30.0
    quiet_s: float = 60.0
    pulse_s: float = 5.0
    memory_budget_bytes: int = 0
    spare: bool = False
    cores: int = 0
    every: ModelConfig = ModelConfig()
    models: Mapping[str, ModelConfig] = dataclasses.field(default_factory=dict)

    def of(self, model: str) -> ModelConfig:
        """Return how a model is run."""
        return self.models.get(model, self.every)


@dataclasses.dataclass(slots=True)
class Counters:
    """What happened in a slot since it was started. `errors` counts every inference that was not answered.

    `queue_ns`, `input_ns` (tensors into shared memory), `infer_ns` (the worker's own time) and `output_ns` (wake-ups,
    tensors out) are sums over answered inferences, `errors_ns` over the others; `last_s` is the wall time of the
    last.
    """

    predictions: int = 0
    errors: int = 0
    crashes: int = 0
    hangs: int = 0
    leaks: int = 0
    unhealthy: int = 0
    restarts: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    errors_ns: int = 0
    last_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class SlotEvent:
    """Something the core may want to know at once: a worker died or failed (and why), or serves again (OK)."""

    slot: str
    bundle: str
    reason: Reason
    detail: str

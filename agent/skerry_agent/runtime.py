"""The models of this device: which slot serves which model, and how a candidate takes the live one's place.

A slot is called by its model ("digits") when it is live, and "digits@trial" while a candidate is tried beside it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.golden import GoldenResult, run_golden
from skerry_agent.slot import Served, Slot
from skerry_agent.supervision import RuntimeConfig, SlotEvent
from skerry_agent.tensors import check_inputs
from skerry_contracts import codec
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import ModelHealth
from skerry_contracts.tensor import Tensor

TRIAL = "@trial"


@dataclasses.dataclass(frozen=True, slots=True)
class InferResult:
    """What an inference gave, and which bundle and variant gave it. The latency is the worker's own."""

    outputs: tuple[Tensor, ...]
    latency_ms: float
    version: str
    bundle: str
    variant: str


def _ignore(event: SlotEvent) -> None:
    """Hear of an event that nobody asked for."""


class Runtime:
    """All slots of one agent. `on_event` hears of crashes, hangs and recoveries, on the event loop."""

    def __init__(self, config: RuntimeConfig | None = None, on_event: Callable[[SlotEvent], None] = _ignore) -> None:
        self.config = config or RuntimeConfig()
        self._on_event = on_event
        self._slots: dict[str, Slot] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(
        self, name: str, blob_dir: Path, variant: Variant, manifest: Manifest, *, bundle: str | None = None
    ) -> Slot:
        """Start a worker for a variant and return its slot once it can serve; a slot of that name is replaced without a
        gap.

        `blob_dir` holds the variant's blobs by digest. `bundle` is the manifest's digest, computed where it is not
        given.

        Raises:
            WorkerError: the blobs are not what they should be, or the model does not load; a slot that was there stays.
        """
        bundle = bundle or codec.digest(codec.encode(manifest))
        slot = Slot(name, blob_dir, variant, manifest, bundle, self.config, self._on_event)
        await slot.open()
        self._put(name, slot)
        return slot

    async def stop(self, name: str) -> None:
        """End a slot's worker after the inference it is at; no such slot is no error."""
        slot = self._slots.pop(name, None)
        if slot is not None:
            await slot.close()

    def swap(self, model: str) -> Slot:
        """Make the model's trial slot the live one, at once: nothing that waits is lost, the old worker ends when it is
        idle.

        Raises:
            WorkerError: there is no trial slot.
        """
        slot = self._slots.pop(model + TRIAL, None)
        if slot is None:
            raise WorkerError(f"there is no trial of {model} to make live")
        slot.name = model
        self._put(model, slot)
        return slot

    def slot(self, name: str) -> Slot | None:
        """Return a slot by its name."""
        return self._slots.get(name)

    def models(self) -> list[str]:
        """Return the live slots' names."""
        return sorted(name for name in self._slots if TRIAL not in name)

    async def infer(self, model: str, inputs: Sequence[Tensor], *, deadline_s: float | None = None) -> InferResult:
        """Return the model's answer.

        Raises:
            RequestError: 404 no such model, 400 inputs that are not the model's, 503 busy or not ready.
            WorkerError: the model failed, crashed, hung or said NaN.
        """
        slot = self._slots.get(model)
        if slot is None:
            raise RequestError(
                f"no model {model!r:.80} here", status=404, hint=f"models: {', '.join(self.models()) or 'none'}"
            )
        data = check_inputs(slot.manifest.signature.inputs, inputs)
        return _result(await slot.run(data, deadline_s))

    async def golden(self, name: str, manifest: Manifest, blob_dir: Path, *, runs: int = 50) -> GoldenResult:
        """Run the manifest's golden vectors through a slot; see `golden.run_golden`.

        Raises:
            WorkerError: no such slot, or its worker failed on the way.
        """
        slot = self._slots.get(name)
        if slot is None:
            raise WorkerError(f"there is no slot {name!r:.80} to try")
        return await run_golden(slot, manifest, blob_dir, runs=runs)

    def health(self, *, reset: bool = False) -> tuple[ModelHealth, ...]:
        """Return each slot's health, by name; with `reset`, counts and latencies begin anew."""
        return tuple(self._slots[name].health(reset=reset) for name in sorted(self._slots))

    async def close(self) -> None:
        """End every worker."""
        slots, self._slots = list(self._slots.values()), {}
        await asyncio.gather(*(slot.close() for slot in slots), *self._leaving)

    def _put(self, name: str, slot: Slot) -> None:
        old, self._slots[name] = self._slots.get(name), slot
        if old is not None:
            old.hand_over(slot)
            leaving = asyncio.get_running_loop().create_task(old.retire())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)


def _result(served: Served) -> InferResult:
    slot, answer = served.slot, served.answer
    specs = slot.manifest.signature.outputs
    outputs = tuple(
        Tensor(spec.name, spec.dtype, spec.shape, data) for spec, data in zip(specs, answer.outputs, strict=True)
    )
    return InferResult(outputs, answer.elapsed_ns / 1e6, slot.manifest.version, slot.bundle, slot.variant.id)

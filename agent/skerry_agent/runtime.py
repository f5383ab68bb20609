"""The models of this device: which slot serves which model, and how a candidate takes the live one's place.

A slot is called by its model ("digits") when it is live, and "digits@trial" while a candidate is tried beside it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from skerry_agent.dispatch import Served
from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.golden import GoldenResult, run_golden
from skerry_agent.room import TRIAL, Room
from skerry_agent.slot import Slot
from skerry_agent.supervision import RuntimeConfig, SlotEvent
from skerry_agent.tensors import check_inputs
from skerry_contracts import codec
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import ModelHealth
from skerry_contracts.tensor import Tensor

__all__ = ["TRIAL", "InferResult", "Runtime"]


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
        self.room = Room(self._slots, lambda: self.config)

    async def start(
        self, name: str, blob_dir: Path, variant: Variant, manifest: Manifest, *, bundle: str | None = None
    ) -> Slot:
        """Start a worker for a variant and return its slot once it can serve; a slot of that name is replaced without a
        gap.

        `blob_dir` holds the variant's blobs by digest. `bundle` is the manifest's digest, computed where it is not
        given.

        Raises:
            WorkerError: the blobs are not what they should be, the model does not load, or there is no room for it
                (UNFIT); a slot that was there stays.
        """
        bundle = bundle or codec.digest(codec.encode(manifest))
        slot = Slot(name, blob_dir, variant, manifest, bundle, self.config, self._on_event)
        try:
            await self.room.admit(slot)
            await slot.open()
        finally:
            self.room.settled(slot)
        self._put(name, slot)
        self.room.grow_soon()
        return slot

    async def load(self, name: str) -> None:
        """Start the worker of a slot that was freed; does nothing where one serves, or there is no such slot.

        Raises:
            WorkerError: it does not load, or there is no room for it (UNFIT).
            RequestError: 503, it is being stopped or restarted.
        """
        slot = self._slots.get(name)
        if slot is None:
            return
        if slot.unloaded:
            await self.room.admit(slot)
        try:
            await slot.load()
        finally:
            self.room.settled(slot)
        self.room.grow_soon()

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
        self.room.grow_soon()
        return slot

    def slot(self, name: str) -> Slot | None:
        """Return a slot by its name."""
        return self._slots.get(name)

    def unloaded(self, model: str) -> bool:
        """Return whether a person freed the model's worker: it does not come back by itself."""
        slot = self._slots.get(model)
        return slot is not None and slot.unloaded and not slot.evicted

    def models(self) -> list[str]:
        """Return the live slots' names."""
        return sorted(name for name in self._slots if TRIAL not in name)

    async def infer(
        self,
        model: str,
        inputs: Sequence[Tensor],
        *,
        deadline_s: float | None = None,
        client: Hashable = None,
        wait_s: float | None = None,
    ) -> InferResult:
        """Return the model's answer.

        `deadline_s` bounds the inference itself, `wait_s` the time before it begins; `client` says who asks: where
        several wait, they take turns. A caller that is cancelled before its turn is not run.

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
        if slot.evicted:
            await self.recall(model)
        return result_of(await slot.run(data, deadline_s, client=client, wait_s=wait_s))

    async def recall(self, model: str) -> None:
        """Load a model again that had left to make room.

        Raises:
            RequestError: 503, it cannot be loaded now.
        """
        try:
            await asyncio.shield(self.load(model))  # others wait for it, too
        except WorkerError as error:
            raise RequestError(f"{model} cannot be loaded again now: {error}", status=503) from error

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

    def status(self) -> dict[str, Any]:
        """Return what `skerry agent status` shows of the workers and their memory."""
        workers = [
            {
                "model": slot.manifest.model,
                "state": slot.state.value,
                "instances": slot.serving,
                "instances_wanted": self.room.wanted(slot),
                "waiting": slot.waiting,
                "rss_bytes": slot.rss_bytes(),
                "variant": slot.variant.id,
                "counted_bytes": slot.cost_bytes(),
                "cold_start_ms": round(slot.cold_start_ms, 1),
                "evicted": slot.evicted,
                "restarts": slot.counters.restarts,
                "leaks": slot.counters.leaks,
            }
            for _, slot in sorted(self._slots.items())
        ]
        memory = {"budget_bytes": self.config.memory_budget_bytes, "counted_bytes": self.counted_bytes()}
        return {"workers": workers, "memory": memory}

    def counted_bytes(self) -> int:
        """Return the memory that models take, or are about to."""
        return self.room.counted_bytes()

    def largest(self) -> str | None:
        """Return the live slot that takes the most memory; None where there is none."""
        return max(self.models(), key=lambda name: self._slots[name].cost_bytes(), default=None)

    async def relieve(self, *, short: bool = False) -> list[str]:
        """Free idle workers where memory is short (see `Room.relieve`), else begin to start instances that are missing.

        Returns what left, in words.
        """
        left = await self.room.relieve(short=short)
        if not left and not short:
            self.room.grow_soon()
        return left

    async def close(self) -> None:
        """End every worker."""
        await self.room.close()
        slots = list(self._slots.values())
        self._slots.clear()
        await asyncio.gather(*(slot.close() for slot in slots), *self._leaving)

    def _put(self, name: str, slot: Slot) -> None:
        old, self._slots[name] = self._slots.get(name), slot
        if old is not None:
            old.hand_over(slot)
            leaving = asyncio.get_running_loop().create_task(old.retire())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)


def result_of(served: Served) -> InferResult:
    """Return an answer in the words of the model's signature."""
    slot, answer = served.slot, served.answer
    specs = slot.manifest.signature.outputs
    outputs = tuple(
        Tensor(spec.name, spec.dtype, spec.shape, data) for spec, data in zip(specs, answer.outputs, strict=True)
    )
    return InferResult(outputs, answer.elapsed_ns / 1e6, slot.manifest.version, slot.bundle, slot.variant.id)

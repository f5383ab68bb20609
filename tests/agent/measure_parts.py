"""Real parts for tests of measuring: candidates of every temper, a live model, and what a runner needs of the core."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.agent.serving_parts import Parts, bundle, compiled, put, tensor

from skerry_agent import effects
from skerry_agent.effects import Effect
from skerry_agent.measure_machine import Over
from skerry_agent.measure_runner import MeasureRunner
from skerry_agent.records import Record
from skerry_agent.runtime import Runtime
from skerry_agent.shadow_budget import Readings
from skerry_agent.supervision import RuntimeConfig
from skerry_agent.this_device import this_hardware
from skerry_contracts import codec
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.measuring import MODEL, MeasuredCandidate, MeasureOrder, MeasureState

SOURCE = r"""
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
const uint32_t skerry_abi = 1;
const uint64_t skerry_sizes[] = {1, 1, 16, 16};
static volatile int sink;
static char *volatile kept;
int32_t skerry_run(const void *const *inputs, void *const *outputs) {
  const float *x = inputs[0];
  float *y = outputs[0];
  for (int i = 0; i < 4; i++) y[i] = 2 * x[i];
  for (long i = 0; i < SPIN; i++) sink++;
  switch (KIND) {
    case 1: *(volatile int *)8 = 1; break;
    case 2: for (;;) sink++;
    case 3: y[1] = NAN; break;
    case 4: for (int i = 0; i < 40; i++) { kept = malloc(4u << 20); if (kept) memset(kept, 1, 4u << 20); } break;
    case 5: abort();
  }
  return 0;
}
"""
WELL, SEGFAULT, HANG, NAN, HOG, ABORT = range(6)
COOL = Readings(temperature_c=40.0)


def candidates(folder: Path, *kinds: tuple[str, int, int]) -> Parts:
    """Return a bundle of candidates from (id, kind, spin)."""
    first = bundle(folder, compiled(folder, SOURCE, KIND=WELL, SPIN=0))

    def variant(name: str, kind: int, spin: int) -> Variant:
        library = put(folder, compiled(folder, SOURCE, KIND=kind, SPIN=spin))
        return dataclasses.replace(first.variant, id=name, blobs={"library": library})

    variants = tuple(variant(*each) for each in kinds)
    return Parts(folder, dataclasses.replace(first.manifest, model=MODEL, variants=variants))


class Device:
    """What a runner needs of the core, and a live model in a worker of its own."""

    def __init__(self, found: Parts, runtime: Runtime, **terms: object) -> None:
        own = codec.digest(codec.encode(found.manifest))
        usual = MeasureOrder("m1-0000000a", "1", 1, own, f"{MODEL}/{own}.json", 1, 2**40, seconds=60, rounds=3)
        self.order = dataclasses.replace(usual, **terms)  # type: ignore[arg-type]  # passed through
        self.candidates, self.runtime = found, runtime
        self.memory = self.store = self
        self.records: dict[str, Record] = {}
        self.hardware = this_hardware()
        self.found: list[MeasuredCandidate] = []
        self.states: list[tuple[MeasureState, str]] = []
        self.over: Over | None = None
        self.readings = COOL
        self.runner = MeasureRunner(
            self,  # type: ignore[arg-type]  # as much of a core as a runner asks
            runtime,
            found.folder,
            lambda call, *values: call(*values),
            lambda: self.readings,
        )

    def manifest(self, name: str) -> Manifest | None:
        return self.candidates.manifest if name == self.order.bundle else None

    def measured(self, order: str, found: MeasuredCandidate, reported: int) -> list[Effect]:
        self.found.append(found)
        assert reported == len(self.found) and codec.decode(MeasuredCandidate, codec.encode(found)) == found
        return []

    def measure_told(self, order: str, state: MeasureState, detail: str) -> list[Effect]:
        self.states.append((state, detail))
        return []

    def measure_over(self, order: str, said: Over) -> list[Effect]:
        self.over = said
        return []

    def measuring_status(self) -> dict[str, object]:
        return {}

    def begin(self) -> None:
        self.runner.start(effects.Measure(self.order))

    async def ended(self) -> Over:
        async with asyncio.timeout(120):
            while self.over is None:
                await asyncio.sleep(0.01)
        return self.over

    def outcomes(self) -> dict[str, str]:
        return {each.id: each.outcome.value for each in self.found}


def play(found: Parts, body: Callable[[Device], Awaitable[None]], *, budget_bytes: int = 0, **terms: object) -> Device:
    """Run a test's course beside a live model; nothing of it may be left, and what serves noticed nothing."""
    live = bundle(found.folder, compiled(found.folder, SOURCE, KIND=WELL, SPIN=0))

    async def course() -> Device:
        runtime = Runtime(RuntimeConfig(memory_budget_bytes=budget_bytes))
        device = Device(found, runtime, **terms)
        try:
            slot = await runtime.start("toy", live.folder, live.variant, live.manifest)
            await body(device)
            assert slot.counters.errors == slot.counters.restarts == 0, "what serves noticed nothing"
            await runtime.infer("toy", [tensor(0.0, 1.0)])
        finally:
            await device.runner.close()
            assert not runtime.room.guests
            await runtime.close()
        return device

    return asyncio.run(course())

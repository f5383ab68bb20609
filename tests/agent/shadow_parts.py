"""Real parts for tests of shadows: a live model and a candidate in workers, and what a runner needs of the core."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

from tests.agent.serving_parts import Parts, tensor

from skerry_agent import effects
from skerry_agent.clock import SystemClock
from skerry_agent.effects import Effect, ShadowReady
from skerry_agent.hooks import Prediction
from skerry_agent.records import Installed, Measured, Record
from skerry_agent.runtime import Runtime
from skerry_agent.shadow_budget import Readings
from skerry_agent.shadow_runner import ShadowRunner
from skerry_agent.shadow_tally import Tally
from skerry_agent.supervision import RuntimeConfig
from skerry_contracts import codec
from skerry_contracts.assignment import target_path
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import Reason
from skerry_contracts.shadow import Shadow, ShadowAnswer, ShadowState

COOL = Readings(temperature_c=40.0)

# Well until asked otherwise: the first input says what it does, if it is a candidate of this kind.
CANDIDATE = r"""
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
  switch ((int)x[0]) {
    case 1: *(volatile int *)8 = 1; break;
    case 2: for (;;) sink++;
    case 3: y[1] = NAN; break;
    case 4: kept = memset(malloc(4u << 20), 1, 4u << 20); break;
    case 5: y[1] = 99; break;
    case 6: for (long i = 0; i < 60000000; i++) sink++; break;
  }
  return 0;
}
"""
WELL, SEGFAULT, HANG, NAN, LEAK, OTHERWISE, BUSY = range(7)


class Device:
    """What a runner needs of the core, and the live model in a worker of its own."""

    def __init__(self, live: Parts, candidate: Parts, runtime: Runtime, terms: Shadow) -> None:
        self.live, self.candidate, self.runtime = live, candidate, runtime
        self.bundle, self.own = (codec.digest(codec.encode(each.manifest)) for each in (live, candidate))
        self.memory, self.store, self.clock, self.rng = self, self, SystemClock(), self
        active = Installed(self.bundle, "1", 1, Measured("native-fp32"))
        self.records = {"toy": Record("toy", active=active)}
        self.shadows = {"toy": "a record"}
        self.struck: list[tuple[Reason, str]] = []
        self.tallies: list[Tally] = []
        self.states: list[tuple[ShadowState, str]] = []
        self.disagreements: list[ShadowAnswer] = []
        self.proven = self.rested = self.ids = 0
        self.readings = COOL
        self.strikes = 0
        self.runner = ShadowRunner(self, runtime, live.folder, 20 << 20, self.decide, lambda: self.readings)  # type: ignore[arg-type]
        self.terms = terms

    # The core's side.

    def random(self) -> float:
        return 0.0

    def manifest(self, name: str) -> Manifest | None:
        return {self.bundle: self.live.manifest, self.own: self.candidate.manifest}.get(name)

    def shadow_status(self) -> dict[str, dict[str, object]]:
        return {model: {} for model in self.shadows}

    def shadow_variant(self, record: object) -> Variant:
        return self.candidate.variant

    def decide(self, call: Callable[..., list[Effect]], *values: object) -> None:
        for effect in call(*values):
            assert isinstance(effect, effects.ShadowLoad)
            self.loading = asyncio.get_running_loop().create_task(self.runner.load(effect))

    def shadow_loading(self, model: str) -> list[Effect]:
        return [effects.ShadowLoad(model, self.own, "native-fp32")]

    def shadow_struck(self, model: str, reason: Reason, words: str, final: bool = False) -> list[Effect]:
        self.struck.append((reason, words))
        self.strikes += 3 if final else 1
        if self.strikes < 3:
            self.ready()
        else:
            self.stopping = asyncio.get_running_loop().create_task(self.runner.stop(model))
        return []

    def shadow_told(self, tally: Tally, state: ShadowState, reason: Reason, words: str, rss_bytes: int) -> list[Effect]:
        self.tallies.append(tally)
        self.states.append((state, words))
        return []

    def shadow_proven(self, model: str) -> list[Effect]:
        self.proven += 1
        return []

    def shadow_rested(self, model: str) -> list[Effect]:
        self.rested += 1
        return []

    def shadow_lost(self, model: str) -> list[Effect]:
        self.struck.append((Reason.CORRUPT, "lost"))
        return []

    def disagreed(self, prediction: Prediction, answer: ShadowAnswer) -> list[Effect]:
        self.disagreements.append(answer)
        return []

    # What a test does.

    def ready(self) -> None:
        self.runner.ready(ShadowReady("toy", self.own, self.terms))

    async def running(self) -> None:
        self.ready()
        await self.until(lambda: self.state == "running")

    @property
    def state(self) -> str:
        return str(self.runner.status().get("toy", {}).get("state", "gone"))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await self.runner.round()
                await asyncio.sleep(0.01)

    async def ask(self, first: float = 0.0, *rest: float) -> None:
        """An inference: the live model answers, then the candidate is offered the input."""
        image = tensor(first, *(rest or (1.0, 2.0, 3.0)))
        found = await self.runtime.infer("toy", [dataclasses.replace(image, data=tensor(0.0, 1.0, 2.0, 3.0).data)])
        self.ids += 1
        self.runner.offer(
            Prediction(f"d/{self.ids}", "toy", (image,), found.outputs, found.latency_ms, bundle=self.bundle)
        )

    def counted(self, name: str) -> int:
        now = self.runner.status().get("toy", {}).get(name, 0)
        return int(now) + sum(int(getattr(each, name)) for each in self.tallies)


def play(
    live: Parts,
    candidate: Parts,
    body: Callable[[Device], Awaitable[None]],
    *,
    budget_bytes: int = 0,
    **terms: object,
) -> Device:
    """Run a test's course beside a live model that serves; it must be as well afterwards."""
    own = codec.digest(codec.encode(candidate.manifest))
    usual = Shadow("s1-0000000a", "2", 1, own, target_path("toy", own), 1, 2**40, share=1.0, cpu_share=1.0, report_s=1)
    wanted = dataclasses.replace(usual, **terms)  # type: ignore[arg-type]

    async def course() -> Device:
        runtime = Runtime(RuntimeConfig(memory_budget_bytes=budget_bytes))
        device = Device(live, candidate, runtime, wanted)
        try:
            slot = await runtime.start("toy", live.folder, live.variant, live.manifest, bundle=device.bundle)
            await body(device)
            assert slot.counters.errors == slot.counters.restarts == 0, "what serves noticed nothing"
            await runtime.infer("toy", [tensor(0.0, 1.0)])
        finally:
            await device.runner.close()
            await runtime.close()
        chosen = device.counted("chosen")
        assert chosen == device.counted("compared") + device.counted("failed") + device.counted("dropped")
        return device

    return asyncio.run(course())

"""How often the gate of rollouts takes back what does no harm, and how soon it sees what does: the real machine and the
real comparison, with devices that differ from each other and change from hour to hour.

A device fails a share of its predictions of its own (Beta(1, 49): 2 % on average, some 10 %), which wanders; it has its
own latency and confidence. Everybody's error rate rises and falls together, as with daylight. Harm comes in two kinds:
every device with the bundle fails three predictions in a hundred more; or three devices in a hundred break.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from benchmarks.fleet_options import Options
from numpy.typing import NDArray

from skerry_contracts.device import ModelHealth, ModelState, Phase, Reason
from skerry_fleet import rollout_machine as machine
from skerry_fleet.comparison import Comparison, Gate
from skerry_fleet.rollout_plan import Plan, Wave
from skerry_fleet.rollout_words import Heard, Offer, Place, Reported, State, Status, Tick

NEW, OLD = "b" * 64, "a" * 64
DEVICES = 1000
BEAT_S, BEATS, PREDICTIONS = 60.0, 2, 100
PLAN = Plan(
    canary=10, waves=(Wave(25), Wave(50), Wave(100)), soak_s=BEAT_S * BEATS, exposure_budget=100, failure_budget=90
)
Floats = NDArray[np.float64]


@dataclasses.dataclass
class Fleet:
    """Devices by number, and what is wrong with the bundle: a share of predictions more, or of devices that break."""

    count: int
    chance: np.random.Generator
    more: float = 0.0
    breaking: float = 0.0

    def __post_init__(self) -> None:
        self.rate: Floats = self.chance.beta(1, 49, self.count)
        self.latency: Floats = self.chance.lognormal(1.0, 0.5, self.count)
        self.confidence: Floats = self.chance.beta(18, 2, self.count)
        self.breaks = self.chance.random(self.count) < self.breaking

    def beat(self, bundles: list[str], when: int) -> list[ModelHealth]:
        """Return what every device says of the last minute."""
        treated = np.array([bundle == NEW for bundle in bundles])
        light = 1 + 0.5 * np.sin(when / 7)
        rate = np.clip(self.rate * light * self.chance.lognormal(0, 0.3, self.count), 0, 0.9)
        rate = np.where(treated, np.where(self.breaks, 1.0, np.minimum(1.0, rate + self.more)), rate)
        errors = self.chance.binomial(PREDICTIONS, rate)
        latency = self.latency * self.chance.lognormal(0, 0.15, self.count)
        confidence = np.clip(self.confidence + self.chance.normal(0, 0.02, self.count), 0, 1)
        return [
            ModelHealth(
                "m",
                "1",
                bundle,
                "v",
                ModelState.SERVING,
                PREDICTIONS - int(failed),
                int(failed),
                0,
                float(late) / 2,
                float(late),
                1,
                float(sure) if failed < PREDICTIONS else None,
            )
            for bundle, failed, late, sure in zip(bundles, errors, latency, confidence, strict=True)
        ]


def run(fleet: Fleet, seed: int, gate: Gate) -> tuple[bool, int]:
    """Roll out to the end; return whether the gate took it back, and in which stage."""
    names = [f"d{index}" for index in range(fleet.count)]
    numbers = {name: index for index, name in enumerate(names)}
    bundles = [OLD] * fleet.count
    comparison, when = Comparison(gate), 0
    before = fleet.beat(bundles, when)
    state = machine.start(f"r{seed}", NEW, PLAN, [(name, True) for name in names], 0.0)
    effects = machine.step(state, Tick(), 0.0)[1]
    while state.status is Status.RUNNING:
        now, when = when * BEAT_S, when + 1
        offered = [effect.device for effect in effects if isinstance(effect, Offer)]
        _pair(comparison, state, offered, numbers, before)
        for device in offered:
            machine.step(state, Reported(device, NEW, 1, Phase.COMMITTED, Reason.OK), now)
            bundles[numbers[device]] = NEW
        before = fleet.beat(bundles, when)
        now, effects = when * BEAT_S, []
        for name, said in zip(names, before, strict=True):
            comparison.hear(name, said, NEW)
        for name in names:
            member = state.members[name]
            if member.place is not Place.SOAKING:
                continue
            if now >= member.since + PLAN.soak_s:
                comparison.end(name)
                if comparison.harm() is not None:
                    return True, state.stage
            effects += machine.step(state, Heard(name, NEW, 1, True), now)[1]
    return False, state.stage


def _pair(
    comparison: Comparison, state: State, offered: list[str], numbers: dict[str, int], before: list[ModelHealth]
) -> None:
    for device in offered:
        comparison.lose(device)
    for device, control in zip(offered, comparison.candidates(state, len(offered)), strict=False):
        comparison.pair(device, before[numbers[device]], control, before[numbers[control]])


def gate(options: Options) -> dict[str, float]:
    """Return the shares of rollouts to a thousand devices that were taken back although they did no harm, and of
    harmful ones that were before their second wave ended.
    """
    words, harmful = Gate(), max(1, options.rollouts // 10)
    aborted = sum(run(Fleet(DEVICES, np.random.default_rng(seed)), seed, words)[0] for seed in range(options.rollouts))
    found = {}
    for name, harm in (("more", {"more": 0.03}), ("break", {"breaking": 0.03})):
        early = 0
        for seed in range(options.rollouts, options.rollouts + harmful):
            taken, stage = run(Fleet(DEVICES, np.random.default_rng(seed), **harm), seed, words)
            early += taken and stage <= 2
        found[f"harm_{name}_detected"] = early / harmful
    worst = min(found.values())
    return {"aa_false_aborts": aborted / options.rollouts, "harm_detected": worst, **found}

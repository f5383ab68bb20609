"""Devices with a rollout's bundle beside devices without it, at the same time. Pure.

Each device that gets the bundle is paired with one that waits for its turn, from the other end of the rollout's order,
which is a hash: chance. From the moment at which the first serves the bundle until it is confirmed or failed, both are
watched. What counts is the change against what each did before, so that it does not matter that one has the worse
camera; that both are watched at the same time takes out what happens to everybody, such as nightfall. A device is the
control of one pair in a stage at most.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from skerry_contracts.device import ModelHealth
from skerry_contracts.errors import MismatchError
from skerry_fleet.evidence import Measure, Score, combined
from skerry_fleet.rollout_words import Place, State


@dataclasses.dataclass(frozen=True, slots=True)
class Gate:
    """How much evidence of harm takes a rollout back.

    `alpha` bounds the chance that a rollout without harm is ever taken back by this gate (0: there is no gate). A pair
    counts where their changes differ by more than the margin: of the share of predictions that fail (`error_rate`,
    and `failing` for those that break), of the p95 latency as a share of it (`latency`), of the mean confidence
    (`confidence`); and where each of the two made at least `least_predictions`.
    """

    alpha: float = 0.05
    error_rate: float = 0.01
    failing: float = 0.2
    latency: float = 0.5
    confidence: float = 0.05
    least_predictions: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 0.5:
            raise MismatchError("alpha", "from 0 (no gate) to 0.5")
        if not all(0 <= rate <= 1 for rate in (self.error_rate, self.failing, self.confidence)):
            raise MismatchError("error_rate", "margins of rates run from 0 to 1")
        if not 0 <= self.latency <= 100:
            raise MismatchError("latency", "from 0 to 100 times")
        if self.least_predictions < 1:
            raise MismatchError("least_predictions", "at least 1")


@dataclasses.dataclass(slots=True)
class Watched:
    """One device of a pair: what it did before, and what it has done since."""

    before: ModelHealth
    predictions: int = 0
    errors: int = 0
    latency_ms: float = 0.0
    confidence: float = 0.0
    confident: int = 0

    def hear(self, health: ModelHealth) -> None:
        """Take in one heartbeat."""
        self.predictions += health.predictions
        self.errors += health.errors
        self.latency_ms += health.latency_p95_ms * health.predictions
        if health.mean_confidence is not None:
            self.confidence += health.mean_confidence * health.predictions
            self.confident += health.predictions

    def change(self, measure: Measure) -> float | None:
        """Return how far it got worse: in the error rate, the logarithm of the latency, or the confidence. None: it
        cannot be said.
        """
        before = self.before
        if measure in (Measure.ERROR_RATE, Measure.FAILING):
            earlier = before.predictions + before.errors
            return self.errors / (self.predictions + self.errors) - (before.errors / earlier if earlier else 0.0)
        if measure is Measure.LATENCY:
            if not (self.predictions and self.latency_ms > 0 and before.latency_p95_ms > 0):
                return None
            return math.log(self.latency_ms / self.predictions / before.latency_p95_ms)
        if not self.confident or before.mean_confidence is None:
            return None
        return before.mean_confidence - self.confidence / self.confident


@dataclasses.dataclass(slots=True)
class Pair:
    """Two devices; `begun`: the first serves the bundle."""

    treated: str
    control: str
    with_bundle: Watched
    without: Watched
    begun: bool = False

    def signs(self, gate: Gate) -> dict[Measure, int] | None:
        """Return by each measure whether the device with the bundle did worse (1), better (-1) or the same (0); None:
        too little was seen of one of them.
        """
        both = (self.with_bundle, self.without)
        if any(each.predictions + each.errors < gate.least_predictions for each in both):
            return None
        margins = {
            Measure.FAILING: gate.failing,
            Measure.ERROR_RATE: gate.error_rate,
            Measure.LATENCY: math.log1p(gate.latency),
            Measure.CONFIDENCE: gate.confidence,
        }
        found = {}
        for measure, margin in margins.items():
            one, other = (each.change(measure) for each in both)
            if one is not None and other is not None:
                found[measure] = (one - other > margin) - (one - other < -margin)
        return found


class Comparison:
    """The pairs of one rollout and what they came to: `scores` (those of earlier pairs, after a restart), and `value`,
    the evidence for harm.
    """

    def __init__(self, gate: Gate, scores: Mapping[Measure, Score] | None = None) -> None:
        self.gate = gate
        self.scores = {measure: Score() for measure in Measure} | dict(scores or {})
        self._open: dict[str, Pair] = {}
        self._controls: dict[str, Pair] = {}
        self._stage = -1
        self._spare: list[str] = []
        self.value = combined(self.scores)

    def candidates(self, state: State, count: int) -> list[str]:
        """Return devices that wait and can be heard, the last in the order first; none is returned twice in a stage."""
        if self._stage != state.stage:
            waiting = (member for member in state.members.values() if member.place is Place.WAITING)
            self._stage = state.stage
            self._spare = [member.device for member in sorted(waiting, key=lambda member: member.rank)]
        found: list[str] = []
        while self._spare and len(found) < count:
            member = state.members.get(self._spare.pop())
            if member is not None and member.place is Place.WAITING and member.reachable:
                found.append(member.device)
        return found

    def pair(self, treated: str, before: ModelHealth, control: str, control_before: ModelHealth) -> None:
        """Watch two devices from now on."""
        pair = Pair(treated, control, Watched(before), Watched(control_before))
        self._open[treated] = self._controls[control] = pair

    def hear(self, device: str, health: ModelHealth, bundle: str) -> None:
        """Take in what a device says of the model in a heartbeat; `bundle` is the rollout's."""
        pair = self._open.get(device)
        if pair is not None and health.bundle == bundle:
            pair.begun = True
            pair.with_bundle.hear(health)
        pair = self._controls.get(device)
        if pair is not None and pair.begun and health.bundle != bundle:
            pair.without.hear(health)

    def lose(self, control: str) -> None:
        """A control is offered the bundle: what was seen of its pair says nothing."""
        pair = self._controls.pop(control, None)
        if pair is not None:
            self._open.pop(pair.treated, None)

    def end(self, treated: str) -> tuple[Pair, dict[Measure, int]] | None:
        """Count the pair of a device that is confirmed or failed; None: it has none, or too little was seen."""
        pair = self._open.pop(treated, None)
        if pair is None:
            return None
        self._controls.pop(pair.control, None)
        signs = pair.signs(self.gate)
        if signs is None:
            return None
        for measure, sign in signs.items():
            self.scores[measure].take(sign)
        self.value = combined(self.scores)
        return pair, signs

    def harm(self) -> str | None:
        """Return in words what the bundle harms, where the evidence reaches 1/alpha."""
        if not self.gate.alpha or self.value < 1 / self.gate.alpha:
            return None
        worst, score = max(self.scores.items(), key=lambda each: each[1].value)
        what = "more predictions fail" if worst is Measure.FAILING else f"{worst.replace('_', ' ')} is worse"
        return (
            f"{what} in {score.worse} pairs and better in {score.better}, against devices "
            f"without the bundle (evidence {self.value:.3g}, alpha {self.gate.alpha:g})"
        )

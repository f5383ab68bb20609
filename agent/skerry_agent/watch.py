"""What the core watches about a bundle in service: samples, the sketch of this window, drift, the sanity of its
answers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from skerry_agent import sealing
from skerry_agent.alarm import ModelAlarm
from skerry_agent.clock import Rng
from skerry_agent.hooks import Prediction
from skerry_agent.novelty import Novelty
from skerry_agent.redaction import Redactor, RedactRule
from skerry_agent.sampler import Choice, Sampler, Traits, margin_of
from skerry_agent.sealing import Sealer
from skerry_agent.sketcher import Sketcher, numbers
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.bundle import Manifest
from skerry_contracts.device import Drift
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.sealed import SealKey
from skerry_contracts.sketch import Sketch
from skerry_contracts.tensor import Tensor

OVERHEAD_BYTES = 600  # a sample's bytes besides its tensors: ids, names, numbers


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What one prediction came to. `sane` is False where an answer holds a number that is none (NaN, infinity)."""

    sane: bool
    confidence: float | None = None
    choice: Choice | None = None


class Watch:
    """One model's bundle in service."""

    def __init__(
        self,
        manifest: Manifest,
        bundle: str,
        variant: str,
        policy: SamplingPolicy,
        rng: Rng,
        wall_s: float,
        now_s: float,
        rules: Sequence[RedactRule] = (),
        encrypt: bool = False,
    ) -> None:
        self.manifest = manifest
        self.bundle = bundle
        self.variant = variant
        self.redactor = Redactor(rules, manifest.model, manifest.signature)
        self.sampler = Sampler(policy, rng)
        self.sketcher = Sketcher(manifest, policy, self.redactor.allows)
        self.alarm: ModelAlarm | None = None
        self.muted = ""  # why no sample may be kept
        self._rng, self._encrypt = rng, encrypt
        self._sealer: Sealer | None = None
        self._novelty: Novelty | None = None
        self._equip()
        self.sketch_due_s = now_s + policy.sketch_seconds
        self.served = 0
        self._start_s = wall_s
        self._confidence_sum = 0.0
        self._confidences = 0

    def adopt(self, policy: SamplingPolicy, now_s: float) -> None:
        """Take a new sampling policy, from now on (what sketches hold: from the next on); what the old one spent of the
        hour stays spent.
        """
        if policy != self.sampler.policy:
            self.sampler.policy = policy
            self.sketch_due_s = min(self.sketch_due_s, now_s + policy.sketch_seconds)
            self._equip()
            if not self.sketcher.predictions:
                self.sketcher = Sketcher(self.manifest, policy, self.redactor.allows)

    def see(self, prediction: Prediction, now_s: float, wall_s: float) -> Seen:
        """Take note of an answered inference."""
        scores, label = self._answer(prediction.outputs)
        if not all(map(math.isfinite, scores)):
            return Seen(sane=False)
        confidence, margin = margin_of(probabilities(scores)) if scores else (None, None)
        best = max(scores) if scores else None  # as the model says it: what the baseline counted
        if confidence is not None:
            self._confidence_sum += confidence
            self._confidences += 1
        if not prediction.keep:
            return Seen(True, confidence)
        named = self._name(label)
        self.sketcher.add(
            prediction.inputs,
            prediction.outputs,
            confidence=best,
            label=label,
            latency_ms=prediction.latency_ms,
            named=named,
        )
        if self.alarm is not None:
            self.alarm.add(prediction.inputs, confidence, now_s)
            self.sampler.raised = self.alarm.raised(now_s)
        novel = self._novelty is not None and self._novelty.is_novel(
            (*prediction.inputs, *prediction.outputs), self.sampler.policy.novel_rate or 0.0
        )
        if self.muted:
            return Seen(True, confidence)
        ordered = wall_s < (self.sampler.policy.requested_until_s or 0)
        wanted = prediction.wanted or (Kept.REQUESTED if ordered else None)
        traits = Traits(margin, named, novel, wanted)
        return Seen(True, confidence, self.sampler.choose(traits, self._size_bytes(prediction), now_s))

    def request(self, prediction: Prediction, now_s: float, kept: Kept = Kept.REQUESTED) -> Seen:
        """Return what keeping a prediction comes to that was seen before, or made elsewhere; it counts for nothing."""
        scores, _ = self._answer(prediction.outputs)
        sane = all(map(math.isfinite, scores))
        confidence = margin_of(probabilities(scores))[0] if scores and sane else None
        size = self._size_bytes(prediction)
        return Seen(sane, confidence, None if self.muted else self.sampler.request(size, now_s, kept))

    def sample(
        self, prediction: Prediction, seen: Seen, choice: Choice, *, boot_id: str, seq: int, time_s: float
    ) -> Sample | None:
        """Return the record of a prediction that was chosen; None where it is to be sealed and cannot be."""
        sample = Sample(
            boot_id,
            seq,
            time_s,
            prediction.id,
            prediction.model,
            self.manifest.version,
            self.bundle,
            self.variant,
            choice.kept,
            choice.weight,
            self.redactor.clean(prediction.inputs),
            prediction.outputs,
            seen.confidence,
            prediction.capture,
            shadow=prediction.shadow,
        )
        try:
            return sample if self._sealer is None else self._sealer.seal(sample)
        except OSError:
            return None

    def take_sketch(self, *, boot_id: str, seq: int, wall_s: float, now_s: float) -> Sketch:
        """Return the sketch of the window that ends now, and begin the next."""
        old = self.sketcher
        sketch = Sketch(
            boot_id,
            seq,
            self._start_s,
            max(wall_s, self._start_s),
            self.manifest.model,
            self.bundle,
            self.variant,
            old.predictions,
            old.histograms(),
            old.moments(),
            old.extras.quantiles(),
            old.extras.frequent(),
        )
        self.sketcher = Sketcher(self.manifest, self.sampler.policy, self.redactor.allows)
        self._start_s = wall_s
        self.sketch_due_s = now_s + self.sampler.policy.sketch_seconds
        return sketch

    def drift(self, now_s: float, *, heard: bool) -> tuple[Drift, ...]:
        """Return the alarms that stand; `heard` says that this goes to the fleet."""
        return self.alarm.tell(now_s, heard=heard) if self.alarm is not None else ()

    def take_mean_confidence(self) -> float | None:
        """Return the mean confidence since the last call; None where there was no prediction."""
        count, self._confidences = self._confidences, 0
        total, self._confidence_sum = self._confidence_sum, 0.0
        return total / count if count else None

    def _equip(self) -> None:
        """Begin what the policy newly asks for, and end what it no longer does; what goes on keeps its memory."""
        policy, signature = self.sampler.policy, self.manifest.signature
        if policy.alarm is None:
            self.alarm, self.sampler.raised = None, 1.0
        elif self.alarm is None or self.alarm.policy != policy.alarm:
            self.alarm = ModelAlarm(self.manifest, self.bundle, policy.alarm, self.redactor.allows)
        self._arm(policy.seal)
        if not policy.novel_rate:
            self._novelty = None
        elif self._novelty is None:
            embedding = [spec for spec in signature.outputs if spec.name == policy.embedding]
            self._novelty = Novelty(embedding or signature.inputs)

    def _arm(self, key: SealKey | None) -> None:
        """Seal with this key from now on; where samples must be sealed and cannot be, none is kept."""
        aes = sealing.cipher() if key is not None else None
        if key is None or aes is None:
            self._sealer = None
        elif self._sealer is None or self._sealer.key != key:
            self._sealer = Sealer(key, aes, self._rng)
        self.muted = ""
        if key is not None and self._sealer is None:
            self.muted = "no sample is kept: this Python brings no OpenSSL library to seal it with"
        elif self._encrypt and self._sealer is None:
            self.muted = "no sample is kept: encrypt is set, and the sampling policy names no key (seal)"

    def _size_bytes(self, prediction: Prediction) -> int:
        """Return about how many bytes a prediction's sample takes."""
        beside = prediction.shadow.outputs if prediction.shadow is not None else ()
        tensors = (*prediction.inputs, *prediction.outputs, *beside)
        rest = OVERHEAD_BYTES + (sealing.OVERHEAD_BYTES if self._sealer is not None else 0)
        return rest + sum(len(each.data or b"") * 4 // 3 + 100 for each in tensors)

    def _name(self, label: float | None) -> str | None:
        """Return the class that an index stands for; the index where the bundle names none."""
        if label is None or not math.isfinite(label):
            return None
        labels, index = self.manifest.signature.labels, int(label)
        return labels[index] if 0 <= index < len(labels) else str(index)

    def _answer(self, outputs: tuple[Tensor, ...]) -> tuple[list[float], float | None]:
        """Return the scores of the first row and the chosen class's index (else what the label output says)."""
        signature = self.manifest.signature
        by_name = {tensor.name: tensor for tensor in outputs}
        if signature.score_output in by_name:
            tensor = by_name[signature.score_output]
            scores = list(numbers(tensor))[: tensor.shape[-1] if tensor.shape else 1]
            return scores, float(scores.index(max(scores))) if scores else None
        said = numbers(by_name[signature.label_output]) if signature.label_output in by_name else ()
        return [], float(said[0]) if said else None


def probabilities(scores: list[float]) -> list[float]:
    """Return scores as they are where they can be probabilities, else their softmax (logits); NaN passes through."""
    if all(0.0 <= score <= 1.0 or math.isnan(score) for score in scores) or not all(map(math.isfinite, scores)):
        return scores
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    total = math.fsum(powers)
    return [power / total for power in powers]

"""The statistics that a sampling policy asks for besides those of the baseline: quantiles, frequent labels, embedding.

The moments of an embedding are those of its projection (`embedding:NAME:0` to `:7`): the same on every device, so they
add up over a fleet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from skerry_agent.projection import Projection
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.bundle import Manifest
from skerry_contracts.frequent import Frequent, RunningFrequent
from skerry_contracts.quantiles import Quantiles, RunningQuantiles
from skerry_contracts.sketch import Moments, RunningMoments
from skerry_contracts.tensor import Tensor

EMBEDDING_DIMENSIONS = 8


class Extras:
    """What one bundle's sketch holds on request, since it was made. `inputs` are the names of those it looks at."""

    def __init__(self, manifest: Manifest, policy: SamplingPolicy, allowed: Callable[[str], bool]) -> None:
        self._answers: dict[str, RunningQuantiles] = {}
        self._inputs: dict[str, list[tuple[str, RunningQuantiles]]] = {}
        self._quantiles: dict[str, RunningQuantiles] = {}
        elements = {spec.name: spec.elements for spec in manifest.signature.inputs}
        for source in policy.quantiles or ():
            kind, _, rest = source.partition(":")
            name, _, part = rest.rpartition(":")
            running = RunningQuantiles()
            if source in ("confidence", "latency_ms"):
                self._answers[source] = self._quantiles[source] = running
                continue
            known = kind == "input" and elements.get(name, 0) > 0 and allowed(source)
            if known and (part in ("mean", "std") or (part.isdigit() and int(part) < elements[name])):
                self._quantiles[source] = running
                self._inputs.setdefault(name, []).append((part, running))
        self._frequent = RunningFrequent(policy.top_labels) if policy.top_labels else None
        specs = [spec for spec in manifest.signature.outputs if spec.name == policy.embedding and spec.elements]
        self._embedding = (specs[0].name, Projection(specs[0], EMBEDDING_DIMENSIONS)) if specs else None
        self._moments = [RunningMoments() for _ in range(EMBEDDING_DIMENSIONS)]
        self.inputs = frozenset(self._inputs)

    def add_input(self, name: str, values: Sequence[float]) -> None:
        """Take all elements of one of `inputs`."""
        for part, running in self._inputs.get(name, ()):
            if part.isdigit():
                running.add(float(values[int(part)]))
                continue
            mean = mean_of(values)
            running.add(spread_of(values, mean) if part == "std" else mean)

    def add_answer(
        self, outputs: Sequence[Tensor], *, confidence: float | None, label: str | None, latency_ms: float
    ) -> None:
        """Take what a model said. `label` names the chosen class."""
        for source, value in (("confidence", confidence), ("latency_ms", latency_ms)):
            if source in self._answers and value is not None:
                self._answers[source].add(value)
        if self._frequent is not None and label is not None:
            self._frequent.add(label)
        if self._embedding is not None:
            name, projection = self._embedding
            for tensor in outputs:
                for running, value in zip(self._moments, _applied(projection, tensor, name), strict=False):
                    running.add(value)

    def quantiles(self) -> tuple[Quantiles, ...] | None:
        """Return the quantiles of what was seen at least once; None where none was asked for."""
        found = tuple(running.record(source) for source, running in self._quantiles.items() if running.count)
        return found or None

    def frequent(self) -> tuple[Frequent, ...] | None:
        """Return the frequent labels; None where they were not asked for, or there was none."""
        return (self._frequent.record("label"),) if self._frequent is not None and self._frequent.count else None

    def moments(self) -> tuple[Moments, ...]:
        """Return the moments of the embedding's projection."""
        if self._embedding is None:
            return ()
        name = self._embedding[0]
        return tuple(each.record(f"embedding:{name}:{i}") for i, each in enumerate(self._moments) if each.count)


def mean_of(values: Sequence[float]) -> float:
    """Return the mean; NaN of infinities on both sides, and where the sum leaves the range of numbers."""
    try:
        return math.fsum(values) / len(values)
    except (ValueError, OverflowError):
        return math.nan


def spread_of(values: Sequence[float], mean: float) -> float:
    """Return the standard deviation about a mean, without a loop: a tenth of a millisecond for 10 000 values."""
    return math.dist(values, (mean,) * len(values)) / math.sqrt(len(values))


def _applied(projection: Projection, tensor: Tensor, name: str) -> list[float]:
    return (projection.apply(tensor) or []) if tensor.name == name else []

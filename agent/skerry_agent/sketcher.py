"""Statistics of what a model sees and says, in the bins of its bundle's baseline: some 20 µs for 64 inputs.

Counted for each histogram of the manifest's baseline: `input:NAME:INDEX`, `input:NAME:mean|std`, `confidence`,
`label`. Besides them moments of `confidence`, `latency_ms` and every `input:NAME:mean` in the baseline, and what the
sampling policy asks for (`extras.py`). Raw data never leaves through a sketch.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence

from skerry_agent.extras import Extras, mean_of, spread_of
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.bundle import Manifest
from skerry_contracts.sketch import Histogram, Moments, RunningMoments
from skerry_contracts.tensor import STRUCT_CODE, Tensor

Element = tuple[int, tuple[float, ...], list[int], int]


class Sketcher:
    """The sketch of one bundle's predictions, since it was made. Sources that `allowed` forbids are not counted."""

    def __init__(
        self,
        manifest: Manifest,
        policy: SamplingPolicy | None = None,
        allowed: Callable[[str], bool] = lambda source: True,
    ) -> None:
        self.predictions = 0
        self.extras = Extras(manifest, policy or SamplingPolicy(), allowed)
        self._sources = [baseline.source for baseline in manifest.baseline]
        self._counts = [[0] * len(baseline.counts) for baseline in manifest.baseline]
        self._missing = [0] * len(manifest.baseline)
        self._elements: dict[str, list[Element]] = {}
        self._whole: dict[str, list[tuple[str, tuple[float, ...], int]]] = {}
        self._answers: dict[str, list[tuple[tuple[float, ...], int]]] = {}
        self._moments = {"confidence": RunningMoments(), "latency_ms": RunningMoments()}
        known = {spec.name: spec for spec in manifest.signature.inputs}
        for i, baseline in enumerate(manifest.baseline):
            kind, _, rest = baseline.source.partition(":")
            name, _, part = rest.rpartition(":")
            if not allowed(baseline.source):
                continue
            if kind == "input" and name in known and part.isdigit() and int(part) < known[name].elements:
                self._elements.setdefault(name, []).append((int(part), baseline.edges, self._counts[i], i))
            elif kind == "input" and name in known and part in ("mean", "std"):
                self._whole.setdefault(name, []).append((part, baseline.edges, i))
                if part == "mean":
                    self._moments[baseline.source] = RunningMoments()
            elif baseline.source in ("confidence", "label"):
                self._answers.setdefault(baseline.source, []).append((baseline.edges, i))

    def add(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor] = (),
        *,
        confidence: float | None,
        label: float | None,
        latency_ms: float,
        named: str | None = None,
    ) -> None:
        """Count one prediction. `label` is the chosen class's index, `named` its name."""
        self.predictions += 1
        for tensor in inputs:
            if tensor.name in self._elements or tensor.name in self._whole or tensor.name in self.extras.inputs:
                self._add_input(tensor)
        self.extras.add_answer(outputs, confidence=confidence, label=named, latency_ms=latency_ms)
        for source, value in (("confidence", confidence), ("label", label)):
            if value is None:
                continue
            for edges, i in self._answers.get(source, ()):
                self._count(i, edges, value)
        if confidence is not None:
            self._moments["confidence"].add(confidence)
        self._moments["latency_ms"].add(latency_ms)

    def histograms(self) -> tuple[Histogram, ...]:
        """Return the histograms, in the baseline's order."""
        rows = zip(self._sources, self._counts, self._missing, strict=True)
        return tuple(Histogram(source, tuple(counts), missing) for source, counts, missing in rows)

    def moments(self) -> tuple[Moments, ...]:
        """Return the moments of what was seen at least once."""
        counted = tuple(moments.record(source) for source, moments in self._moments.items() if moments.count)
        return counted + self.extras.moments()

    def _add_input(self, tensor: Tensor) -> None:
        values = numbers(tensor)
        if tensor.name in self.extras.inputs:
            self.extras.add_input(tensor.name, values)
        missing = self._missing
        for index, edges, counts, i in self._elements.get(tensor.name, ()):
            value = values[index]
            if value == value and abs(value) != math.inf:  # NaN is the one number unequal to itself
                counts[bisect_right(edges, value)] += 1
            else:
                missing[i] += 1
        whole = self._whole.get(tensor.name)
        if not whole:
            return
        mean = mean_of(values)
        for part, edges, i in whole:
            if part == "mean":
                self._moments[self._sources[i]].add(mean)
                self._count(i, edges, mean)
            else:
                self._count(i, edges, spread_of(values, mean))

    def _count(self, i: int, edges: tuple[float, ...], value: float) -> None:
        if math.isfinite(value):
            self._counts[i][bisect_right(edges, value)] += 1
        else:
            self._missing[i] += 1


def numbers(tensor: Tensor) -> tuple[float, ...]:
    """Return a tensor's elements as plain numbers; none where its bytes are elsewhere (`ref`)."""
    if tensor.data is None:
        return ()
    count = math.prod(tensor.shape)
    return struct.unpack(f"<{count}{STRUCT_CODE[tensor.dtype]}", tensor.data)

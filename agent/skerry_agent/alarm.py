"""The drift alarm of one model: an adaptive window (`adwin.py`) over its confidence and over what its inputs are like.

An alarm lasts as long as the policy says; while it lasts, more is sampled, and every heartbeat names it. It is named in
at least one heartbeat, however long the device was alone.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Callable, Sequence

from skerry_agent.adwin import Adwin
from skerry_agent.extras import mean_of
from skerry_agent.projection import Glance
from skerry_contracts.assignment import DriftAlarm
from skerry_contracts.bundle import Manifest
from skerry_contracts.device import Drift
from skerry_contracts.tensor import ITEM_BYTES, STRUCT_CODE, Tensor

MOST_SOURCES = 16


@dataclasses.dataclass(slots=True)
class _Stream:
    """One watched source: `low` and `span` bring its values to 0 to 1."""

    window: Adwin
    low: float = 0.0
    span: float = 1.0


@dataclasses.dataclass(slots=True)
class _Standing:
    """An alarm that stands until `until_s` (monotonic), and longer while nobody was told."""

    drift: Drift
    since_s: float
    until_s: float
    told: bool = False


class ModelAlarm:
    """The alarm of one bundle. Watches `confidence` and up to 15 of the baseline's inputs that `allowed` does not
    forbid.
    """

    def __init__(self, manifest: Manifest, bundle: str, policy: DriftAlarm, allowed: Callable[[str], bool]) -> None:
        self.policy = policy
        self._model, self._bundle = manifest.model, bundle
        self._streams = {"confidence": _Stream(Adwin(policy.false_alarms))}
        self._parts: dict[str, list[tuple[str, int | None]]] = {}
        self._glances: dict[str, Glance] = {}
        self._standing: dict[str, _Standing] = {}
        inputs = {spec.name: spec for spec in manifest.signature.inputs}
        for baseline in manifest.baseline:
            kind, _, rest = baseline.source.partition(":")
            name, _, part = rest.rpartition(":")
            index = int(part) if part.isdigit() else None
            fits = name in inputs and (part == "mean" or (index is not None and index < inputs[name].elements))
            if kind != "input" or not fits or not allowed(baseline.source) or len(self._streams) >= MOST_SOURCES:
                continue
            low, high = baseline.edges[0], baseline.edges[-1]
            reach = (high - low) or max(abs(low), 1.0)
            self._streams[baseline.source] = _Stream(Adwin(policy.false_alarms), low - reach, 3 * reach)
            self._parts.setdefault(name, []).append((baseline.source, index))
            self._glances[name] = Glance(inputs[name])

    def add(self, inputs: Sequence[Tensor], confidence: float | None, now_s: float) -> None:
        """Take note of one prediction. `now_s` is monotonic."""
        if confidence is not None:
            self._add("confidence", confidence, now_s)
        for tensor in inputs:
            for source, index in self._parts.get(tensor.name, ()):
                value = self._mean(tensor) if index is None else _element(tensor, index)
                self._add(source, value, now_s)

    def raised(self, now_s: float) -> float:
        """Return how many times the random share is to be kept now."""
        return self.policy.raise_by if any(each.until_s > now_s for each in self._standing.values()) else 1.0

    def tell(self, now_s: float, *, heard: bool = True) -> tuple[Drift, ...]:
        """Return the alarms that stand; `heard` says that this goes to the fleet."""
        kept = {key: each for key, each in self._standing.items() if each.until_s > now_s or not each.told}
        self._standing = kept
        for each in kept.values():
            each.told = each.told or heard
        return tuple(dataclasses.replace(each.drift, age_s=now_s - each.since_s) for each in kept.values())

    def _add(self, source: str, value: float, now_s: float) -> None:
        stream = self._streams[source]
        change = stream.window.add((value - stream.low) / stream.span) if math.isfinite(value) else None
        if change is not None:
            before, after = (stream.low + stream.span * each for each in (change.before, change.after))
            drift = Drift(self._model, self._bundle, source, before, after, change.count, 0.0)
            self._standing[source] = _Standing(drift, now_s, now_s + self.policy.seconds)

    def _mean(self, tensor: Tensor) -> float:
        values = self._glances[tensor.name].read(tensor)
        return mean_of(values) if values else math.nan


def _element(tensor: Tensor, index: int) -> float:
    size = ITEM_BYTES[tensor.dtype]
    if tensor.data is None or len(tensor.data) < (index + 1) * size:
        return math.nan
    return float(struct.unpack_from(f"<{STRUCT_CODE[tensor.dtype]}", tensor.data, index * size)[0])

"""What serves on this device, as the core sees it: one watch a model, and what the store could serve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from skerry_agent.clock import Clock, Rng
from skerry_agent.errors import StorageError
from skerry_agent.records import Installed, Measured, Record
from skerry_agent.redaction import RedactRule
from skerry_agent.store import Store, needed
from skerry_agent.watch import Watch
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.bundle import Manifest
from skerry_contracts.device import Drift, Hardware
from skerry_contracts.measuring import MODEL as MEASURING
from skerry_contracts.sample import prediction_id
from skerry_targets import fit


class Serving:
    """The watches of the bundles in service, and the counter of predictions of this boot."""

    def __init__(
        self, store: Store, rng: Rng, clock: Clock, rules: Sequence[RedactRule] = (), encrypt: bool = False
    ) -> None:
        self.watches: dict[str, Watch] = {}
        self._store, self._rng, self._clock = store, rng, clock
        self._rules, self._encrypt = rules, encrypt
        self._count = 0

    def next_prediction(self, device: str, boot_id: str) -> str:
        """Return the id of the next prediction of this boot."""
        self._count += 1
        return prediction_id(device, boot_id, self._count)

    def due(self, now_s: float) -> list[Watch]:
        """Return the watches whose sketch's window is over."""
        return [watch for watch in self.watches.values() if watch.sketch_due_s <= now_s]

    def wakes_s(self) -> Iterable[float]:
        """Return when sketches are due."""
        return (watch.sketch_due_s for watch in self.watches.values())

    def leaving(self, records: Mapping[str, Record]) -> list[Watch]:
        """Return the watches whose bundle serves no longer, according to changed records."""
        found = []
        for model, record in records.items():
            watch = self.watches.get(model)
            if watch is not None and (record.active is None or record.active.bundle != watch.bundle):
                found.append(watch)
        return found

    def refresh(self, changed: Iterable[str], records: Mapping[str, Record]) -> None:
        """Watch what serves now, for models whose record changed."""
        for model in changed:
            active = records[model].active
            watch = self.watches.get(model)
            if active is None:
                self.watches.pop(model, None)
            elif watch is None or watch.bundle != active.bundle:
                self.watches.pop(model, None)
                manifest = self._store.manifest(active.bundle)
                if manifest is not None:
                    self.watches[model] = self._watch(manifest, active)

    def adopt(self, policies: Mapping[str, SamplingPolicy]) -> None:
        """Take the sampling policies of an assignment; models it does not name keep theirs."""
        for model, watch in self.watches.items():
            if model in policies:
                watch.adopt(policies[model], self._clock.monotonic_s())

    def drift(self, now_s: float, *, heard: bool) -> tuple[Drift, ...]:
        """Return the drift alarms that stand; `heard` says that this goes to the fleet."""
        return tuple(each for watch in self.watches.values() for each in watch.drift(now_s, heard=heard))

    def troubles(self) -> dict[str, str]:
        """Return why samples hold less than they should: `redact MODEL` or `sealing MODEL`, and the words."""
        found: dict[str, str] = {}
        for model, watch in self.watches.items():
            found.update({f"redact {model}": watch.redactor.trouble} if watch.redactor.trouble else {})
            found.update({f"sealing {model}": watch.muted} if watch.muted else {})
        return found

    def factory(self, hardware: Hardware) -> dict[str, Installed]:
        """Return the bundles that the device's maker put here and that this hardware can run."""
        return self._installed(lambda: self._store.factory().values(), hardware)

    def newest(self, hardware: Hardware) -> dict[str, Installed]:
        """Return each model's highest whole release in the store."""
        return self._installed(self._store.bundles, hardware)

    def _installed(self, listed: Callable[[], Iterable[str]], hardware: Hardware) -> dict[str, Installed]:
        found: dict[str, Installed] = {}
        try:
            bundles = listed()
        except StorageError:  # as with one that cannot be read: it is not here just now
            return found
        for bundle in bundles:
            manifest = self._store.manifest(bundle)
            variants = fit.fitting(manifest.variants, hardware) if manifest is not None else ()
            if manifest is None or not variants or self._store.missing(needed(manifest, variants[:1])):
                continue
            if manifest.model == MEASURING:  # candidates of a compile: measured, never served
                continue
            if manifest.model not in found or found[manifest.model].release < manifest.release:
                measured = Measured(variants[0].id)
                found[manifest.model] = Installed(bundle, manifest.version, manifest.release, measured)
        return found

    def _watch(self, manifest: Manifest, active: Installed) -> Watch:
        now_s, wall_s = self._clock.monotonic_s(), self._clock.wall_s()
        variant, rules, encrypt = active.measured.variant, self._rules, self._encrypt
        return Watch(manifest, active.bundle, variant, SamplingPolicy(), self._rng, wall_s, now_s, rules, encrypt)


def fitting_ids(manifest: Manifest, hardware: Hardware) -> tuple[str, ...]:
    """Return the ids of the variants this hardware can run, best first."""
    return tuple(variant.id for variant in fit.fitting(manifest.variants, hardware))

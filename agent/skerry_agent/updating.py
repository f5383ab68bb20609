"""The core's part in an update: what fetching, trying and serving a bundle came to."""

from __future__ import annotations

from collections.abc import Mapping

from skerry_agent import acceptance, effects, records
from skerry_agent.deciding import Decider
from skerry_agent.effects import Effect
from skerry_agent.errors import StorageError, TrustError
from skerry_agent.machine import NOTHING_SERVES_S
from skerry_agent.records import Measured
from skerry_agent.shadow_records import Stage as ShadowStage
from skerry_agent.store import needed, prune
from skerry_agent.work import Work
from skerry_contracts.assignment import Assignment, Envelope
from skerry_contracts.bundle import Manifest
from skerry_contracts.device import Phase, Reason

# Fetching may succeed by itself later; what arrived damaged, too: the deadline of the download ends it.
LATER = {Reason.NETWORK, Reason.TIMEOUT, Reason.EXPIRED, Reason.REPLAYED, Reason.CORRUPT}
FACTORY_S = 3600.0  # the longest pause before looking again for a factory bundle, where something else serves


class Updater(Decider):
    """Takes the answers to the effects of an update."""

    _offset_s: float | None = None  # of wall time against monotonic time, at the last heartbeat
    _dated: bytes | None = None  # an assignment refused for its date alone: the clock may be wrong, so ask again

    _lacking: frozenset[str] = frozenset()  # models whose factory bundle is marked here, and could not be read yet
    _looked_s, _looks = 0.0, 0  # when, and how often, it was looked for again

    # The factory bundle.

    def _without_factory(self, work: Work) -> frozenset[str]:
        """Return the models whose factory bundle is marked here and in no record; where nobody can say, all that have
        none, and a nameless one.
        """
        known = {**self.memory.records, **work.records}
        try:
            marks = self.store.marks()
        except StorageError:
            marks = ["", *known]
        return frozenset(each for each in marks if each not in known or known[each].factory is None)

    def _factory_due_s(self) -> float | None:
        """Return when to look again for a factory bundle; None: none lacks. Sooner where nothing else serves."""
        if not self._lacking:
            return None
        known = self.memory.records
        bare = any(model not in known or known[model].active is None for model in self._lacking)
        pause_s = NOTHING_SERVES_S if bare else FACTORY_S
        return self._looked_s + min(pause_s, 2.0 ** min(self._looks, 20))

    def _look_for_factory(self, now_s: float) -> list[Effect]:
        """A disk may fail some reads and not others: take up what can be read by now."""
        self._looked_s, self._looks = now_s, self._looks + 1
        work = Work()
        for model, installed in self.serving.factory(self.hardware).items():
            if model in self._lacking:
                self._advance(work, model, records.Found(installed))
        self._lacking = self._without_factory(work)
        self._unname(work, self.memory.assignment, held=True)
        return self._finish(work, serve_anyway=True)

    def _unname(self, work: Work, assignment: Assignment | None, *, held: bool = False) -> None:
        """Let go the models that an assignment does not name. One whose factory bundle cannot be read just now keeps
        what serves until it can (`held`: those alone).
        """
        if assignment is None:
            return
        named = {each.model for each in assignment.models}
        for model in {*self.memory.records, *work.records} - named - self._lacking:
            record = self.memory.record(work, model)
            if record.order is not None or (record.active != record.factory and not held):
                self._advance(work, model, records.Unnamed(assignment.sequence))

    # Fetching.

    def manifest(self, model: str, ticket: int, data: bytes, floors: Mapping[str, int]) -> list[Effect]:
        """The update repository lists this manifest; `floors`: its roles' versions, from now on the least believed."""
        record = self.memory.records.get(model)
        work = Work()
        self.memory.raise_floors(work, floors)
        if record is None or record.order is None or record.ticket != ticket:
            return self._finish(work)
        try:
            found, variants = acceptance.check_manifest(data, record.order, self.hardware)
            blobs = needed(found, variants)
            self._prune(model, {blob.sha256 for blob in blobs})
            missing = self.store.missing(blobs)
            total = sum(blob.size_bytes for blob in missing)
            free = self.store.disk.free_bytes() - self.config.reserve_free_bytes
            if total + len(data) > free:
                free += self._give_way(work, found)
            if total + len(data) > free:
                raise StorageError(f"{total} bytes needed, {max(free, 0)} free", reason=Reason.NO_SPACE)
        except (TrustError, StorageError) as error:
            self._advance(work, model, records.Refused(ticket, error.reason, str(error)))
            return self._finish(work, again=lambda: self.manifest(model, ticket, data, floors))
        work.fetching[model] = (data, tuple(missing))
        self._advance(work, model, records.Listed(ticket))
        return self._finish(work, again=lambda: self.manifest(model, ticket, data, floors))

    def _prune(self, model: str, wanted: set[str]) -> None:
        """Remove what is left of replaced orders' downloads: many orders may follow each other on a bad day, and none
        be done. Only while nothing else is fetched, whose downloads have other names.
        """
        others = [record for each, record in self.memory.records.items() if each != model]
        shadows = any(each.stage is ShadowStage.FETCHING for each in self.memory.shadows.values())
        measuring = self.memory.measuring is not None and not self.memory.measuring.final
        if not (shadows or measuring) and not any(record.fetching for record in others):
            prune(self.store, wanted)

    def _give_way(self, work: Work, wanted: Manifest) -> int:
        """Remove what serves nobody, for an update that finds no space; return how many bytes that gave."""
        return 0

    def received(self, model: str, ticket: int, received_bytes: int, total_bytes: int) -> list[Effect]:
        """A download came this far: worth a word to the fleet."""
        record = self.memory.records.get(model)
        if record is None or record.order is None or record.ticket != ticket:
            return []
        row = self.outbox.progress(
            self.clock.wall_s(),
            record.order,
            Phase.DOWNLOADING,
            received_bytes=received_bytes,
            total_bytes=total_bytes,
        )
        return self._finish(Work(facts=[row]))

    def fetched(self, model: str, ticket: int) -> list[Effect]:
        """Everything the manifest names is in the store, durably."""
        return self._event(model, records.Fetched(ticket))

    def fetch_failed(self, model: str, ticket: int, reason: Reason, detail: str) -> list[Effect]:
        """Fetching failed: what may pass by itself is tried again until the deadline, the rest is final."""
        if reason in LATER:
            return self._event(model, records.Delayed(ticket, reason, detail, self.rng.random()))
        return self._event(model, records.Refused(ticket, reason, detail))

    # Trying and serving.

    def trial_passed(self, model: str, ticket: int, measured: Measured) -> list[Effect]:
        """The candidate gave the right answers."""
        return self._event(model, records.TrialPassed(ticket, measured))

    def trial_failed(self, model: str, ticket: int, reason: Reason, detail: str) -> list[Effect]:
        """The candidate did not."""
        record = self.memory.records.get(model)
        if reason is Reason.CORRUPT and record is not None and record.order is not None:
            self._discard_damaged(record.order.bundle)
        return self._event(model, records.TrialFailed(ticket, reason, detail))

    def unhealthy(self, model: str, bundle: str, reason: Reason, detail: str) -> list[Effect]:
        """What serves crashed, hung, lied or could not start. A crash matters only while a fresh bundle is observed."""
        record = self.memory.records.get(model)
        observed = record is not None and record.stage == records.Stage.OBSERVING
        if not observed and reason not in (Reason.CORRUPT, Reason.STORAGE, Reason.LOAD):
            return []
        if reason is Reason.CORRUPT:
            self._discard_damaged(bundle)
        gone = reason in (Reason.CORRUPT, Reason.STORAGE, Reason.LOAD)  # nothing serves
        return self._event(model, records.Unhealthy(bundle, reason, detail), serve_anyway=gone)

    def _discard_damaged(self, bundle: str) -> None:
        """Remove what rotted, so that it counts as missing: a download looks at lengths alone."""
        manifest = self.store.manifest(bundle)
        try:
            if manifest is not None:
                self.store.discard_damaged(manifest)
        except StorageError as error:
            self.degraded["storage"] = str(error)

    def signed(self, model: str, envelope: Envelope) -> list[Effect]:
        """A receipt is signed: keep it until the fleet has it."""
        if model not in self.memory.receipts:
            return []
        work = Work({f"receipt:{model}": None}, rows=[self.outbox.receipt(envelope)], receipts={model: None})
        return self._finish(work, again=lambda: self.signed(model, envelope))

    def _clock_moved(self) -> list[Effect]:
        """Ask again what was refused for its date, if the wall clock was set since the last heartbeat."""
        offset_s = self.clock.wall_s() - self.clock.monotonic_s()
        before_s, self._offset_s = self._offset_s, offset_s
        if before_s is None or abs(offset_s - before_s) <= acceptance.CLOCK_STEP_S:
            return []
        if not self.online:
            self.clock_was_set()  # certificates may be valid now
        told: list[Effect] = [effects.Verify(self._dated)] if self._dated is not None else []
        work = Work()
        for model, record in self.memory.records.items():
            if record.trouble is Reason.EXPIRED:
                self._advance(work, model, records.Online())
        return [*told, *self._finish(work)]

"""The core's part in shadows: orders from assignments, durable steps, reports, and the samples that disagree.

What is fetched for a shadow carries the model's name with `SUFFIX`, so that it runs beside the model's own update.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from skerry_agent import acceptance, effects
from skerry_agent import shadow_machine as machine
from skerry_agent import shadow_records as records
from skerry_agent.effects import Effect
from skerry_agent.errors import StorageError, TrustError
from skerry_agent.hooks import Prediction
from skerry_agent.keeping import Keeper
from skerry_agent.records import Order
from skerry_agent.shadow_compare import unlike
from skerry_agent.shadow_records import Event, Record, Stage, Wish
from skerry_agent.shadow_tally import Tally
from skerry_agent.store import needed
from skerry_agent.updating import LATER, Updater
from skerry_agent.work import Work
from skerry_contracts.assignment import Assignment
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import Reason
from skerry_contracts.sample import Kept
from skerry_contracts.shadow import ShadowAnswer, ShadowState
from skerry_contracts.topics import MAX_PAYLOAD_BYTES
from skerry_targets import fit

SUFFIX = "@shadow"


class Shadower(Keeper, Updater):
    """Everything the agent decides about shadows."""

    # Orders and time, as part of a decision under way.

    def _shadow_orders(self, work: Work, assignment: Assignment) -> None:
        """Take up what an accepted assignment says of shadows."""
        now_s, limits = self.clock.monotonic_s(), self.memory.limits
        named = {each.model for each in assignment.models if each.shadow is not None}
        for model, record in self.memory.shadows.items():
            if model not in named:
                work.shadows[model] = None
                self._shadow_wishes(work, record, machine.withdrawn(record))
        for each in assignment.models:
            if each.shadow is not None:
                order = Order(assignment.sequence, assignment.expires_s, each)
                before = self.memory.shadows.get(each.model)
                after, wishes = machine.offered(before, order, each.shadow, now_s, limits)
                work.shadows[each.model] = after
                self._shadow_wishes(work, after, wishes, before)

    def _shadow_all(self, work: Work, event: Event) -> None:
        for model in list(self.memory.shadows):
            self._shadow(work, model, event)

    def _shadow_tick(self, work: Work) -> None:
        wall_s = self.memory.trusted_s(self.clock.wall_s())
        for model in list(self.memory.shadows):
            record = self.memory.records.get(model)
            serves = record.active.bundle if record is not None and record.active is not None else ""
            self._shadow(work, model, records.Tick(wall_s, serves))

    def _shadow_boot(self, work: Work) -> None:
        for model, record in list(self.memory.shadows.items()):
            self._shadow(work, model, records.Boot(self.store.manifest(record.terms.bundle) is not None))

    def _shadow(self, work: Work, model: str, event: Event) -> None:
        """Let a shadow's machine see an event."""
        before = self.memory.shadow(work, model)
        if before is None:
            return
        after, wishes = machine.advance(before, event, self.clock.monotonic_s(), self.memory.limits)
        if after is not before:
            work.shadows[model] = after
        self._shadow_wishes(work, after, wishes)

    def _shadow_event(self, model: str, event: Event) -> list[Effect]:
        """Let a shadow's machine see an event, durably."""
        if model not in self.memory.shadows:
            return []
        work = Work()
        self._shadow(work, model, event)
        return (
            self._finish(work, again=lambda: self._shadow_event(model, event)) if work.shadows or work.effects else []
        )

    def _shadow_wishes(self, work: Work, record: Record, wishes: list[Wish], before: Record | None = None) -> None:
        """Add what the machine wishes to a decision; what ends belongs to `before`, where that was another shadow."""
        model, name = record.model, record.model + SUFFIX
        for wish in wishes:
            match wish:
                case records.Report(state=state, reason=reason, detail=detail):
                    about = before if before is not None and state is ShadowState.ENDED else record
                    self._shadow_report(work, about, state, reason, detail)
                case records.Fetch():
                    work.effects.append(self._fetch_manifest(name, record.ticket, record.order))
                case records.FetchBlobs():
                    manifest, blobs = work.fetching[name]
                    work.effects.append(effects.FetchBlobs(name, record.ticket, manifest, blobs))
                case records.StopFetch():
                    work.effects.append(effects.CancelFetch(name))
                case records.Ready():
                    work.effects.append(effects.ShadowReady(model, record.terms.bundle, record.terms))
                case records.Load():
                    self._shadow_load(work, record)
                case records.Stop():
                    work.effects.append(effects.ShadowStop(model))
                case records.Collect():
                    work.collect = True

    def _shadow_load(self, work: Work, record: Record) -> None:
        variant = self.shadow_variant(record)
        if variant is None:
            self._shadow(work, record.model, records.Lost())
        else:
            work.effects.append(effects.ShadowLoad(record.model, record.terms.bundle, variant.id))

    def shadow_variant(self, record: Record) -> Variant | None:
        """Return the variant that is tried next: the bundle's own order, another after each strike; None: none."""
        manifest = self.store.manifest(record.terms.bundle)
        found = fit.fitting(manifest.variants, self.hardware) if manifest is not None else ()
        return found[record.variant % len(found)] if found else None

    def _shadow_report(
        self, work: Work, record: Record, state: ShadowState, reason: Reason = Reason.OK, detail: str = ""
    ) -> None:
        now_s, boot_id, seq = self.clock.wall_s(), self.outbox.boot_id, self.outbox.next_seq()
        tally = Tally(record.terms.id, record.model, record.terms.bundle, now_s)
        work.rows.append(self.outbox.shadow(tally.report(boot_id, seq, now_s, state, reason, detail)))

    # Fetching.

    def manifest(self, model: str, ticket: int, data: bytes, floors: Mapping[str, int]) -> list[Effect]:
        """The update repository lists this manifest, of an update or of a shadow (see `Updater.manifest`)."""
        if not model.endswith(SUFFIX):
            return super().manifest(model, ticket, data, floors)
        name = model.removesuffix(SUFFIX)
        work = Work()
        self.memory.raise_floors(work, floors)
        record = self.memory.shadows.get(name)
        if record is None or record.ticket != ticket or record.stage is not Stage.FETCHING:
            return self._finish(work)
        try:
            found, variants = acceptance.check_manifest(data, record.order, self.hardware)
            live = self._live(name)
            if live is None:
                delayed = records.Delayed(ticket, Reason.UNFIT, "nothing serves beside it yet", self.rng.random())
                self._shadow(work, name, delayed)
                return self._finish(work)
            if words := unlike(live, found):
                raise TrustError(words, reason=Reason.UNFIT)
            missing = self.store.missing(needed(found, variants))
            total = sum(blob.size_bytes for blob in missing)
            free = self.store.disk.free_bytes() - self.config.reserve_free_bytes
            if total + len(data) > free:
                raise StorageError(f"{total} bytes needed, {max(free, 0)} free", reason=Reason.NO_SPACE)
        except (TrustError, StorageError) as error:
            self._shadow(work, name, records.Refused(ticket, error.reason, str(error)))
            return self._finish(work)
        work.fetching[model] = (data, tuple(missing))
        self._shadow(work, name, records.Listed(ticket))
        return self._finish(work, again=lambda: self.manifest(model, ticket, data, floors))

    def received(self, model: str, ticket: int, received_bytes: int, total_bytes: int) -> list[Effect]:
        """A download came this far; of a shadow's nobody waits to hear."""
        return [] if model.endswith(SUFFIX) else super().received(model, ticket, received_bytes, total_bytes)

    def fetched(self, model: str, ticket: int) -> list[Effect]:
        """Everything the manifest names is in the store, durably."""
        if not model.endswith(SUFFIX):
            return super().fetched(model, ticket)
        return self._shadow_event(model.removesuffix(SUFFIX), records.Fetched(ticket))

    def fetch_failed(self, model: str, ticket: int, reason: Reason, detail: str) -> list[Effect]:
        """Fetching failed; network trouble is tried again, the rest is final."""
        if not model.endswith(SUFFIX):
            return super().fetch_failed(model, ticket, reason, detail)
        later = records.Delayed(ticket, reason, detail, self.rng.random())
        event: Event = later if reason in LATER else records.Refused(ticket, reason, detail)
        return self._shadow_event(model.removesuffix(SUFFIX), event)

    def _give_way(self, work: Work, wanted: Manifest) -> int:
        """End every shadow, for an update that finds no space; return how many bytes that freed."""
        freed = 0
        alone = not any(record.fetching for model, record in self.memory.records.items() if model != wanted.model)
        for model, record in list(self.memory.shadows.items()):
            if record.final:
                continue
            words = "an update needed the space"
            final: Event = records.Struck(Reason.NO_SPACE, words, final=True)
            if record.stage is Stage.FETCHING:
                final = records.Refused(record.ticket, Reason.NO_SPACE, words)
            self._shadow(work, model, final)
            if alone and record.terms.bundle not in self._installed():
                freed += self.store.remove(record.terms.bundle, wanted.blobs())
        return freed

    def _installed(self) -> set[str]:
        """Return the bundles that the update machine speaks of."""
        found = set()
        for record in self.memory.records.values():
            known = (record.active, record.previous, record.factory, record.order, record.following)
            found |= {each.bundle for each in known if each is not None}
        return found

    def _live(self, model: str) -> Manifest | None:
        """Return the manifest of what serves."""
        record = self.memory.records.get(model)
        active = record.active if record is not None else None
        return self.store.manifest(active.bundle) if active is not None else None

    # Running: what the daemon's runner tells.

    def shadow_loading(self, model: str) -> list[Effect]:
        """There is room for the candidate's worker: durable first, then `ShadowLoad`."""
        return self._shadow_event(model, records.Loading())

    def shadow_proven(self, model: str) -> list[Effect]:
        """The candidate answered often enough: earlier strikes are forgiven."""
        return self._shadow_event(model, records.Proven())

    def shadow_rested(self, model: str) -> list[Effect]:
        """The candidate's worker was ended in order."""
        return self._shadow_event(model, records.Rested())

    def shadow_struck(self, model: str, reason: Reason, detail: str, final: bool = False) -> list[Effect]:
        """The candidate crashed, hung, leaked, lied or did not start."""
        return self._shadow_event(model, records.Struck(reason, detail, final))

    def shadow_lost(self, model: str) -> list[Effect]:
        """The candidate's files are gone or damaged."""
        return self._shadow_event(model, records.Lost())

    def shadow_told(
        self, tally: Tally, state: ShadowState, reason: Reason, detail: str, rss_bytes: int
    ) -> list[Effect]:
        """A window of a candidate is over: keep its numbers until the fleet has them."""
        boot_id, seq = self.outbox.boot_id, self.outbox.next_seq()
        report = tally.report(boot_id, seq, self.clock.wall_s(), state, reason, detail, rss_bytes)
        return self._finish(Work(rows=[self.outbox.shadow(report)]))

    def disagreed(self, prediction: Prediction, answer: ShadowAnswer) -> list[Effect]:
        """A candidate said something else than the live model: keep both, within the budget of such samples."""
        watch = self.serving.watches.get(prediction.model)
        if watch is None or prediction.bundle not in ("", watch.bundle):
            return []
        tensors = (*prediction.inputs, *prediction.outputs, *answer.outputs)
        if sum(len(each.data or b"") for each in tensors) * 4 // 3 > MAX_PAYLOAD_BYTES:
            return []  # too large for any message: it is only counted
        prediction = dataclasses.replace(prediction, wanted=Kept.DISAGREEING, shadow=answer, capture=None)
        seen = watch.request(prediction, self.clock.monotonic_s(), Kept.DISAGREEING)
        return self._sample(watch, prediction, seen, self.clock.wall_s()) if seen.choice is not None else []

    def shadow_status(self) -> dict[str, Any]:
        """Return what `skerry agent status` shows of shadows, as far as the core knows."""
        return {
            model: {
                "shadow": record.terms.id,
                "bundle": record.terms.bundle,
                "version": record.terms.version,
                "stage": record.stage.value,
                "strikes": record.strikes,
                **({"trouble": {"reason": record.reason.value, "detail": record.detail}} if record.detail else {}),
            }
            for model, record in sorted(self.memory.shadows.items())
        }

"""The core's part in measuring candidates of a compile: orders from assignments, durable steps, reports.

What is fetched for it goes by `NAME`, which is no model's: it can neither be served nor installed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from skerry_agent import acceptance, effects
from skerry_agent import measure_machine as machine
from skerry_agent.effects import Effect
from skerry_agent.errors import StorageError, TrustError
from skerry_agent.measure_machine import Event, Over, Record, Stage, Wish
from skerry_agent.records import Order
from skerry_agent.shadowing import Shadower
from skerry_agent.store import needed
from skerry_agent.updating import LATER
from skerry_agent.work import Work
from skerry_contracts.assignment import AssignedModel, Assignment
from skerry_contracts.bundle import Manifest
from skerry_contracts.device import Reason
from skerry_contracts.measuring import MAX_CANDIDATES, MODEL, MeasuredCandidate, MeasureReport, MeasureState

NAME = f"{MODEL}@measure"
OFF = "this device measures for nobody (measuring = false in its settings)"


class Measurer(Shadower):
    """Everything the agent decides about measuring."""

    # Orders and time, as part of a decision under way.

    def _measure_orders(self, work: Work, assignment: Assignment) -> None:
        """Take up what an accepted assignment says of measuring."""
        order, before = assignment.measure, self.memory.measuring
        if before is not None and (order is None or order.id != before.order.id):
            work.measuring = (None,)
            self._measure_wishes(work, before, machine.withdrawn(before))
        if order is None or (before is not None and order.id == before.order.id):
            return
        ticket = before.ticket + 2 if before is not None else 0
        after, wishes = machine.ordered(order, assignment.sequence, self.clock.monotonic_s(), ticket=ticket)
        if not self.config.measuring:
            refused = machine.Refused(ticket, Reason.UNFIT, OFF)
            after, wishes = machine.advance(after, refused, self.clock.monotonic_s())
        work.measuring = (after,)
        self._measure_wishes(work, after, wishes)

    def _measure(self, work: Work, event: Event) -> None:
        """Let the machine see an event."""
        before = work.measuring[0] if work.measuring is not None else self.memory.measuring
        if before is None:
            return
        after, wishes = machine.advance(before, event, self.clock.monotonic_s())
        if after is not before:
            work.measuring = (after,)
        self._measure_wishes(work, after, wishes)

    def _measure_event(self, event: Event) -> list[Effect]:
        """Let the machine see an event, durably."""
        work = Work()
        self._measure(work, event)
        wanted = work.measuring is not None or work.effects
        return self._finish(work, again=lambda: self._measure_event(event)) if wanted else []

    def _measure_tick(self, work: Work) -> None:
        self._measure(work, machine.Tick(self.memory.trusted_s(self.clock.wall_s())))

    def _measure_wishes(self, work: Work, record: Record, wishes: list[Wish]) -> None:
        order = record.order
        for wish in wishes:
            match wish:
                case machine.Report(said=said):
                    self._measure_report(work, record, said)
                case machine.Fetch():
                    assigned = AssignedModel(
                        MODEL, order.version, order.release, order.bundle, order.target_path, order.size_bytes, order.id
                    )
                    work.effects.append(self._fetch_manifest(NAME, record.ticket, Order(record.sequence, 0, assigned)))
                case machine.FetchBlobs():
                    manifest, blobs = work.fetching[NAME]
                    work.effects.append(effects.FetchBlobs(NAME, record.ticket, manifest, blobs))
                case machine.StopFetch():
                    work.effects.append(effects.CancelFetch(NAME))
                case machine.Run():
                    work.effects.append(effects.Measure(order))
                case machine.Halt():
                    work.effects.append(effects.MeasureStop(order.id))
                case machine.Collect():
                    work.collect = True

    def _measure_report(
        self, work: Work, record: Record, said: Over, candidate: MeasuredCandidate | None = None
    ) -> None:
        report = MeasureReport(
            self.outbox.boot_id,
            self.outbox.next_seq(),
            self.clock.wall_s(),
            record.order.id,
            record.order.bundle,
            said.state,
            said.reason,
            said.detail,
            candidate,
            said.reported,
            said.notes,
        )
        work.rows.append(self.outbox.measured(report))

    # Fetching.

    def manifest(self, model: str, ticket: int, data: bytes, floors: Mapping[str, int]) -> list[Effect]:
        """The update repository lists this manifest, of candidates or of anything else (see `Updater.manifest`)."""
        if model != NAME:
            return super().manifest(model, ticket, data, floors)
        work = Work()
        self.memory.raise_floors(work, floors)
        record = self.memory.measuring
        if record is None or record.ticket != ticket or record.stage is not Stage.FETCHING:
            return self._finish(work)
        try:
            missing = self._candidates(record, data)
        except (TrustError, StorageError) as error:
            self._measure(work, machine.Refused(ticket, error.reason, str(error)))
            return self._finish(work)
        work.fetching[NAME] = (data, missing)
        self._measure(work, machine.Listed(ticket))
        return self._finish(work, again=lambda: self.manifest(model, ticket, data, floors))

    def _candidates(self, record: Record, data: bytes) -> tuple[Any, ...]:
        """Return the blobs to fetch.

        Raises:
            TrustError: not what was ordered, too many, or none fits.
            StorageError: there is no space.
        """
        order = record.order
        assigned = AssignedModel(
            MODEL, order.version, order.release, order.bundle, order.target_path, order.size_bytes, order.id
        )
        found, variants = acceptance.check_manifest(data, Order(record.sequence, 0, assigned), self.hardware)
        if len(found.variants) > MAX_CANDIDATES:
            words = f"{len(found.variants)} candidates, at most {MAX_CANDIDATES} are measured at once"
            raise TrustError(words, reason=Reason.UNFIT)
        missing = self.store.missing(needed(found, variants))
        total = sum(blob.size_bytes for blob in missing) + len(data)
        if total > order.disk_bytes:
            raise StorageError(f"{total} bytes to fetch, {order.disk_bytes} are allowed", reason=Reason.NO_SPACE)
        free = self.store.disk.free_bytes() - self.config.reserve_free_bytes
        if total > free:
            raise StorageError(f"{total} bytes needed, {max(free, 0)} free", reason=Reason.NO_SPACE)
        return tuple(missing)

    def received(self, model: str, ticket: int, received_bytes: int, total_bytes: int) -> list[Effect]:
        """A download came this far; of candidates nobody waits to hear."""
        return [] if model == NAME else super().received(model, ticket, received_bytes, total_bytes)

    def fetched(self, model: str, ticket: int) -> list[Effect]:
        """Everything the manifest names is in the store, durably."""
        return self._measure_event(machine.Fetched(ticket)) if model == NAME else super().fetched(model, ticket)

    def fetch_failed(self, model: str, ticket: int, reason: Reason, detail: str) -> list[Effect]:
        """Fetching failed; what may pass by itself is tried again until the order's time is up."""
        if model != NAME:
            return super().fetch_failed(model, ticket, reason, detail)
        event: Event = machine.Delayed(ticket) if reason in LATER else machine.Refused(ticket, reason, detail)
        return self._measure_event(event)

    def _give_way(self, work: Work, wanted: Manifest) -> int:
        """End a measuring, for an update that finds no space, and then the shadows; returns how much that freed."""
        freed, record = 0, self.memory.measuring
        alone = not any(each.fetching for model, each in self.memory.records.items() if model != wanted.model)
        if record is not None and not record.final:
            said = Over(MeasureState.FAILED, Reason.NO_SPACE, "an update needed the space")
            refused = machine.Refused(record.ticket, said.reason, said.detail)
            self._measure(work, refused if record.stage is Stage.FETCHING else said)
            if alone:
                freed = self.store.remove(record.order.bundle, wanted.blobs())
        return freed + super()._give_way(work, wanted)

    # Running: what the daemon's runner tells.

    def measure_told(self, order: str, state: MeasureState, detail: str) -> list[Effect]:
        """The runner waits, or goes on."""
        return self._measure_said(order, Over(state, detail=detail))

    def measured(self, order: str, candidate: MeasuredCandidate, reported: int) -> list[Effect]:
        """One candidate is done with."""
        return self._measure_said(order, Over(MeasureState.MEASURING, reported=reported), candidate)

    def measure_over(self, order: str, said: Over) -> list[Effect]:
        """The runner is done with all of them, or gave up."""
        record = self.memory.measuring
        return self._measure_event(said) if record is not None and record.order.id == order else []

    def _measure_said(self, order: str, said: Over, candidate: MeasuredCandidate | None = None) -> list[Effect]:
        record = self.memory.measuring
        if record is None or record.order.id != order or record.stage is not Stage.RUNNING:
            return []
        work = Work()
        self._measure_report(work, record, dataclasses.replace(said, detail=said.detail[:200]), candidate)
        return self._finish(work)

    def measuring_status(self) -> dict[str, Any]:
        """Return what `skerry agent status` shows of a measuring."""
        record = self.memory.measuring
        return {} if record is None else {"lease": record.order.id, "stage": record.stage.value}

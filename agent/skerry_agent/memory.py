"""What the core remembers; it changes with one decision (`work.Work`) at a time, each durable in one transaction."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping

from skerry_agent import machine, measure_machine, shadow_machine
from skerry_agent.captures import KIND as CAPTURE
from skerry_agent.captures import Captures
from skerry_agent.config import AgentConfig
from skerry_agent.ledger import Key, Ledger, Row
from skerry_agent.measure_machine import Record as MeasureRecord
from skerry_agent.measure_machine import Stage as MeasureStage
from skerry_agent.records import Effect as Wish
from skerry_agent.records import Event, Installed, Limits, Record, Stage
from skerry_agent.shadow_records import Record as ShadowRecord
from skerry_agent.shadow_records import Stage as ShadowStage
from skerry_agent.spool import TOTALS, Spool
from skerry_agent.work import Work
from skerry_contracts import codec
from skerry_contracts.assignment import Assignment, Receipt, SamplingPolicy
from skerry_contracts.errors import ContractError
from skerry_contracts.sample import Sample

MEASURING = "measuring"
BUFFER_BYTES = 4 * 1024 * 1024  # held in memory at most, while the disk refuses


class Memory:
    """The durable state as the core sees it; changed only by `commit`."""

    def __init__(self, ledger: Ledger, spool: Spool, config: AgentConfig) -> None:
        self._ledger = ledger
        self._spool = spool
        self.limits = Limits(
            config.download_deadline_s,
            config.window_deadline_s,
            config.trial_deadline_s,
            config.observe_s,
            config.observe_predictions,
            config.retry_first_s,
            config.retry_max_s,
            config.retry_failed_s,
        )
        self.records: dict[str, Record] = {}
        self.receipts: dict[str, Receipt] = {}
        self.shadows: dict[str, ShadowRecord] = {}
        self.measuring: MeasureRecord | None = None
        self.assignment: Assignment | None = None
        self.floors: dict[str, int] = {}
        self.clock_floor_s = float(config.clock_floor_s)
        self.boots = 0
        self.buffered: list[Row] = []  # samples that wait to be written together
        self.acked: list[Key] = []  # acknowledged messages that wait to be deleted together
        self.buffered_since_s: float | None = None
        self._lost = 0
        self._buffered_bytes = 0
        self._owed: dict[str, bytes | None] = {}  # taken up although the ledger could not write it: still to be written
        self.captures = Captures()

    @property
    def sequence(self) -> int:
        """The adopted assignment's sequence; 0 before the first."""
        return self.assignment.sequence if self.assignment is not None else 0

    def policy(self, model: str) -> SamplingPolicy:
        """Return how a model is to be sampled."""
        models = self.assignment.models if self.assignment is not None else ()
        return next((each.sampling for each in models if each.model == model), SamplingPolicy())

    def trusted_s(self, wall_s: float) -> float:
        """Return the wall time that expiry is judged by: never before what was once known to be past."""
        return max(wall_s, self.clock_floor_s)

    def load(self) -> None:
        """Take up what the ledger holds; an unreadable entry is left out (a newer version may have written it)."""
        stored = self._ledger.load()
        self._spool.load(stored.get(TOTALS))
        captures = [(key.partition(":")[2], value) for key, value in stored.items() if key.startswith(f"{CAPTURE}:")]
        self.captures.load(captures)
        for key, value in stored.items():
            kind, _, model = key.partition(":")
            try:
                if kind == "model":
                    self.records[model] = codec.decode(Record, value)
                elif kind == "receipt":
                    self.receipts[model] = codec.decode(Receipt, value)
                elif kind == "shadow":
                    self.shadows[model] = codec.decode(ShadowRecord, value)
                elif kind == MEASURING:
                    self.measuring = codec.decode(MeasureRecord, value)
                elif kind == "assignment":
                    self.assignment = codec.decode(Assignment, value)
                elif kind == "floors":
                    self.floors = {str(role): int(version) for role, version in json.loads(value).items()}
                elif kind == "clock":
                    self.clock_floor_s = max(self.clock_floor_s, float(value))
                elif kind == "boots":
                    self.boots = int(value)
            except (ContractError, ValueError, AttributeError):
                continue

    def rebuild(self, found: Mapping[str, Installed]) -> None:
        """Take bundles found in the store for what serves: the ledger is new or was lost without a mirror."""
        for model, installed in found.items():
            self.records[model] = Record(model, active=installed, floor=installed.release)

    def advance(self, work: Work, model: str, event: Event, now_s: float) -> list[Wish]:
        """Let the update machine see an event; returns what it wishes to be done."""
        before = work.records.get(model) or self.records.get(model) or Record(model)
        after, wishes = machine.advance(before, event, now_s, self.limits)
        if after is not before:
            work.records[model] = after
        return wishes

    def record(self, work: Work, model: str) -> Record:
        """Return a model's record as it will be."""
        return work.records.get(model) or self.records[model]

    def shadow(self, work: Work, model: str) -> ShadowRecord | None:
        """Return the record of a model's shadow as it will be; None where it has none."""
        return work.shadows[model] if model in work.shadows else self.shadows.get(model)

    @property
    def fetching(self) -> bool:
        """Whether parts of a bundle are here or coming that no installed manifest names."""
        shadows = any(each.stage is ShadowStage.FETCHING for each in self.shadows.values())
        measuring = self.measuring is not None and self.measuring.stage is MeasureStage.FETCHING
        return shadows or measuring or any(record.fetching for record in self.records.values())

    def raise_floors(self, work: Work, versions: Mapping[str, int]) -> None:
        """Remember the highest versions of the update repository's roles."""
        raised = {role: max(version, self.floors.get(role, 0)) for role, version in {**self.floors, **versions}.items()}
        if raised != self.floors:
            work.floors = raised
            work.puts["floors"] = codec.canonical_json(raised)

    def raise_clock_floor(self, work: Work, wall_s: float) -> None:
        """Remember that this time is past."""
        if wall_s > self.clock_floor_s:
            work.clock_floor_s = wall_s
            work.puts["clock"] = repr(float(wall_s)).encode()

    def buffer(self, row: Row | None, now_s: float) -> None:
        """Hold a message back for a moment, to be written with others; where the disk refuses for long, the cheapest,
        then oldest make room, and are counted.
        """
        if row is None:
            self._lost += 1
        else:
            self.buffered.append(row)
            self._buffered_bytes += len(row.payload)
            if self._buffered_bytes > BUFFER_BYTES:
                self._shorten()
        self.buffered_since_s = now_s if self.buffered_since_s is None else self.buffered_since_s

    def amend(self, prediction: str, capture: str, encode: Callable[[Sample], Row | None]) -> Key | None:
        """Let a sample that waits to be written carry a capture's id as well; None: none of that prediction waits."""
        for place, row in enumerate(self.buffered):
            if row.channel != "sample" or prediction.encode() not in row.payload:
                continue
            sample = codec.decode(Sample, row.payload)
            if sample.prediction == prediction and sample.capture is None:
                fuller = encode(dataclasses.replace(sample, capture=capture))
                if fuller is not None:
                    self.buffered[place] = fuller
                    self._buffered_bytes += len(fuller.payload) - len(row.payload)
                    return fuller.key
        return None

    def postpone(self, work: Work, now_s: float) -> None:
        """Hold back the facts of a decision that the disk refused: nobody makes them again (what an update comes to is
        decided, and told, anew).
        """
        for row in work.facts:
            self.buffer(row, now_s)
        self._lost += work.lost

    def soon(self, now_s: float) -> None:
        """Let the next transaction come soon: something besides messages is to be written."""
        self.buffered_since_s = now_s if self.buffered_since_s is None else self.buffered_since_s

    def acknowledge(self, keys: list[Key], now_s: float) -> None:
        """Let the fleet's acknowledgements wait to be written together; lost with the power, they only come again."""
        self._spool.acknowledge(keys)
        self.acked += keys
        self.buffered_since_s = now_s if self.buffered_since_s is None else self.buffered_since_s

    def commit(self, work: Work) -> bool:
        """Make a decision durable, then take it up; returns whether anything had to be written for it.

        Raises:
            StorageError: nothing has changed.
        """
        rows, lost = [*work.rows, *work.facts, *self.buffered], work.lost + self._lost
        plan = self._spool.plan(rows, acked=self.acked, dropped=work.dropped, lost=lost)
        puts = {**self._owed, **work.puts}
        puts.update({f"model:{model}": codec.encode(record) for model, record in work.records.items()})
        shadows = work.shadows.items()
        puts.update({f"shadow:{model}": codec.encode(each) if each is not None else None for model, each in shadows})
        if work.measuring is not None:
            puts[MEASURING] = codec.encode(work.measuring[0]) if work.measuring[0] is not None else None
        puts.update(self.captures.puts(plan, work.dropped))
        change = plan.change(puts)
        writes = bool(change.puts or change.add or change.remove)
        if writes:
            self._ledger.commit(change)
        self._spool.settle(plan)
        self.captures.settle(plan, work.dropped)
        self.buffered, self.acked, self.buffered_since_s, self._lost = [], [], None, 0
        self._buffered_bytes = 0
        self._owed = {}
        self.take(work)
        return writes

    def owe(self, work: Work) -> None:
        """Take up a decision that could not be made durable, and write it with the next one that can."""
        self._owed.update(work.puts)
        self._owed.update({f"model:{model}": codec.encode(record) for model, record in work.records.items()})
        self.take(work)

    @property
    def owes(self) -> bool:
        """Whether the ledger still says what was so before a decision that it could not write."""
        return bool(self._owed)

    def take(self, work: Work) -> None:
        """Take up a decision in memory: after `commit`, or by `owe`."""
        self.records.update(work.records)
        for model, receipt in work.receipts.items():
            if receipt is None:
                self.receipts.pop(model, None)
            else:
                self.receipts[model] = receipt
        for model, shadow in work.shadows.items():
            if shadow is None:
                self.shadows.pop(model, None)
            else:
                self.shadows[model] = shadow
        self.measuring = work.measuring[0] if work.measuring is not None else self.measuring
        self.assignment = work.assignment or self.assignment
        self.floors = work.floors if work.floors is not None else self.floors
        self.clock_floor_s = work.clock_floor_s if work.clock_floor_s is not None else self.clock_floor_s

    def _shorten(self) -> None:
        """Give up a quarter of what is held back: all at once, because finding the cheapest is a walk over all."""
        gone: set[Key] = set()
        for row in sorted(self.buffered, key=lambda row: row.priority):
            if self._buffered_bytes <= BUFFER_BYTES * 3 // 4:
                break
            gone.add(row.key)
            self._buffered_bytes -= len(row.payload)
        self.buffered = [row for row in self.buffered if row.key not in gone]
        self._lost += len(gone)

    def bundles(self) -> set[str]:
        """Return every bundle that some record still speaks of: none of them is garbage."""
        found: set[str] = set()
        for record in self.records.values():
            found |= {each.bundle for each in (record.active, record.previous, record.factory) if each is not None}
            if record.order is not None and record.stage != Stage.IDLE:
                found.add(record.order.bundle)
        if self.measuring is not None and not self.measuring.final:
            found.add(self.measuring.order.bundle)
        return found | {each.terms.bundle for each in self.shadows.values() if not each.final}

    def wakes_s(self, ticked_s: float, window_check_s: float) -> Iterable[float]:
        """Return when records want a tick."""
        for record in self.records.values():
            if (wake := machine.wake_s(record)) is not None:
                yield min(wake, ticked_s + window_check_s) if record.stage == Stage.VERIFIED else wake
        for shadow in self.shadows.values():
            if (wake := shadow_machine.wake_s(shadow)) is not None:
                yield wake
        if self.measuring is not None and (wake := measure_machine.wake_s(self.measuring, ticked_s)) is not None:
            yield wake

"""How a decision becomes durable, and how the machine's wishes become effects: the lower half of the core."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from skerry_agent import acceptance, effects, records
from skerry_agent.clock import Clock, Rng
from skerry_agent.config import AgentConfig
from skerry_agent.effects import Effect, Publish
from skerry_agent.errors import StorageError
from skerry_agent.ledger import Ledger
from skerry_agent.memory import Memory
from skerry_agent.outbox import Outbox
from skerry_agent.records import Installed, Report
from skerry_agent.serving import Serving, fitting_ids
from skerry_agent.spool import Spool
from skerry_agent.store import Store
from skerry_agent.work import Work
from skerry_contracts import codec, names
from skerry_contracts.assignment import Receipt
from skerry_contracts.device import Hardware, Reason

STALLED_RETRY_S = 5.0
MAX_STALLED = 64
COLLECT_RETRY_S = 60.0

Again = Callable[[], list[Effect]]


def _never(model: str) -> bool:
    return False


class Decider:
    """The state of the core, and one way to change it: gather a Work, then `_finish` it."""

    def __init__(
        self,
        *,
        tenant: str,
        device: str,
        config: AgentConfig,
        ledger: Ledger,
        store: Store,
        clock: Clock,
        rng: Rng,
        hardware: Hardware,
    ) -> None:
        self.tenant, self.device = tenant, device
        self.config, self.hardware = config, hardware
        self.store, self.clock, self.rng = store, clock, rng
        self.spool = Spool(
            ledger,
            quota_bytes=config.spool_quota_bytes,
            in_flight=config.spool_in_flight,
            redeliver_s=config.redeliver_s,
        )
        self.memory = Memory(ledger, self.spool, config)
        self.outbox = Outbox(names.new_boot_id(0, bytes(4)))
        self._counted: Outbox | None = None  # this boot's own, where the ledger could not count the boot yet
        self._session = 0
        self.serving = Serving(store, rng, clock, config.redact, config.encrypt)
        self.online = False
        self.degraded: dict[str, str] = {}  # what is wrong: key -> words
        self._clock_watch = acceptance.ClockWatch()
        self._stalled: list[Again] = []
        self._uncollected_s: float | None = None  # when to remove garbage that the disk would not let go
        self.clock_was_set: Callable[[], None] = lambda: None  # heard while there is no link
        self.unloaded: Callable[[str], bool] = _never  # whether a person freed a model's worker
        self._hold_s = 0.0  # no tick before this, after the ledger failed

    # The boot's number.

    def _number_boot(self) -> int:
        """Begin this boot's messages and return its number: two above the last that the ledger took down."""
        count = self.memory.boots + 2
        self.outbox, self._counted = self._numbered(count), None
        return count

    def _borrow_number(self, count: int) -> None:
        """Speak for now under the number between: the ledger cannot count this boot, nor could it perhaps others
        before. Those the time orders, by a clock that may be wrong (a later one then is not heard), but every boot
        that is counted comes after all of them.
        """
        self._counted, self.outbox = self.outbox, self._numbered(count - 1)

    def _numbered(self, count: int) -> Outbox:
        token = int(self.memory.trusted_s(self.clock.wall_s())) % (1 << 32)
        return Outbox(names.new_boot_id(count, token.to_bytes(4, "big")))

    def _counted_now(self) -> list[Effect]:
        """Speak under the boot's own number as soon as the ledger has it; the connection that stands does so, too."""
        if self._counted is None or self.memory.owes:
            return []
        self.outbox, self._counted = self._counted, None
        return [Publish("presence", self.outbox.presence(self._session, online=True))] if self.online else []

    # Decisions.

    def _event(self, model: str, event: records.Event, *, serve_anyway: bool = False) -> list[Effect]:
        """Let one model's machine see an event, durably; `serve_anyway`: see `_finish`."""
        if model not in self.memory.records:
            return []
        work = Work()
        self._advance(work, model, event)
        return self._finish(work, again=lambda: self._event(model, event), serve_anyway=serve_anyway)

    def _advance(self, work: Work, model: str, event: records.Event) -> None:
        for wish in self.memory.advance(work, model, event, self.clock.monotonic_s()):
            self._translate(work, model, wish)

    def _tick_model(self, work: Work, model: str) -> None:
        record = self.memory.record(work, model)
        wall_s = self.clock.wall_s()
        steady = self._clock_watch.steady(wall_s, self.clock.monotonic_s(), self.memory.clock_floor_s)
        window = record.order.assigned.window if record.order is not None else None
        open_ = steady and acceptance.in_window(window, self.clock.local_minute())
        self._advance(work, model, records.Tick(self.memory.trusted_s(wall_s), open_, self.unloaded(model)))

    def _finish(self, work: Work, *, again: Again | None = None, serve_anyway: bool = False) -> list[Effect]:
        """Make a decision durable and return its effects; on failure keep `again` for later and return nothing.

        `serve_anyway`: a disk that cannot be written must not keep a device from serving after a boot, or where what
        served is damaged.
        """
        told: list[Effect] = work.effects
        for watch in self.serving.leaving(work.records):
            self._sketch(work, watch.manifest.model)
        try:
            if self.memory.commit(work):  # what wrote nothing proves nothing
                self.degraded.pop("storage", None)
        except StorageError as error:
            self.degraded["storage"] = str(error)
            self._hold_s = self.clock.monotonic_s() + STALLED_RETRY_S
            self.memory.postpone(work, self.clock.monotonic_s())
            if serve_anyway:
                again = partial(self._catch_up, work, [each for each in told if not isinstance(each, effects.Serve)])
            self._stalled = [*self._stalled, *([again] if again else [])][-MAX_STALLED:]
            if not serve_anyway:
                return []
            self.memory.owe(work)
            told = [effect for effect in told if isinstance(effect, effects.Serve)]
        if work.records or work.assignment is not None:
            self.serving.refresh(work.records, self.memory.records)
            self.serving.adopt({model: self.memory.policy(model) for model in self.serving.watches})
            for key in [key for key in self.degraded if key.startswith(("redact ", "sealing "))]:
                del self.degraded[key]
            self.degraded.update(self.serving.troubles())
        if work.collect:
            self._collect()
        return [*self._counted_now(), *told, *self._outgoing()]

    def _flush(self, waiting: int) -> bool:
        """Return whether so many messages (or acknowledgements) are to be written now: not while the disk refuses."""
        return waiting >= self.config.flush_rows and self.clock.monotonic_s() >= self._hold_s

    def _catch_up(self, work: Work, left: list[Effect]) -> list[Effect]:
        """Make durable what a boot on a failing disk only remembered, and do what it left undone."""
        now = Work(dict(work.puts), rows=list(work.rows), receipts=dict(work.receipts), collect=work.collect)
        now.records = {model: self.memory.records[model] for model in work.records}
        now.effects = [each for each in left if self._still_asked(each)]
        return self._finish(now, again=lambda: self._catch_up(work, left))

    def _still_asked(self, effect: Effect) -> bool:
        """Return whether nothing has happened since that makes an effect's answer worthless."""
        ticket = getattr(effect, "ticket", None)
        record = self.memory.records.get(getattr(effect, "model", ""))
        return ticket is None or (record is not None and record.ticket == ticket)

    def _outgoing(self) -> list[Effect]:
        """Return what may be sent now of what waits."""
        if not self.online:
            return []
        try:
            rows = self.spool.due(self.clock.monotonic_s())
            return [Publish(row.channel, row.payload, row.key) for row in rows]
        except StorageError as error:
            self.degraded["storage"] = str(error)
            self._hold_s = self.clock.monotonic_s() + STALLED_RETRY_S
            return []

    def _collect(self) -> None:
        """Remove what no record speaks of; not while something is fetched, whose blobs no manifest names yet."""
        self._uncollected_s = None
        if self.memory.owes:  # a power cut now brings back a record that speaks of what would be removed here
            self._uncollected_s = self.clock.monotonic_s() + COLLECT_RETRY_S
            return
        try:  # what is fetched ends, and its end collects the blobs
            self.store.collect(self.memory.bundles(), blobs=not self.memory.fetching)
            self.degraded.pop("store", None)
        except StorageError as error:
            self.degraded["store"] = str(error)
            self._uncollected_s = self.clock.monotonic_s() + COLLECT_RETRY_S

    def _sketch(self, work: Work, model: str) -> None:
        """Close a model's sketch and spool it, unless it saw nothing."""
        watch = self.serving.watches[model]
        seen = watch.sketcher.predictions
        seq = self.outbox.next_seq() if seen else 0
        sketch = watch.take_sketch(
            boot_id=self.outbox.boot_id, seq=seq, wall_s=self.clock.wall_s(), now_s=self.clock.monotonic_s()
        )
        if seen:
            work.keep(self.outbox.sketch(sketch))

    def _translate(self, work: Work, model: str, wish: records.Effect) -> None:
        """Add what the machine wishes to a decision."""
        record = self.memory.record(work, model)
        order = record.order
        match wish:
            case Report(order=said, phase=phase, reason=reason, detail=detail):
                total = sum(blob.size_bytes for blob in work.fetching[model][1]) if model in work.fetching else 0
                time_s = self.clock.wall_s()
                work.rows.append(self.outbox.progress(time_s, said, phase, reason, detail, total_bytes=total))
            case records.StartFetch() if order is not None:
                work.effects.append(self._fetch_manifest(model, record.ticket, order))
            case records.StartBlobs():
                manifest, blobs = work.fetching[model]
                work.effects.append(effects.FetchBlobs(model, record.ticket, manifest, blobs))
            case records.StopFetch():
                work.effects.append(effects.CancelFetch(model))
            case records.StartTrial() if order is not None:
                self._start_trial(work, model, record.ticket, order)
            case records.StopTrial():
                work.effects.append(effects.CancelTrial(model))
            case records.Swap() if record.active is not None:
                work.effects.append(effects.Swap(model, record.active.bundle, record.active.measured.variant))
            case records.Serve(installed=installed):
                work.effects.append(effects.Serve(model, installed.bundle, installed.measured.variant))
            case records.Stop():
                work.effects.append(effects.Stop(model))
            case records.SignReceipt(installed=installed):
                self._owe_receipt(work, model, installed)
            case records.Collect():
                work.collect = True

    def _fetch_manifest(self, model: str, ticket: int, order: records.Order) -> Effect:
        assigned = order.assigned
        floors, clock_floor_s = dict(self.memory.floors), self.memory.clock_floor_s
        return effects.FetchManifest(
            model, ticket, assigned.bundle, assigned.target_path, assigned.size_bytes, floors, clock_floor_s
        )

    def _start_trial(self, work: Work, model: str, ticket: int, order: records.Order) -> None:
        manifest = self.store.manifest(order.bundle)
        if manifest is None:
            self._advance(work, model, records.TrialFailed(ticket, Reason.STORAGE, "the bundle's files are gone"))
        else:
            work.effects.append(effects.Trial(model, ticket, order.bundle, fitting_ids(manifest, self.hardware)))

    def _owe_receipt(self, work: Work, model: str, installed: Installed) -> None:
        measured = installed.measured
        receipt = Receipt(
            self.tenant,
            self.device,
            installed.sequence,
            model,
            installed.bundle,
            measured.variant,
            int(self.clock.wall_s()),
            measured.golden_passed,
            measured.latency_p50_ms,
            measured.latency_p95_ms,
            measured.rss_bytes,
        )
        work.receipts[model] = receipt
        work.puts[f"receipt:{model}"] = codec.encode(receipt)
        work.effects.append(effects.Sign(receipt))

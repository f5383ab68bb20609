"""The device's brain: synchronous, without I/O of its own; the daemon and the simulator drive this very class.

Every method takes something that happened and returns what is now to be done (`effects`). Before it returns, what it
decided is durable in the ledger: one transaction a call, so that a power cut finds either the state before or the
state after. Where the ledger cannot write, nothing is decided: the call is repeated later, and what serves goes on
serving.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from skerry_agent import acceptance, effects, records
from skerry_agent import shadow_records as shadow
from skerry_agent.effects import Effect, Publish
from skerry_agent.errors import TrustError
from skerry_agent.hooks import Prediction
from skerry_agent.ledger import Key
from skerry_agent.measure_machine import Boot as MeasureBoot
from skerry_agent.measuring import Measurer
from skerry_agent.records import Order
from skerry_agent.watch import Watch
from skerry_agent.work import Work
from skerry_contracts import codec
from skerry_contracts.assignment import Assignment, Envelope
from skerry_contracts.device import Ack, Heartbeat, ModelHealth, ModelState, Reason
from skerry_contracts.errors import ContractError

PERSIST_CLOCK_S = 3600.0
WINDOW_CHECK_S = 30.0
MAX_REFUSALS = 64  # a boot: a broker that lies all day must not fill the spool


class DeviceCore(Measurer):
    """Everything the agent decides. Call `boot` first; then anything, in any order."""

    _hardware_told = False
    _booted_s = 0.0
    _ticked_s = 0.0
    _clock_saved_s = 0.0

    # Life: boot, link, time.

    def boot(self) -> list[Effect]:
        """Take up what the ledger holds and make what served serve again; needs neither network nor a sound disk."""
        self.memory.load()
        count = self._number_boot()
        self._heard: set[str] = set()  # digests of assignments already refused in this boot
        self._booted_s = self._clock_saved_s = self._ticked_s = self.clock.monotonic_s()
        work = Work({"boots": str(count).encode()}, collect=True)
        factory = self.serving.factory(self.hardware)
        if self.memory.boots == 0 and not self.memory.records:
            self.memory.rebuild(self.serving.newest(self.hardware))
        self.memory.boots = count
        for model in sorted({*self.memory.records, *factory}):
            self._advance(work, model, records.Boot(factory.get(model)))
        for model, record in sorted(work.records.items()):
            if (active := record.active) is not None and self.store.manifest(active.bundle) is None:
                self._advance(work, model, records.Unhealthy(active.bundle, Reason.STORAGE, "its files are gone"))
        self._shadow_boot(work)
        self._measure(work, MeasureBoot())
        self._lacking = self._without_factory(work)
        self._unname(work, self.memory.assignment, held=True)
        for receipt in self.memory.receipts.values():
            work.effects.append(effects.Sign(receipt))
        told = self._finish(work, serve_anyway=True)
        if self.memory.owes:
            self._borrow_number(count)
        return told

    def session(self) -> bytes:
        """Return the will for a connection that is about to be tried: the Presence that it ended."""
        self._session += 1
        return self.outbox.presence(self._session, online=False)

    def connected(self) -> list[Effect]:
        """The link stands: say so, and send what waits."""
        self.online = True
        self._hardware_told = False
        work = Work()
        work.effects.append(Publish("presence", self.outbox.presence(self._session, online=True)))
        for model in list(self.memory.records):
            self._advance(work, model, records.Online())
            self._tick_model(work, model)
        self._shadow_all(work, shadow.Online())
        return self._finish(work)

    def disconnected(self, unconfirmed: Sequence[Key] = ()) -> list[Effect]:
        """The link is gone; `unconfirmed`: messages the broker never confirmed."""
        self.online = False
        poison = self.spool.disconnected(unconfirmed)
        return self._finish(Work(dropped=poison)) if poison else []

    def tick(self) -> list[Effect]:
        """Time has passed; call it at `next_wake_s` (sooner is harmless)."""
        now_s = self._ticked_s = self.clock.monotonic_s()
        work = Work()
        stalled, self._stalled = self._stalled, []
        told = [effect for call in stalled for effect in call()]
        for model, record in list(self.memory.records.items()):
            waits = record.retry_at_s is not None or record.serve_at_s is not None
            if record.stage != records.Stage.IDLE or waits:
                self._tick_model(work, model)
        self._shadow_tick(work)
        self._measure_tick(work)
        for watch in self.serving.due(now_s):
            self._sketch(work, watch.manifest.model)
        if (passed_s := now_s - self._clock_saved_s) >= PERSIST_CLOCK_S:
            self._clock_saved_s = now_s
            # What passed by the monotonic clock has passed; a wall clock set to 2100 for an hour must not outlive it.
            self.memory.raise_clock_floor(work, self.memory.clock_floor_s + passed_s)
            told += [effects.Verify(self._dated)] if self._dated is not None else []
        if self._uncollected_s is not None and now_s >= self._uncollected_s:
            self._collect()
        if (due_s := self._factory_due_s()) is not None and now_s >= due_s:
            told += self._look_for_factory(now_s)
        return told + self._finish(work)

    def next_wake_s(self) -> float:
        """Return when `tick` is due next, in monotonic seconds."""
        times = [self._clock_saved_s + PERSIST_CLOCK_S, *self.serving.wakes_s()]
        times += self.memory.wakes_s(self._ticked_s, WINDOW_CHECK_S)
        if self.memory.buffered_since_s is not None:
            times.append(self.memory.buffered_since_s + self.config.flush_s)
        if self.online and (due_s := self.spool.next_due_s()) is not None:
            times.append(due_s)
        if self._stalled:
            times.append(self._hold_s)
        times += [each for each in (self._uncollected_s, self._factory_due_s()) if each is not None]
        return max(min(times), self._hold_s)

    def stopping(self) -> list[Effect]:
        """The agent is about to stop: keep what is only in memory, and say goodbye."""
        for watch in self.serving.watches.values():
            watch.sketch_due_s = 0.0
        told = [effect for model in list(self.memory.shadows) for effect in self.shadow_rested(model)]
        told += self.tick()
        goodbye = Publish("presence", self.outbox.presence(self._session, online=False, leaving=True))
        return [*told, goodbye] if self.online else told

    def undeliverable(self, key: Key) -> list[Effect]:
        """A kept message is too large for any broker: give it up, and count it."""
        return self._finish(Work(dropped=[key]))

    # The fleet's word.

    def message(self, channel: str, payload: bytes) -> list[Effect]:
        """A message came down. What cannot be read is refused and reported once, never obeyed."""
        try:
            if channel == "ack":
                acked = [(each.boot_id, seq) for each in codec.decode(Ack, payload).received for seq in each.seqs]
                self.memory.acknowledge(acked, self.clock.monotonic_s())
                return self._finish(Work()) if self._flush(len(self.memory.acked)) else self._outgoing()
            if channel == "assignment":
                peek = codec.decode(Assignment, codec.decode(Envelope, payload).payload)
                if peek.sequence == self.memory.sequence:  # retained: the broker repeats it on every connection
                    return []
                return [effects.Verify(payload)]
        except ContractError as error:
            return self.unverified(payload, Reason.UNSIGNED, f"unreadable: {error}") if channel == "assignment" else []
        return []

    def unverified(self, envelope: bytes, reason: Reason, detail: str, sequence: int = 0) -> list[Effect]:
        """An assignment was refused as a whole; each is reported once a boot. `sequence` where it can be believed."""
        digest = codec.digest(envelope)
        if digest in self._heard or len(self._heard) >= MAX_REFUSALS:
            return []
        self._heard.add(digest)
        return self._finish(Work(facts=[self.outbox.refusal(self.clock.wall_s(), reason, detail, sequence)]))

    def verified(self, envelope: bytes, payload: bytes) -> list[Effect]:
        """An assignment's signature holds: adopt it, unless it is not ours, not newer, or expired."""
        try:
            assignment = codec.decode(Assignment, payload)
            if assignment.sequence == self.memory.sequence:
                return []
            acceptance.check_assignment(
                assignment,
                tenant=self.tenant,
                device=self.device,
                adopted=self.memory.sequence,
                now_s=self.memory.trusted_s(self.clock.wall_s()),
            )
        except ContractError as error:
            return self.unverified(envelope, Reason.UNSIGNED, f"unreadable: {error}")
        except TrustError as error:
            self._dated = envelope if error.reason is Reason.EXPIRED else self._dated
            ours = error.reason is Reason.EXPIRED  # signed, and for this device: the fleet may know which
            return self.unverified(envelope, error.reason, str(error), assignment.sequence if ours else 0)
        work = Work({"assignment": payload}, assignment=assignment)
        self.memory.raise_clock_floor(work, assignment.issued_s)
        self._clock_saved_s, self._dated = self.clock.monotonic_s(), None
        for each in assignment.models:
            order = Order(assignment.sequence, assignment.expires_s, each)
            self._advance(work, each.model, records.Offered(order))
        self._unname(work, assignment)
        self._shadow_orders(work, assignment)
        self._measure_orders(work, assignment)
        return self._finish(work, again=lambda: self.verified(envelope, payload))

    # Serving.

    def next_prediction(self, model: str) -> str:
        """Return the id of the next prediction."""
        return self.serving.next_prediction(self.device, self.outbox.boot_id)

    def on_prediction(self, prediction: Prediction) -> list[Effect]:
        """An inference was answered: sketch it, perhaps keep it, and count it for a fresh bundle."""
        now_s = self.clock.monotonic_s()
        watch = self.serving.watches.get(prediction.model)
        record = self.memory.records.get(prediction.model)
        if watch is None or record is None:
            return []
        seen = watch.see(prediction, now_s, self.clock.wall_s())
        told: list[Effect] = []
        if record.stage == records.Stage.OBSERVING:
            told = self._observe(prediction.model, watch, seen.sane)
        self.memory.captures.recent.add(prediction)
        if seen.choice is not None or prediction.capture is not None:
            told += self._sample(watch, prediction, seen, self.clock.wall_s())
        return told

    def _observe(self, model: str, watch: Watch, sane: bool) -> list[Effect]:
        """Count an answer of a fresh bundle; told to the machine all at once, because each change costs a write."""
        if not sane:
            return self.unhealthy(model, watch.bundle, Reason.UNHEALTHY, "an answer holds what is no number")
        watch.served += 1
        enough = watch.served >= self.config.observe_predictions
        return self._event(model, records.Served(watch.served)) if enough else []

    # Telling.

    def health(
        self, models: Sequence[ModelHealth], *, rss_bytes: int, temperature_c: float | None = None
    ) -> list[Effect]:
        """The daemon measured itself and its workers: tell the fleet, if it can hear."""
        moved = self._clock_moved()
        if not self.online:
            return moved
        hardware = None if self._hardware_told else self.hardware
        self._hardware_told = True
        message = Heartbeat(
            self.outbox.boot_id,
            self.outbox.next_seq(),
            self.clock.wall_s(),
            self.clock.monotonic_s() - self._booted_s,
            self.memory.sequence,
            tuple(self._told(each) for each in models),
            self.spool.health,
            rss_bytes,
            self.store.disk.free_bytes(),
            temperature_c,
            tuple(f"{key}: {words}" for key, words in sorted(self.degraded.items())),
            hardware,
            self.serving.drift(self.clock.monotonic_s(), heard=True) or None,
        )
        return [*moved, Publish("heartbeat", codec.encode(message))]

    def _told(self, health: ModelHealth) -> ModelHealth:
        """Return a model's health with what only this core knows: it serves for good only after its observation."""
        record, watch = self.memory.records.get(health.model), self.serving.watches.get(health.model)
        if record is not None and record.stage == records.Stage.OBSERVING and health.state == ModelState.SERVING:
            health = dataclasses.replace(health, state=ModelState.TRIAL)
        if watch is not None:
            health = dataclasses.replace(health, mean_confidence=watch.take_mean_confidence())
        return health

    def status(self) -> dict[str, Any]:
        """Return what `skerry agent status` shows."""
        return {
            "tenant": self.tenant,
            "device": self.device,
            "boot_id": self.outbox.boot_id,
            "online": self.online,
            "uptime_s": round(self.clock.monotonic_s() - self._booted_s, 3),
            "sequence": self.memory.sequence,
            "models": {model: _summary(record) for model, record in sorted(self.memory.records.items())},
            "shadows": self.shadow_status(),
            "measuring": self.measuring_status(),
            "spool": codec.to_plain(self.spool.health),
            "degraded": dict(self.degraded),
            "drift": [codec.to_plain(each) for each in self.serving.drift(self.clock.monotonic_s(), heard=False)],
        }


def _summary(record: records.Record) -> dict[str, Any]:
    plain: dict[str, Any] = {"stage": record.stage.value, "floor": record.floor}
    for name in ("active", "previous", "factory"):
        installed: records.Installed | None = getattr(record, name)
        if installed is not None:
            variant = installed.measured.variant
            plain[name] = {"bundle": installed.bundle, "version": installed.version, "variant": variant}
    if record.order is not None:
        plain["wanted"] = record.order.bundle
    if record.trouble is not None:
        plain["trouble"] = {"reason": record.trouble.value, "detail": record.trouble_detail}
    return plain

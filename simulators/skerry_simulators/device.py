"""One simulated device: the real core on a simulated disk, ledger, clock and link, with a plug that can be pulled at
any moment.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from skerry_agent import effects
from skerry_agent.config import AgentConfig
from skerry_agent.core import DeviceCore
from skerry_agent.errors import StorageError
from skerry_agent.ledger import Key
from skerry_agent.store import Store
from skerry_contracts import codec
from skerry_contracts.assignment import RECEIPT_TYPE
from skerry_fleet.trust import signing
from skerry_simulators.body import Body
from skerry_simulators.catalogue import CONFIG, HARDWARE, MODEL, TENANT, Inputs, MadeBundle
from skerry_simulators.clock import DeviceClock
from skerry_simulators.envelopes import verified_payload
from skerry_simulators.errors import PowerCut
from skerry_simulators.faults import Faults
from skerry_simulators.heap import Heap
from skerry_simulators.history import History
from skerry_simulators.link import Link
from skerry_simulators.observer import Observer
from skerry_simulators.repository import Repository
from skerry_simulators.storage import Storage

PREDICTION_EVERY_S = 120.0
LEAST_TICK_S, FIRST_ASK_S = 0.01, 2.0  # nobody asks before a worker could have started after a boot


@dataclasses.dataclass(slots=True)
class Surroundings:
    """What all devices of a world share."""

    heap: Heap
    history: History
    repository: Repository
    inputs: Inputs
    observer: Observer
    director: ed25519.Ed25519PublicKey


class SimDevice:
    """A device. `core` and `body` exist while it is on; disk, ledger, keys and the clock's error outlive its power."""

    def __init__(
        self,
        name: str,
        around: Surroundings,
        link: Link,
        rng: random.Random,
        storage: Storage,
        config: AgentConfig = CONFIG,
    ) -> None:
        self.name = name
        self.rng = rng
        self.link = link
        self.config = config
        self.faults = Faults()
        self.repository, self.inputs = around.repository, around.inputs
        self.storage = storage
        self.plug, self.disk, self.ledger = storage.plug, storage.disk, storage.ledger
        storage.ledger.observer = lambda change: around.observer.committed(self, change)
        self.clock = DeviceClock(around.heap.clock)
        self.key = ed25519.Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
        self.core: DeviceCore | None = None
        self.body: Body | None = None
        self.epoch = 0
        self.ticks = 0
        self.pressed = False  # the kernel ends whatever begins to load
        self.ask_every_s = PREDICTION_EVERY_S
        self.asked = True  # whether local programs ask for inferences
        self._around = around
        self._tick_at_s = 0.0
        self._sent: dict[int, Key] = {}

    # Life.

    def provision(self, factory: MadeBundle) -> None:
        """Do what the device's maker does: a store with the bundle that is never removed, all of it durable."""
        store = Store(self.disk)
        store.prepare()
        for data in factory.blobs.values():
            store.put_blob(data)
        store.mark_factory(MODEL, store.put_manifest(factory.manifest_bytes))
        self.storage.settle()

    def boot(self) -> None:
        """Switch on."""
        if self.core is not None:
            return
        self._around.observer.booting(self)
        self.epoch += 1
        self.clock.boot()
        store = Store(self.disk)
        self.core = DeviceCore(
            tenant=TENANT,
            device=self.name,
            config=self.config,
            ledger=self.ledger,
            store=store,
            clock=self.clock,
            rng=self.rng,
            hardware=HARDWARE,
        )
        self.body = self.make_body()
        self._tick_at_s = float("inf")
        self._sent = {}
        self.note("boot")
        epoch = self.epoch
        self._survive(self._boot_core)
        if self.epoch != epoch:
            return
        self.later(self.rng.uniform(FIRST_ASK_S, self.ask_every_s), self._predict)
        self.later(self.rng.uniform(0, self.config.heartbeat_s), self._heartbeat)
        self.link.switch_on(self)

    def make_body(self) -> Body:
        """Return the hands of a new boot."""
        return Body(self)

    def power_cut(self) -> None:
        """The power goes: what was not durable may be lost or torn."""
        if self.core is not None:
            self.note("power cut")
            self.hit("power cut")
            self.off()
            self.storage.power_cut(self.rng)
            self._around.heap.after(self.rng.uniform(5, 120), self.boot)

    def agent_crash(self) -> None:
        """The agent's process dies; what it wrote is still with the system, synced or not."""
        if self.core is not None:
            self.note("agent crash")
            self.hit("agent crash")
            self.off()
            self._around.heap.after(self.rng.uniform(1, 10), self.boot)

    def agent_stop(self) -> None:
        """The agent is told to stop, and starts again."""
        if self.core is not None:
            self.note("agent stop")
            self._survive(self.ask, "stopping")
            self.agent_crash()

    def worker_crash(self, model: str) -> None:
        """The worker that serves a model dies."""
        if self.body is not None:
            self.hit("worker crash")
            self._survive(self.body.crash, model)

    def set_pressed(self, pressed: bool) -> None:
        """Memory becomes short, or is no longer: the kernel ends the worker, and what loads meanwhile."""
        self.pressed = pressed
        if pressed and self.body is not None:
            self._survive(self.body.crash, MODEL)

    @property
    def on(self) -> bool:
        """Whether the device is switched on."""
        return self.core is not None

    # What the body asks of the device (Host).

    def later(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Run an action after a while, unless the device goes off before."""
        self._around.heap.after(delay_s, self._due, self.epoch, action, arguments)

    def ask(self, name: str, *arguments: Any) -> None:
        """Call a method of the core, and carry out what it returns."""
        if self.core is not None and self.body is not None:
            self.body.carry_out(getattr(self.core, name)(*arguments))

    def reachable(self) -> bool:
        """Whether the fleet can be reached over HTTP."""
        return self.link.connected

    def publish(self, channel: str, payload: bytes, key: Key | None) -> None:
        """Send a message."""
        number = self.link.publish(channel, payload)
        if key is not None:
            self._sent[number] = key

    def verify(self, envelope: bytes) -> bytes | None:
        """Return the payload of a signed assignment; None where the signature does not hold."""
        return verified_payload(envelope, self._around.director)

    def sign(self, effect: effects.Sign) -> None:
        """Sign a receipt and tell the core."""
        envelope = signing.sign(RECEIPT_TYPE, codec.encode(effect.receipt), [self.key])
        self.later(self.rng.uniform(0.05, 0.4), self.ask, "signed", effect.receipt.model, envelope)

    def times(self) -> tuple[float, float]:
        """Return what the device believes the date is, and the true date."""
        return self.clock.wall_s(), self.clock.true.wall_s()

    def loading(self, bundle: str, variant: str) -> None:
        """A worker is about to map a bundle's bytes."""
        self._around.observer.loading(self, bundle, variant)

    def asking(self, effect: effects.FetchManifest) -> None:
        """The update repository is asked."""
        self._around.observer.asking(self, effect)

    def hit(self, kind: str) -> None:
        """Something went wrong for this device."""
        self._around.observer.hit(self, kind)

    def answered(self, answered: bool) -> None:
        """A local program asked for an inference, and was answered or not."""
        self._around.observer.answered(self, answered)

    def note(self, what: str, detail: str = "") -> None:
        """Add to the history."""
        self._around.history.add(self.name, what, detail)

    # What the link tells the device (DeviceEnd).

    def on_connected(self) -> None:
        """A session began."""
        self._survive(self._connected)

    def on_disconnected(self, unconfirmed: list[int]) -> None:
        """The session ended."""
        keys = [self._sent[number] for number in unconfirmed if number in self._sent]
        self._sent = {}
        self._survive(self.ask, "disconnected", keys)

    def on_message(self, channel: str, payload: bytes) -> None:
        """A message came down."""
        self.note("heard", channel)
        self._survive(self.ask, "message", channel, payload)

    def _boot_core(self) -> None:
        if self.core is None or self.body is None:
            return
        try:
            self.core.store.prepare()
        except StorageError as error:
            self.core.degraded["storage"] = str(error)
        self.body.carry_out(self.core.boot())

    def _connected(self) -> None:
        if self.core is not None:
            self.link.will = self.core.session()
            self.ask("connected")

    def _due(self, epoch: int, action: Callable[..., None], arguments: Sequence[Any]) -> None:
        if epoch == self.epoch:
            self._survive(action, *arguments)

    def _survive(self, action: Callable[..., None], *arguments: Any) -> None:
        """Run an action; if the power goes in the middle of it, that is the end of this boot."""
        try:
            action(*arguments)
        except PowerCut as cut:
            self.note("cut before", str(cut))
            self.power_cut()
        if self.core is not None:
            self._set_alarm()
        self._around.observer.after(self)

    def _set_alarm(self) -> None:
        if self.core is None:
            return
        wake_s = max(self.clock.boot_s + self.core.next_wake_s(), self._around.heap.clock.now_s + LEAST_TICK_S)
        if wake_s < self._tick_at_s - 1e-9:
            self._tick_at_s = wake_s
            self._around.heap.at(wake_s, self._tick, self.epoch, wake_s)

    def _tick(self, epoch: int, wake_s: float) -> None:
        if epoch == self.epoch and wake_s == self._tick_at_s:
            self._tick_at_s = float("inf")
            self.ticks += 1
            self._survive(self.ask, "tick")

    def _predict(self) -> None:
        self.later(self.ask_every_s * self.rng.uniform(0.9, 1.1), self._predict)
        if self.body is not None and self.asked:
            self.body.predict(MODEL)

    def _heartbeat(self) -> None:
        self.later(self.config.heartbeat_s, self._heartbeat)
        if self.core is not None and self.body is not None:
            self.body.carry_out(self.core.health(self.body.health(), rss_bytes=36 << 20))

    def off(self) -> None:
        """Switch off, without a word."""
        self.epoch += 1
        self.core = self.body = None
        self.link.switch_off()

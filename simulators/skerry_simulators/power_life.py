"""A device's life on a real folder, in virtual time: every kind of update and everything else that it writes.

What the device made durable, and what the fleet has of it, is told as facts (`note`), each after it is so and before
anything else happens. Whoever cuts the power compares what is left with the facts before the cut.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from skerry_agent.config import AgentConfig
from skerry_agent.disk import RealDisk
from skerry_agent.ledger import Change
from skerry_agent.records import Record, Stage
from skerry_agent.trust.enrol import enrol
from skerry_contracts import codec
from skerry_contracts.assignment import Assignment
from skerry_contracts.device import Ack, Received
from skerry_contracts.enrolment import Trust
from skerry_simulators import storage as storages
from skerry_simulators.alone import SPOOLED
from skerry_simulators.blocklog import Fact
from skerry_simulators.catalogue import CONFIG, HARDWARE, MODEL, Inputs, Kind, MadeBundle, make_bundle
from skerry_simulators.clock import EPOCH_S, TrueClock
from skerry_simulators.device import Surroundings
from skerry_simulators.errors import SimulatorError
from skerry_simulators.heap import Heap
from skerry_simulators.history import History
from skerry_simulators.invariants import Invariants
from skerry_simulators.link import Link
from skerry_simulators.power import Plug
from skerry_simulators.power_device import TrustingDevice
from skerry_simulators.power_fleet import URL, PaperFleet
from skerry_simulators.repository import Repository
from skerry_simulators.storage import Storage

DEVICE, LAST = "lonely", "last"
LIBRARY_BYTES = 24 << 10
PATIENCE_S = 4000.0

Note = Callable[[Fact], None]
Store = Callable[[Path, Plug], Storage]


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """A release that the fleet will have: how it behaves, and whether nothing of the one before is in it."""

    name: str
    kind: Kind = Kind.GOOD
    fresh: bool = False


def state_digest(storage: Storage) -> str:
    """Return a digest of everything in a ledger."""
    running = hashlib.sha256()
    for key, value in sorted(storage.ledger.load().items()):
        running.update(b"%d %d " % (len(key), len(value)) + key.encode() + value)
    for row in storage.ledger.head(1 << 20):
        running.update(repr(row.key).encode() + row.payload)
    return running.hexdigest()[:24]


class Life:
    """A device and its fleet. Two of the same seed and folders are the same device, before and after a cut."""

    def __init__(
        self,
        root: Path,
        folder: Path,
        seed: int,
        offers: Iterable[Offer],
        note: Note,
        *,
        store: Store = storages.real,
    ) -> None:
        """`folder`: the fleet's; `offers`: the releases that it will have, rising; one more, `last`, comes after
        them. Virtual time starts at the real time: what the update repository's expiry is judged by.
        """
        rng = random.Random(f"{seed}/life")
        self.root, self.seed, self._tell = root, seed, note
        self.clock = TrueClock()
        self.clock.now_s = max(0.0, time.time() - EPOCH_S)
        self.heap = Heap(self.clock)
        self.history = History(self.clock)
        self.repository = Repository()
        self.fleet = PaperFleet(folder, self.clock.wall_s)
        director = codec.decode(Trust, self.fleet.office.trust_document).director_keys_pem[0]
        found = load_pem_public_key(director.encode())
        assert isinstance(found, Ed25519PublicKey)
        self._director = found
        self.config: AgentConfig = dataclasses.replace(CONFIG, root=root, observe_s=120.0, observe_predictions=8)
        library = rng.randbytes(LIBRARY_BYTES)
        self.factory = make_bundle("1", 1, Kind.GOOD, rng, library)
        self.repository.add(self.factory)
        self.invariants = Invariants(self.repository, self.factory.id)
        self.bundles: dict[str, MadeBundle] = {}
        before = self.factory
        for release, offered in enumerate([*offers, Offer(LAST)], start=2):
            before = self._make(offered, release, before, rng)
        self.sequence = 0
        self.disturb: Callable[[], None] = lambda: None  # what else may happen on the machine, at any moment
        self.fleet.between = lambda: self.disturb()
        self._store, self.rng = store, rng
        self.link = Link(DEVICE, self.heap, random.Random(f"{seed}/link"), self._hear, lambda _, payload: payload)
        self.link.faults = dataclasses.replace(self.link.faults, loss=0, duplicate=0, hostile=0, delay_s=0.2)
        self.device: TrustingDevice

    def _make(self, offered: Offer, release: int, before: MadeBundle, rng: random.Random) -> MadeBundle:
        """Make a release; unless it is a fresh one, its library differs from the one before in a few places."""
        library = bytearray(before.blobs[before.manifest.variants[0].blobs["library"].sha256])
        for _ in range(40):
            library[rng.randrange(len(library))] ^= 1 << rng.randrange(3)
        if offered.fresh:
            library = bytearray(rng.randbytes(LIBRARY_BYTES))
        made = make_bundle(str(release), release, offered.kind, rng, bytes(library))
        self.bundles[offered.name] = made
        self.repository.publish(made)
        self.fleet.know(made, None if offered.fresh else before)
        self.invariants.signed_for(DEVICE, made.id, downgrade=True)
        return made

    def note(self, **fact: Any) -> None:
        """Tell a fact."""
        self._tell({"at": round(self.clock.now_s, 3), **fact})

    # Switching on and off.

    def prepare(self) -> None:
        """Be the device's maker, and enrol it."""
        plug = Plug()
        kept = self._store(self.root, plug)
        self.device = self._device(kept)
        self.device.provision(self.factory)
        enrol(RealDisk(self.root), self.fleet, URL, self.fleet.claim, DEVICE, HARDWARE)

    def start(self) -> None:
        """Switch on what lies in the folder.

        Raises:
            ViolationError, StorageError: it cannot be taken up.
        """
        kept = self._store(self.root, Plug())
        self.device = self._device(kept)
        self.invariants.resume(DEVICE, kept.ledger.load())
        watched = kept.ledger.observer

        def committed(change: Change) -> None:
            if watched is not None:
                watched(change)
            self.note(**self._committed(kept, change))
            self.disturb()

        kept.ledger.observer = committed
        self.note(state=state_digest(kept))
        self.device.boot()

    def stop(self) -> None:
        """Switch off in an orderly way: the ledger is closed."""
        self.device.ask("stopping")
        self.device.off()
        ledger = self.device.ledger
        if isinstance(ledger, storages.WatchedSqliteLedger):
            ledger.close()

    def _device(self, kept: Storage) -> TrustingDevice:
        inputs = Inputs(random.Random(f"{self.seed}/inputs"), stock=8)
        around = Surroundings(self.heap, self.history, self.repository, inputs, self.invariants, self._director)
        chance = random.Random(f"{self.seed}/device/{self.clock.now_s}")
        return TrustingDevice(DEVICE, around, self.link, chance, kept, self.config, self.fleet)

    def _committed(self, kept: Storage, change: Change) -> Fact:
        """Return what a transaction made durable."""
        fact: Fact = {"state": state_digest(kept), "added": [row.key for row in change.add]}
        puts = change.puts
        if (record := puts.get(f"model:{MODEL}")) is not None:
            found = codec.decode(Record, record)
            fact |= {"floor": found.floor, "stage": found.stage.value}
        if (assignment := puts.get("assignment")) is not None:
            fact["sequence"] = codec.decode(Assignment, assignment).sequence
        if (roles := puts.get("floors")) is not None:
            fact["roles"] = json.loads(roles)
        if (floor_s := puts.get("clock")) is not None:
            fact["clock"] = float(floor_s)
        return fact

    def _hear(self, device: str, channel: str, payload: bytes) -> None:
        if channel in SPOOLED:
            said = codec.parse_json(payload)
            key = (said["boot_id"], said["seq"])
            if key not in self.invariants.stored.setdefault(device, set()):
                self.invariants.stored_once(device, key)
                self.note(stored=key)
            self.link.send_down("ack", codec.encode(Ack((Received(key[0], (key[1],)),))))

    # Living.

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_s = self.clock.now_s + seconds
        while self.heap.step(end_s):
            pass

    def until(self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Let time pass until something is so.

        Raises:
            SimulatorError: it takes too long.
        """
        end_s = self.clock.now_s + patience_s
        while not condition():
            if not self.heap.step(end_s):
                raise SimulatorError(f"never: {what}", hint=f"it runs {self.active[:12]} in stage {self.stage}")

    def predict(self) -> None:
        """Let a local program ask for an inference."""
        if self.device.body is not None:
            self.device.body.predict(MODEL)

    @property
    def stage(self) -> str:
        """Where the update stands."""
        core = self.device.core
        return core.memory.records[MODEL].stage.value if core is not None else ""

    @property
    def active(self) -> str:
        """What serves; empty while the device is off."""
        record = self.device.core.memory.records[MODEL] if self.device.core is not None else None
        return record.active.bundle if record is not None and record.active is not None else ""

    @property
    def drained(self) -> bool:
        """Whether nothing is going on, and nothing waits for the fleet."""
        core = self.device.core
        return core is not None and self.stage == Stage.IDLE.value and core.spool.health.waiting == 0

    def offer(self, bundle: MadeBundle | None, *, downgrade: bool = False) -> None:
        """Assign a bundle (or none), listed before."""
        self.sequence += 1
        if bundle is not None:
            self.fleet.publish(bundle)
        self.note(offered=self.sequence)
        envelope = self.fleet.assign(DEVICE, self.sequence, bundle, downgrade=downgrade)
        self.link.send_down("assignment", envelope)

    def updated(self, bundle: MadeBundle) -> None:
        """Wait until a bundle serves for good, and the fleet knows."""
        self.until(lambda: self.drained and self.active == bundle.id, f"release {bundle.manifest.release} serves")

"""One simulated device with nothing around it but a fleet's key, a repository and somebody who acknowledges what
arrives.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ed25519

from skerry_agent.ledger import Key
from skerry_contracts import codec
from skerry_contracts.assignment import ASSIGNMENT_TYPE, AssignedModel, Assignment, target_path
from skerry_contracts.device import Ack, Received
from skerry_fleet.trust import signing
from skerry_simulators import faults
from skerry_simulators.catalogue import MODEL, TENANT, Inputs, Kind, MadeBundle, make_bundle
from skerry_simulators.clock import TrueClock
from skerry_simulators.device import SimDevice, Surroundings
from skerry_simulators.faults import Faults
from skerry_simulators.heap import Heap
from skerry_simulators.history import History
from skerry_simulators.invariants import Invariants
from skerry_simulators.link import Link
from skerry_simulators.repository import Repository
from skerry_simulators.storage import Storage, simulated

SPOOLED = ("progress", "receipt", "sample", "sketch")


class Alone:
    """A device, its factory bundle (release 1) and the invariants; `offer` plays the fleet."""

    def __init__(
        self, seed: int, weather: Faults = faults.NONE, storage: Storage | None = None, *, boot: bool = True
    ) -> None:
        rng = random.Random(f"{seed}/alone")
        self.clock = TrueClock()
        self.heap = Heap(self.clock)
        self.history = History(self.clock)
        self.repository = Repository()
        self.factory = make_bundle("1", 1, Kind.GOOD, rng)
        self.repository.add(self.factory)
        self.on_stored: Callable[[Key], None] = lambda key: None
        self.made: list[MadeBundle] = []
        self.heard: list[tuple[str, bytes]] = []
        self.invariants = Invariants(self.repository, self.factory.id)
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
        self._rng = rng
        self.sequence = 0
        around = Surroundings(
            self.heap, self.history, self.repository, Inputs(rng), self.invariants, self._key.public_key()
        )
        self.link = Link("lonely", self.heap, random.Random(f"{seed}/link"), self._hear, lambda _, payload: payload)
        self.link.faults = weather
        self.device = SimDevice("lonely", around, self.link, random.Random(f"{seed}/device"), storage or simulated())
        self.device.faults = weather
        if not self.device.storage.provisioned:
            self.device.provision(self.factory)
        if boot:
            self.device.boot()

    def make(self, release: int, kind: Kind = Kind.GOOD) -> MadeBundle:
        """Publish another release."""
        bundle = make_bundle(str(release), release, kind, self._rng)
        self.repository.publish(bundle)
        self.made.append(bundle)
        return bundle

    def offer(self, bundle: MadeBundle, *, allow_downgrade: bool = False, days: float = 30.0) -> bytes:
        """Sign an assignment of this bundle, publish it, and return the envelope."""
        self.sequence += 1
        now_s = int(self.clock.wall_s())
        manifest = bundle.manifest
        assigned = AssignedModel(
            MODEL,
            manifest.version,
            manifest.release,
            bundle.id,
            target_path(MODEL, bundle.id),
            len(bundle.manifest_bytes),
            f"r-{self.sequence}",
            allow_downgrade,
        )
        assignment = Assignment(TENANT, "lonely", self.sequence, now_s, now_s + int(days * 86400), (assigned,))
        self.invariants.signed_for("lonely", bundle.id, downgrade=allow_downgrade)
        envelope = codec.encode(signing.sign(ASSIGNMENT_TYPE, codec.encode(assignment), [self._key]))
        self.link.send_down("assignment", envelope)
        return envelope

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_s = self.clock.now_s + seconds
        while self.heap.step(end_s):
            pass

    @property
    def active(self) -> str:
        """The bundle that serves; empty while the device is off."""
        record = self.device.core.memory.records[MODEL] if self.device.core is not None else None
        return record.active.bundle if record is not None and record.active is not None else ""

    def _hear(self, device: str, channel: str, payload: bytes) -> None:
        self.heard.append((channel, payload))
        if channel in SPOOLED:
            said = codec.parse_json(payload)
            key = (said["boot_id"], said["seq"])
            if key not in self.invariants.stored.setdefault(device, set()):
                self.invariants.stored_once(device, key)
                self.on_stored(key)
            self.link.send_down("ack", codec.encode(Ack((Received(key[0], (key[1],)),))))

"""The invariants, checked after every event of every device, from the world's own books and not from the program's.

I1 nothing runs but what the fleet signed for this device and the repository lists, byte for byte (or the maker's own
bundle). I2 after the first installation a whole, working model is there at every instant, and its worker runs within
a minute of boot. I3 every kept message is in the spool, or in the fleet's store exactly once, or counted as dropped.
I5 release floors, adopted sequences, believed role versions and the clock floor never fall; no downgrade without a
signed order. I8 ticks come at a bounded rate; when faults end, everyone converges (`world.py` asks at the end). I9
spool, store and downloads stay within their bounds. I10 a wrong clock never stops a model (I2 is checked under wrong
clocks as under right ones).

I4 is `exposure.py`. I6 (audit) and I7 (fences between devices) belong to the fleet's and the broker's own tests.
"""

from __future__ import annotations

import dataclasses
import json

from skerry_agent import effects
from skerry_agent.ledger import Change, Key
from skerry_agent.records import Installed, Record, Stage
from skerry_agent.spool import TOTALS
from skerry_agent.store import BLOBS, BUNDLES, PARTIAL, needed
from skerry_contracts import codec
from skerry_simulators.catalogue import MODEL, Kind
from skerry_simulators.device import SimDevice
from skerry_simulators.errors import ViolationError
from skerry_simulators.repository import Repository
from skerry_simulators.updates import Updates

WORKER_WITHIN_S = 60.0
MOST_TICKS_AN_HOUR = 3600
MOST_BUNDLES, MOST_DOWNLOADS, MOST_BLOBS = 8, 24, 32  # what is kept, and what a power cut may bring back


@dataclasses.dataclass(slots=True)
class _Book:
    """What the world knows of one device."""

    floor: int = 0
    sequence: int = 0
    clock_floor_s: float = 0.0
    role_floors: dict[str, int] = dataclasses.field(default_factory=dict)
    made: int = 0
    acked: int = 0
    dropped: int = 0
    active: str = ""
    served: set[str] = dataclasses.field(default_factory=set)
    signed: dict[str, bool] = dataclasses.field(default_factory=dict)  # bundle: a downgrade to it was allowed
    shadowed: set[str] = dataclasses.field(default_factory=set)
    silent_since_s: float | None = None
    hour: int = -1
    ticks: int = 0


class Invariants:
    """The checker of all devices of a world."""

    def __init__(self, repository: Repository, factory: str) -> None:
        self.repository = repository
        self.factory = factory
        self.stored: dict[str, set[Key]] = {}  # device: what the fleet has committed
        self.checks = 0
        self.updates = Updates()
        self.asked = self.unanswered = 0
        self._books: dict[str, _Book] = {}

    def book(self, device: str) -> _Book:
        """Return the book of a device."""
        found = self._books.get(device)
        if found is None:
            found = self._books[device] = _Book(served={self.factory})
            self.stored.setdefault(device, set())
        return found

    def resume(self, device: str, stored: dict[str, bytes]) -> None:
        """Begin the book of a device that another process drove before, with what its ledger says."""
        book, totals = self.book(device), json.loads(stored.get(TOTALS, b"{}"))
        book.made, book.acked, book.dropped = (totals.get(each, 0) for each in ("made", "acked", "dropped"))

    # What the fleet did.

    def signed_for(self, device: str, bundle: str, *, downgrade: bool) -> None:
        """The fleet signed an assignment of this bundle to this device."""
        signed = self.book(device).signed
        signed[bundle] = downgrade or signed.get(bundle, False)
        made = self.repository.bundles.get(bundle)
        self.updates.offered(device, MODEL, bundle if made is not None and made.kind is Kind.GOOD else None)

    def withdrawn(self, device: str) -> None:
        """The fleet signed an assignment that names no model."""
        self.updates.offered(device, MODEL, None)

    def shadowed_for(self, device: str, bundle: str) -> None:
        """The fleet signed an assignment in which this device is to try a bundle in the shadow."""
        self.book(device).shadowed.add(bundle)

    def hit(self, device: SimDevice, kind: str) -> None:
        """Something went wrong for a device."""
        self.updates.hit(device.name, kind)

    def answered(self, device: SimDevice, answered: bool) -> None:
        """A program on the device asked for an inference."""
        self.asked += 1
        self.unanswered += not answered

    def stored_once(self, device: str, key: Key) -> None:
        """The fleet committed a message to its store."""
        self.book(device)
        if key in self.stored[device]:
            raise ViolationError("I3", "fleet", f"message {key[0]}/{key[1]} of {device} is stored twice")
        self.stored[device].add(key)

    # What the device did.

    def loading(self, device: SimDevice, bundle: str, variant: str) -> None:
        """I1 and the bytes of what is about to run."""
        if bundle != self.factory:
            book = self.book(device.name)
            if bundle not in book.signed and bundle not in book.shadowed:
                raise ViolationError("I1", device.name, f"loads {bundle[:12]}, which nobody signed for it")
            if bundle not in self.repository.published:
                raise ViolationError("I1", device.name, f"loads {bundle[:12]}, which the repository does not list")
        truth = self.repository.bundles[bundle]
        blobs = next(each for each in truth.manifest.variants if each.id == variant).blobs.values()
        if any(device.storage.truth(f"{BLOBS}/{blob.sha256}") != truth.blobs[blob.sha256] for blob in blobs):
            raise ViolationError("I1", device.name, f"loads {bundle[:12]}, whose bytes are not the published ones")

    def asking(self, device: SimDevice, effect: effects.FetchManifest) -> None:
        """I5: the role versions the device still believes in."""
        self._floors(device, dict(effect.floors))

    def committed(self, device: SimDevice, change: Change) -> None:
        """I3: the accounts after a transaction."""
        raw = change.puts.get(TOTALS)
        if raw is None:
            if change.add or change.remove:
                raise ViolationError("I3", device.name, "the spool changed without its totals")
            return
        book, stored = self.book(device.name), self.stored[device.name]
        totals = json.loads(raw)
        rows, _ = device.ledger.size()
        if totals["made"] != totals["acked"] + totals["dropped"] + rows:
            raise ViolationError("I3", device.name, f"{totals} do not add up with {rows} in the spool")
        safe = sum(key in stored for key in change.remove)
        acked, dropped = totals["acked"] - book.acked, totals["dropped"] - book.dropped
        if acked > safe:
            lost = [key for key in change.remove if key not in stored]
            raise ViolationError("I3", device.name, f"{lost[:3]} counted as acknowledged, but the fleet has them not")
        if acked < 0 or dropped < 0 or totals["made"] < book.made:
            raise ViolationError("I3", device.name, f"{totals}: a total fell")
        book.made, book.acked, book.dropped = totals["made"], totals["acked"], totals["dropped"]

    def booting(self, device: SimDevice) -> None:
        """I2: whatever the ledger says is installed is whole, also after a power cut, before the core can mend it."""
        raw = device.ledger.load().get(f"model:{MODEL}")
        if raw is None:
            return
        record = codec.decode(Record, raw)
        for installed in (record.active, record.previous, record.factory):
            if installed is not None:
                self._check_installed(device, installed)

    def after(self, device: SimDevice) -> None:
        """Check everything that can be wrong after an event on this device."""
        core, body = device.core, device.body
        if core is None or body is None:
            return
        self.checks += 1
        book = self.book(device.name)
        record = core.memory.records.get(MODEL)
        if record is None or record.active is None:
            self._bare(device, book)
            return
        if record.floor < book.floor or core.memory.sequence < book.sequence:
            raise ViolationError(
                "I5",
                device.name,
                f"floor {book.floor} -> {record.floor}, sequence {book.sequence} -> {core.memory.sequence}",
            )
        if core.memory.clock_floor_s < book.clock_floor_s:
            raise ViolationError("I5", device.name, "the clock floor fell")
        if record.active.bundle != book.active:
            self._activated(device, book, record, record.active)
        book.floor, book.sequence = record.floor, core.memory.sequence
        book.clock_floor_s = core.memory.clock_floor_s
        self._outcome(device, record)
        self._worker(device, book)
        self._pace(device, book)

    def bounded(self, device: SimDevice) -> None:
        """I9, looked at now and then."""
        _, spooled = device.ledger.size()
        if spooled > device.config.spool_quota_bytes:
            allowed = device.config.spool_quota_bytes
            raise ViolationError("I9", device.name, f"{spooled} bytes spooled, {allowed} allowed")
        bundles, partial = device.disk.names(BUNDLES), device.disk.names(PARTIAL)
        blobs = device.disk.names(BLOBS)
        if len(bundles) > MOST_BUNDLES or len(partial) > MOST_DOWNLOADS or len(blobs) > MOST_BLOBS:
            kept = f"{len(bundles)} bundles, {len(blobs)} blobs and {len(partial)} downloads"
            raise ViolationError("I9", device.name, f"{kept} are kept")

    # Inside.

    def _check_installed(self, device: SimDevice, installed: Installed) -> None:
        if self._rotten(device, installed.bundle):
            return  # found when it is loaded: no state of the disk could be better
        if not self._whole(device, installed.bundle, installed.measured.variant):
            raise ViolationError("I2", device.name, f"{installed.bundle[:12]} is installed, but not whole on the disk")

    def _whole(self, device: SimDevice, bundle: str, variant: str) -> bool:
        truth = self.repository.bundles.get(bundle)
        if truth is None:
            return False
        chosen = [each for each in truth.manifest.variants if each.id == variant]
        wanted = {f"{BLOBS}/{blob.sha256}": truth.blobs[blob.sha256] for blob in needed(truth.manifest, chosen)}
        wanted[f"{BUNDLES}/{bundle}/manifest.json"] = truth.manifest_bytes
        storage = device.storage
        return bool(chosen) and all(storage.truth(path) == content for path, content in wanted.items())

    def _rotten(self, device: SimDevice, bundle: str) -> bool:
        """Return whether bits of a bundle rotted on this device and were not put right yet."""
        truth = self.repository.bundles[bundle]
        wanted = {f"{BLOBS}/{sha256}": content for sha256, content in truth.blobs.items()}
        wanted[f"{BUNDLES}/{bundle}/manifest.json"] = truth.manifest_bytes
        storage = device.storage
        return any(storage.damaged(path) and storage.truth(path) != content for path, content in wanted.items())

    def _activated(self, device: SimDevice, book: _Book, record: Record, active: Installed) -> None:
        self._check_installed(device, active)
        if active.bundle not in book.signed and active.bundle not in book.served:
            raise ViolationError("I1", device.name, f"{active.bundle[:12]} serves, and nobody ordered that it should")
        back = active.bundle in book.served
        if active.release < record.floor and not back and not book.signed.get(active.bundle, False):
            raise ViolationError("I5", device.name, f"release {active.release} below the floor {record.floor}")
        book.active = active.bundle
        book.served.add(active.bundle)

    def _bare(self, device: SimDevice, book: _Book) -> None:
        """I2 where no model is active. That is so only on a device that could not yet take down what it serves, whose
        medium fails or has spoilt the maker's bundle, and nothing else is there; what can be read serves in a minute.
        """
        raw = device.ledger.load().get(f"model:{MODEL}")
        if raw is not None and codec.decode(Record, raw).active is not None:
            raise ViolationError("I2", device.name, "no model is active")
        if raw is None:  # a floor read off a bundle that has rotted since, and that no ledger could take down
            book.floor = 0
        self._worker(device, book)
        self._pace(device, book)

    def _worker(self, device: SimDevice, book: _Book) -> None:
        body, now_s = device.body, device.clock.true.now_s
        worker = body.live.get(MODEL) if body is not None else None
        spared = device.pressed or device.storage.failing or self._nothing_left(device)
        if spared or (worker is not None and worker.running):
            book.silent_since_s = None
            return
        since_s = max(device.clock.boot_s, book.silent_since_s or now_s)
        book.silent_since_s = since_s
        if now_s - since_s > WORKER_WITHIN_S:
            raise ViolationError("I2", device.name, f"no worker runs since {since_s:.0f} s")

    def _nothing_left(self, device: SimDevice) -> bool:
        """Return whether every bundle that could serve has rotted."""
        record = device.core.memory.records.get(MODEL) if device.core is not None else None
        known = (record.active, record.previous, record.factory) if record is not None else ()
        bundles = {each.bundle for each in known if each is not None} or {self.factory}
        return all(self._rotten(device, each) for each in bundles)

    def _outcome(self, device: SimDevice, record: Record) -> None:
        """Tell the books of updates what became of the one that is open."""
        wanted = self.updates.wanted(device.name, MODEL)
        if wanted is None or record.order is None or record.order.bundle != wanted:
            return
        if record.stage is not Stage.IDLE:
            self.updates.gave_up(device.name, MODEL, "")  # or took it up again
        elif record.active is not None and record.active.bundle == wanted:
            self.updates.committed(device.name, MODEL)
        else:
            self.updates.gave_up(device.name, MODEL, f"{record.trouble}: {record.trouble_detail}")

    def _pace(self, device: SimDevice, book: _Book) -> None:
        hour = int(device.clock.true.now_s // 3600)
        if hour != book.hour:
            book.hour, book.ticks = hour, device.ticks
            self.bounded(device)
        elif device.ticks - book.ticks > MOST_TICKS_AN_HOUR:
            raise ViolationError(
                "I8", device.name, f"more than {MOST_TICKS_AN_HOUR} ticks in an hour: it does not rest"
            )

    def _floors(self, device: SimDevice, floors: dict[str, int]) -> None:
        before = self.book(device.name).role_floors
        lower = [role for role, version in before.items() if floors.get(role, 0) < version]
        if lower:
            raise ViolationError(
                "I5", device.name, f"believes a {lower[0]} older than version {before[lower[0]]} again"
            )
        before.update(floors)

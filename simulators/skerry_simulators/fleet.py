"""The simulated fleet: the real ingest core, rollout service, director and tables on SQLite in memory, in virtual time.

Its process can die at any moment between two transactions: what it had not committed is gone, what the broker has for
it meanwhile too (clean sessions). Its database never dies.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TypeVar

import sqlalchemy
from cryptography.hazmat.primitives.asymmetric import ed25519
from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.assignment import ASSIGNMENT_TYPE, RECEIPT_TYPE, Assignment, Envelope, Receipt
from skerry_contracts.errors import MismatchError
from skerry_contracts.topics import parse, topic
from skerry_fleet import director, presence
from skerry_fleet import shadow_orders as shadows
from skerry_fleet.audit import Actor
from skerry_fleet.database import Database, Event
from skerry_fleet.errors import ConflictError
from skerry_fleet.ingest import Committed, IngestCore, IngestStore
from skerry_fleet.ingest_store import SqlIngestStore
from skerry_fleet.rollout_effects import Executor
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.rollout_words import Order
from skerry_fleet.rollouts import Rollouts
from skerry_fleet.tables import Bundle, BundleState, Device, DeviceState, Model, SignedAssignment
from skerry_fleet.trust import signing
from skerry_fleet.trust.errors import SignatureError
from skerry_simulators.catalogue import HARDWARE, MODEL, TENANT, MadeBundle
from skerry_simulators.exposure import Exposure
from skerry_simulators.heap import Heap
from skerry_simulators.history import History
from skerry_simulators.invariants import Invariants
from skerry_simulators.link import Link

BATCH_S = 120.0
TICK_S = 300.0
SILENT_AFTER_S = 1800.0
ASSIGNMENT_DAYS = 30.0
PERSON = Actor(TENANT, "key:simulator")
T = TypeVar("T")


class SimFleet:
    """The fleet's process and its database. `core` and `rollouts` exist while the process lives."""

    def __init__(
        self,
        heap: Heap,
        history: History,
        rng: random.Random,
        links: Mapping[str, Link],
        keys: Mapping[str, ed25519.Ed25519PublicKey],
        invariants: Invariants,
    ) -> None:
        self.heap, self.history, self.rng = heap, history, rng
        self.invariants, self.exposure = invariants, Exposure()
        self.key = ed25519.Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
        self.envelopes: dict[str, list[bytes]] = {}  # what was ever signed, for those who replay
        self.core: IngestCore | None = None
        self.rollouts: Rollouts | None = None
        self.database = Database("sqlite://")
        self.database.listeners.append(self._told)
        self.mortality = 0.0  # chance to die between two steps of handling a batch
        self.links = links
        self._keys = keys
        self._signed: dict[tuple[str, int], Assignment] = {}
        self._unpublished = True
        self._seen = dict.fromkeys(_NEW, 0)
        self._life = 0

    # Life.

    def enrol(self) -> None:
        """Write the rows that enrolment and registration leave."""
        with self.database.write() as session:
            session.add(Model(tenant=TENANT, name=MODEL))
            for name in self.links:
                session.add(Device(tenant=TENANT, name=name, hardware=codec.encode(HARDWARE).decode()))
                session.add(DeviceState(tenant=TENANT, name=name))

    def make_core(self) -> IngestCore:
        """Return the ingest core of a new process; a planted bug is a subclass that returns another."""
        return IngestCore(self.make_store(), self._check_receipt)

    def make_store(self) -> IngestStore:
        """Return the store of a new process."""
        return SqlIngestStore(self.database, 1000, TENANT)

    def start(self) -> None:
        """Start the process: everything it knows, it reads from the database."""
        if self.core is not None:
            return
        self._life += 1
        self.core = self.make_core()
        self.rollouts = Rollouts(self.database, Executor(self._sign, ASSIGNMENT_DAYS), self.rng.randbytes)
        self.history.add("fleet", "start")
        self._publish(everything=True)
        self.heap.after(TICK_S, self._tick, self._life)

    def kill(self) -> None:
        """End the process without a word; what it held in memory is lost."""
        if self.core is not None:
            self.core = self.rollouts = None
            self._life += 1
            self.history.add("fleet", "killed")
            self.invariants.updates.hit_all("fleet killed")

    # What it hears and does.

    def hear(self, device: str, channel: str, payload: bytes) -> None:
        """A message came from the broker."""
        if self.core is None:
            return
        if not len(self.core):
            self.heap.after(BATCH_S, self._flush, self._life)
        self.core.accept(topic(TENANT, device, channel), payload, self.heap.clock.wall_s())

    def publish_bundle(self, bundle: MadeBundle) -> None:
        """Register a bundle, as an upload does."""
        manifest = bundle.manifest
        with self.database.write() as session:
            session.add(
                Bundle(
                    tenant=TENANT,
                    id=bundle.id,
                    model=MODEL,
                    version=manifest.version,
                    release=manifest.release,
                    target=manifest.target,
                    state=BundleState.PUBLISHED.value,
                    size_bytes=sum(len(data) for data in bundle.blobs.values()),
                    manifest=bundle.manifest_bytes.decode(),
                    created_ms=int(self.heap.clock.wall_s() * 1000),
                )
            )

    def create_rollout(self, request: RolloutRequest) -> str | None:
        """Start a rollout, as a person does; returns its id, or None where the fleet refuses or is down."""
        if self.rollouts is None:
            return None
        try:
            with self.rollouts.open() as session:
                view = self.rollouts.create(session, PERSON, self.heap.clock.wall_s(), request)
                self.exposure.begin(view["id"], request.bundle, request.plan())
        except ConflictError as error:
            self.history.add("fleet", "refused", str(error)[:80])
            return None
        self.history.add("fleet", "rollout", f"{view['id']} {request.bundle[:8]}")
        self._publish()
        return str(view["id"])

    def act(self, action: Callable[[Session, shadows.Pen, float], T]) -> T | None:
        """Let a person do something; None where the fleet refuses or is down."""
        if self.rollouts is None:
            return None
        try:
            with self.rollouts.open() as session:
                done = action(session, shadows.Pen(self._sign, ASSIGNMENT_DAYS), self.heap.clock.wall_s())
        except ConflictError as error:
            self.history.add("fleet", "refused", str(error)[:80])
            return None
        self._publish()
        return done

    def order(self, rollout: str, order: Order) -> bool:
        """Give a rollout an order; return whether it took it."""
        if self.rollouts is None:
            return False
        try:
            with self.rollouts.open() as session:
                self.rollouts.order(session, PERSON, self.heap.clock.wall_s(), rollout, order)
        except ConflictError:
            return False
        self.history.add("fleet", f"order {order}", rollout)
        self._publish()
        return True

    def _flush(self, life: int) -> None:
        if life != self._life or self.core is None or self.rollouts is None or not len(self.core):
            return
        committed = self.core.commit()
        self._count_stored()
        for beat in committed.written.beats:
            for model in beat.record.models:
                self.exposure.shown(beat.device, model.bundle)
        if self._dies():
            return
        self._acknowledge(committed)
        if self._dies():
            return
        now = self.heap.clock.wall_s()
        with self.rollouts.open() as session:
            self.rollouts.observe(session, now, committed.written.beats, committed.written.turned)
        self._publish()

    def _dies(self) -> bool:
        """Whether the process happens to die here, between two steps; somebody starts it again."""
        if self.rng.random() >= self.mortality:
            return False
        self.kill()
        self.heap.after(self.rng.uniform(5, 60), self.start)
        return True

    def _acknowledge(self, committed: Committed) -> None:
        for where, payload in committed.acks:
            self.links[parse(where).device].send_down("ack", payload)

    def _tick(self, life: int) -> None:
        if life != self._life or self.rollouts is None:
            return
        now = self.heap.clock.wall_s()
        with self.rollouts.open() as session:
            silent = presence.sweep(session, now, SILENT_AFTER_S)
            if silent:
                self.rollouts.unreachable(session, now, silent)
            self.rollouts.tick(session, now)
            shadows.expire(session, shadows.Pen(self._sign, ASSIGNMENT_DAYS), now)
            director.renew(session, self._sign, now, ASSIGNMENT_DAYS)
        self._publish()
        self.heap.after(TICK_S, self._tick, life)

    def _publish(self, *, everything: bool = False) -> None:
        """Publish assignments that the broker does not have yet."""
        if not self._unpublished and not everything:
            return
        self._unpublished = False
        query = select(SignedAssignment).where(SignedAssignment.tenant == TENANT).order_by(col(SignedAssignment.device))
        if not everything:
            query = query.where(col(SignedAssignment.published).is_(False))
        with self.database.write() as session:
            rows = session.exec(query).all()
            for row in rows:
                self.links[row.device].send_down("assignment", row.envelope.encode())
                row.published = True
                session.add(row)

    # Trust.

    def _sign(self, assignment: Assignment) -> bytes:
        envelope = codec.encode(signing.sign(ASSIGNMENT_TYPE, codec.encode(assignment), [self.key]))
        self._signed[assignment.device, assignment.sequence] = assignment
        self.envelopes.setdefault(assignment.device, []).append(envelope)
        return envelope

    def _check_receipt(self, tenant: str, device: str, envelope: Envelope) -> Receipt:
        try:
            payload = signing.verify(envelope, RECEIPT_TYPE, [self._keys[device]])
        except SignatureError as error:
            raise MismatchError("receipt", str(error)) from error
        return codec.decode(Receipt, payload)

    # The world's books.
    def _told(self, events: list[Event]) -> None:
        """The database has committed: assignments now count as given."""
        for event in events:
            if event.kind == "assignment":
                self._unpublished = True
                self._given(str(event.data["device"]), int(event.data["sequence"]))
            elif event.kind == "rollout":
                self.history.add("fleet", "moved", f"{event.data['rollout']} {event.data['status']}")

    def _given(self, device: str, sequence: int) -> None:
        assignment = self._signed.pop((device, sequence))
        self.history.add("fleet", "assign", f"{device} {sequence}")
        if not assignment.models:
            self.invariants.withdrawn(device)
        for each in assignment.models:
            self.invariants.signed_for(device, each.bundle, downgrade=each.allow_downgrade)
            self.exposure.ordered(device, each.bundle, each.rollout)
            if each.shadow is not None:
                self.invariants.shadowed_for(device, each.shadow.bundle)

    def _count_stored(self) -> None:
        """Note every message that the last commit stored, by what stands in the record itself."""
        with self.database.read() as session:
            for table, last in self._seen.items():
                rows = session.connection().execute(_NEW[table], {"last": last}).all()
                for row in rows:
                    key = (row.boot_id, row.seq)
                    if row.record:
                        said = codec.parse_json(row.record.encode())
                        key = (said["boot_id"], said["seq"])
                    self.invariants.stored_once(row.device, key)
                    self._seen[table] = row.id


_RECORDS = dict.fromkeys(("progress", "receipt"), "''") | dict.fromkeys(("sample", "sketch", "shadow_report"), "record")
_NEW = {
    table: sqlalchemy.text(
        f"SELECT id, device, boot_id, seq, {record} AS record FROM {table} WHERE id > :last ORDER BY id"
    )
    for table, record in _RECORDS.items()
}

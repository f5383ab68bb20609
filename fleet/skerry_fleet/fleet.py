"""The fleet manager's parts, put together: what routes, link and ticker work with."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlmodel import func, select

from skerry_contracts.assignment import Envelope, Receipt
from skerry_contracts.errors import MismatchError
from skerry_fleet import apikeys, director, incidents, leaving, measurements, placement, presence, renewal, retention
from skerry_fleet import shadow_orders as shadows
from skerry_fleet.alert_rules import Limits
from skerry_fleet.alert_watch import AlertWatch
from skerry_fleet.apikeys import Role
from skerry_fleet.audit import Actor
from skerry_fleet.blobs import Blobs, open_blobs
from skerry_fleet.config import Clock, FleetConfig, RandomBytes
from skerry_fleet.database import Database
from skerry_fleet.deltas import Deltas
from skerry_fleet.errors import ConflictError, UnavailableError
from skerry_fleet.group_queries import GroupWatch
from skerry_fleet.ingest import CheckReceipt, IngestCore
from skerry_fleet.ingest_store import SqlIngestStore
from skerry_fleet.known_keys import KnownKeys
from skerry_fleet.leases import Leases
from skerry_fleet.metrics import Metrics
from skerry_fleet.outages import OutageLimits, Outages
from skerry_fleet.registry import Registry
from skerry_fleet.rollout_effects import Executor
from skerry_fleet.rollouts import Rollouts
from skerry_fleet.tables import ApiKey, Device, DeviceStatus
from skerry_fleet.trust import durable
from skerry_fleet.trust.director import verify_receipt
from skerry_fleet.trust.errors import TrustError
from skerry_fleet.trust.office import TrustOffice, open_office
from skerry_fleet.vault import unlock

log = logging.getLogger(__name__)
RENEW_EVERY_S = 60.0
RETAIN_EVERY_S = 60.0
MAINTAIN_EVERY_S = 3600.0
SWEEPS = 10
"""Transactions of one tick in which devices are called silent."""


@dataclasses.dataclass(slots=True)
class Fleet:
    """One fleet manager. `brokers` is where devices reach it, a shard each, and `broker` the first of them. `new_key`
    is the admin's key where this start made it."""

    config: FleetConfig
    clock: Clock
    random: RandomBytes
    database: Database
    office: TrustOffice
    blobs: Blobs
    deltas: Deltas
    registry: Registry
    rollouts: Rollouts
    core: IngestCore
    metrics: Metrics
    keys: KnownKeys
    watch: AlertWatch
    outages: Outages
    queries: GroupWatch
    started: float
    lock: int
    new_key: str | None = None
    broker: tuple[str, int] = ("", 0)
    brokers: tuple[tuple[str, int], ...] = ()
    shut_out: Callable[[str], None] = lambda identity: None
    """Ends the connection of `<tenant>/<device>` and lets its certificate in no more; set by whoever runs the
    broker.
    """
    reached: Callable[[], Sequence[bool]] = lambda: ()
    """Says which shards' brokers the link is connected to; set by whoever runs it."""
    renewed: float = 0.0
    maintained: float = 0.0
    retained: float = 0.0

    def tick(self) -> None:
        """Look at everything that time alone changes: silence, timers, assignments and metadata that grow old."""
        now, config = self.clock(), self.config
        with self.database.read() as session:
            found = self.watch.look(session, now)
        # After a start every device has the time to be heard once before it can be called silent.
        if now - self.started >= config.silent_after_s:
            self._sweep(now)
        with self.rollouts.open() as session:
            self.watch.apply(session, now, found)
            self.outages.look(session, now)
            self.outages.brokers(session, config.tenant, now, self.reached())
            self.rollouts.tick(session, now)
            shadows.expire(session, self.pen, now)
            self.leases.tick(session, now)
            incidents.tick(session, now, config.incident_wait_s, config.escalate_after_s)
            if now - self.renewed >= RENEW_EVERY_S:
                director.renew(session, self.office.director.sign_assignment, now, self.config.assignment_days)
                self.renewed = now
        self.queries.tick(now)
        if now - self.retained >= RETAIN_EVERY_S:
            self.retained = now
            for table, rows in retention.run(self.database, self.config, now).items():
                if rows:
                    log.info("deleted %d old rows of %s", rows, table)
        if now - self.maintained >= MAINTAIN_EVERY_S:
            self.maintained = now
            self._maintain(now)

    def _sweep(self, now: float) -> None:
        """Call devices silent, a few in each transaction, so that ingest is never kept waiting for all of them."""
        for _ in range(SWEEPS):
            with self.rollouts.open() as session:
                silent = presence.sweep(session, now, self.config.silent_after_s)
                if silent:
                    self.rollouts.unreachable(session, now, silent)
            if len(silent) < presence.SWEPT:
                return
            time.sleep(0.001)  # a lock is not fair: whoever waits for it gets a turn

    def offer(self) -> None:
        """Go on with offers that were too many for one transaction."""
        with self.rollouts.open() as session:
            self.rollouts.tick(session, self.clock())

    @property
    def pen(self) -> shadows.Pen:
        """What signs assignments."""
        return shadows.Pen(self.office.director.sign_assignment, self.config.assignment_days)

    @property
    def leases(self) -> Leases:
        """What lends boards for measuring."""
        return Leases(self.config.root / "measuring", self.office.repository, self.pen, self.random)

    def _maintain(self, now: float) -> None:
        """Keep the update repository fresh; what needs a person is said, and nothing else waits for it."""
        with self.database.write() as session:
            measurements.tidy(session, now, self.config.measurement_days)
        try:
            self.office.repository.refresh_timestamp(now)
            for line in self.office.repository.maintain(now):
                log.warning("update repository: %s", line)
        except (TrustError, OSError) as error:
            log.error("the update repository cannot be kept fresh: %s", error)

    def revoked(self) -> list[int]:
        """Return the serial numbers that the broker must refuse."""
        with self.database.read() as session:
            return leaving.revoked_serials(session, self.clock())

    def close(self) -> None:
        """Give back the database and the lock on the folder."""
        self.deltas.close()
        self.database.close()
        os.close(self.lock)


def open_fleet(config: FleetConfig, clock: Clock, random: RandomBytes) -> Fleet:
    """Open the fleet in `config.root`; made where it is missing. The broker is not started here.

    Raises:
        ConflictError: another process works with this folder.
        UnavailableError: the folder or the database cannot be used, or the keys are not in order.
    """
    try:
        durable.make_dirs(config.root, 0o700)
        lock = lock_folder(config.root)
    except OSError as error:
        raise UnavailableError(f"cannot use {config.root}: {error.strerror}", hint="choose another --root") from error
    with contextlib.ExitStack() as opened:  # whatever fails, what was opened is given back
        opened.callback(os.close, lock)
        fleet = _open(config, clock, random, lock, opened)
        opened.pop_all()
    return fleet


def _open(config: FleetConfig, clock: Clock, random: RandomBytes, lock: int, opened: contextlib.ExitStack) -> Fleet:
    now = clock()
    database = Database(config.url)
    opened.callback(database.close)
    with database.read() as session:
        placement.check(session, config.shards)
    unlock(database, config.root)
    try:
        office = open_office(config.root / "trust", config.tenant, now)
    except TrustError as error:
        raise UnavailableError(f"the fleet's keys are not in order: {error}", hint=error.hint) from error
    blobs = open_blobs(config)
    deltas = Deltas(config.root / "deltas", blobs, database)
    opened.callback(deltas.close)
    registry = Registry(database, blobs, office.repository, clock)
    registry.published = deltas.prepare
    executor = Executor(office.director.sign_assignment, config.assignment_days)
    rollouts = Rollouts(database, executor, random)
    outages = Outages(OutageLimits(config.alert_lost_devices, config.alert_lost_share, config.alert_broker_s))
    store = SqlIngestStore(database, config.dead_letters, config.tenant, outages)
    fleet = Fleet(
        config=config,
        clock=clock,
        random=random,
        database=database,
        office=office,
        blobs=blobs,
        deltas=deltas,
        registry=registry,
        rollouts=rollouts,
        core=IngestCore(store, receipt_checker(database)),
        metrics=Metrics(database, config.tenant, clock),
        keys=KnownKeys(database),
        watch=AlertWatch(Limits.of(config)),
        outages=outages,
        queries=GroupWatch(database, rollouts),
        started=now,
        lock=lock,
    )
    fleet.new_key = _first_key(fleet, now)
    registry.finish_drafts()
    with rollouts.open() as session:
        rollouts.observe(session, now, (), ())  # what was committed but not looked at when the last process ended
    return fleet


def receipt_checker(database: Database) -> CheckReceipt:
    """Return the function that checks a receipt against the certificate the fleet gave its sender."""

    def check(tenant: str, device: str, envelope: Envelope) -> Receipt:
        with database.read() as session:
            row = session.get(Device, (tenant, device))
        if row is None or row.status != DeviceStatus.ACTIVE:
            raise MismatchError("device", f"no device {device}")
        try:
            return verify_receipt(envelope, *renewal.certificates(row))
        except TrustError as error:
            raise MismatchError("signatures", str(error)) from error

    return check


def lock_folder(root: Path) -> int:
    """Take the lock on a fleet's folder; it is given back by closing the descriptor.

    Raises:
        ConflictError: another process works with this folder.
    """
    descriptor = os.open(root / "fleet.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConflictError(f"another fleet manager works in {root}", hint="stop it, or use another --root") from error
    return descriptor


def _first_key(fleet: Fleet, now: float) -> str | None:
    """Make the first admin's key, and write it where only this user can read it."""
    with fleet.database.write() as session:
        if session.exec(select(func.count()).select_from(ApiKey)).one():
            return None
        _, text = apikeys.create(
            session, Actor(fleet.config.tenant, "system:start"), now, fleet.random, "first", Role.ADMIN
        )
        # Before the commit: a key that nobody knows would lock everyone out, a file without a key only asks for a new
        # start.
        durable.write_file(fleet.config.root / "admin.key", f"{text}\n".encode(), 0o600)
    return text


def broker_port(config: FleetConfig, shard: int = 0, chosen: int = 0) -> int:
    """Return a broker's port: the one configured, else the one of its first start, which devices remember; 0: none
    yet.

    `chosen` is kept where there is none yet.
    """
    if config.broker_port:
        return config.broker_port + shard
    path = config.root / ("broker.port" if shard == 0 else f"broker-{shard}.port")
    if path.is_file():
        return int(path.read_text("ascii"))
    if chosen:
        durable.write_file(path, f"{chosen}\n".encode())
    return chosen

"""Leases of boards: asked for, queued, granted, measured on, and always ended. The rules are `lease_machine.py`'s.

Candidates come as a bundle of the reserved model; they are kept apart from the registry's blobs, listed in the update
repository under a role that nothing can install, ordered in one device's signed assignment, and forgotten with the
lease.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import func
from sqlmodel import Session, col, select

from skerry_contracts import codec, names
from skerry_contracts.assignment import target_path
from skerry_contracts.bundle import Predicates
from skerry_contracts.container import Container, open_container
from skerry_contracts.errors import ContractError
from skerry_contracts.measuring import FINAL as TOLD_FINAL
from skerry_contracts.measuring import MAX_CANDIDATES, MODEL, MeasureOrder, MeasureState
from skerry_fleet import audit, lease_boards, measurements
from skerry_fleet import lease_machine as machine
from skerry_fleet.audit import Actor
from skerry_fleet.blobs import BlobStore
from skerry_fleet.config import RandomBytes
from skerry_fleet.database import announce
from skerry_fleet.errors import ConflictError, InputError, TooLargeError, UnavailableError
from skerry_fleet.lease_boards import Wanted
from skerry_fleet.lease_machine import ACTIVE, Effect, Event, Lease, LeaseStatus
from skerry_fleet.lease_request import LeaseRequest, Terms
from skerry_fleet.measure_tables import MeasureLease
from skerry_fleet.shadow_orders import Pen
from skerry_fleet.tables import Device, DeviceState, DeviceStatus
from skerry_fleet.trust.errors import TrustError
from skerry_fleet.trust.repository import Repository

SYSTEM = "system:measure"
MAX_OPEN = 64  # of a tenant, queued ones included
MAX_BYTES = 512_000_000  # of all candidates together
MEMORY_SHARE = 0.5  # of a board's memory: what one candidate may take


@dataclasses.dataclass(frozen=True, slots=True)
class Leases:
    """What leases need besides the database: `folder` holds the candidates' blobs, a folder a lease."""

    folder: Path
    repository: Repository
    pen: Pen
    random: RandomBytes

    def create(self, session: Session, actor: Actor, now: float, request: LeaseRequest) -> MeasureLease:
        """Ask for a board; it is granted at once where one is free.

        Raises:
            MissingError: no board of this profile, or no such device.
            ConflictError: it does not fit or take part, or too many wait.
            UnavailableError: the update repository has no role for candidates, and its key is kept offline.
        """
        wanted = Wanted(request.profile, request.requires, request.device or "")
        lease_boards.check(session, actor.tenant, wanted)
        waiting = select(func.count()).where(
            MeasureLease.tenant == actor.tenant, col(MeasureLease.status).in_([*ACTIVE, LeaseStatus.QUEUED])
        )
        if session.exec(waiting).one() >= MAX_OPEN:
            raise ConflictError(f"{MAX_OPEN} leases are open already", hint="wait until some are over")
        try:
            self.repository.register_model(MODEL, now)
        except TrustError as error:
            raise UnavailableError(f"the update repository refuses: {error}", hint=error.hint) from error
        most = session.exec(select(func.max(MeasureLease.number)).where(MeasureLease.tenant == actor.tenant)).one()
        number, now_ms = (most or 0) + 1, int(now * 1000)
        row = MeasureLease(
            tenant=actor.tenant,
            id=f"m{number}-{self.random(4).hex()}",
            number=number,
            profile=request.profile,
            requires=codec.encode(request.requires).decode(),
            wanted=request.device or "",
            source_sha256=request.source_sha256,
            renewed_ms=now_ms,
            created_ms=now_ms,
            created_by=actor.name,
            updated_ms=now_ms,
        )
        session.add(row)
        after = {"profile": row.profile, "device": row.wanted, "source": row.source_sha256}
        audit.write(session, actor, now, "lease.ask", f"lease/{row.id}", None, after)
        session.flush()
        self.grant(session, actor.tenant, now)
        return row

    def grant(self, session: Session, tenant: str, now: float) -> None:
        """Give free boards to those who wait, first come, first served."""
        query = select(MeasureLease).where(
            MeasureLease.tenant == tenant, MeasureLease.status == LeaseStatus.QUEUED.value
        )
        waiting = session.exec(query.order_by(col(MeasureLease.number))).all()
        here = lease_boards.boards(session, tenant) if waiting else []
        for row in waiting:
            wanted = Wanted(row.profile, codec.decode(Predicates, row.requires.encode()), row.wanted)
            board = lease_boards.free(here, wanted)
            if board is None:
                row.reason = lease_boards.waits_for(here, wanted)
                session.add(row)
                continue
            here = [dataclasses.replace(each, busy="is leased") if each is board else each for each in here]
            self.see(session, Actor(tenant, SYSTEM), now, row, machine.Granted(board.device))

    def renew(self, session: Session, actor: Actor, now: float, row: MeasureLease) -> None:
        """Hear from a lease's compiler."""
        self.see(session, actor, now, row, machine.Renewed())
        if row.status == LeaseStatus.QUEUED:
            self.grant(session, actor.tenant, now)

    def upload(
        self, session: Session, actor: Actor, now: float, row: MeasureLease, file: BinaryIO, terms: Terms
    ) -> None:
        """Take in the candidates of a granted lease and order them measured.

        Raises:
            InputError: no whole bundle, not of the reserved model, or too many candidates.
            TooLargeError: too many bytes.
            ConflictError: the lease is not granted (any more).
            UnavailableError: the update repository or the disk refuses.
        """
        if row.status != LeaseStatus.GRANTED:
            words = f"lease {row.id} is {row.status}" + (f": {row.reason}" if row.reason else "")
            raise ConflictError(words, hint="ask for a new lease")
        try:
            container = open_container(file)
            self._check(container)
            store = BlobStore(self.folder / row.id)
            for sha256 in container.manifest.blobs():
                store.put(sha256, container.stream_blob(sha256))
            container.verify()
        except ContractError as error:
            self._forget(row.id)
            raise InputError(f"not a valid bundle: {error}", hint=error.hint, code="bad-bundle") from error
        manifest, bundle = container.manifest, container.bundle_id
        path = target_path(MODEL, bundle)
        custom = {"version": manifest.version, "release": manifest.release, "target": manifest.target}
        try:
            self.repository.publish(path, container.manifest_bytes, custom, now)
        except TrustError as error:
            raise UnavailableError(f"the update repository refuses: {error}", hint=error.hint) from error
        device = session.get(Device, (row.tenant, row.device))
        memory = json.loads(device.hardware).get("memory_bytes", 0) if device is not None else 0
        order = MeasureOrder(
            row.id,
            manifest.version,
            manifest.release,
            bundle,
            path,
            len(container.manifest_bytes),
            int(now + terms.seconds + machine.GRACE_S),
            terms.seconds,
            terms.rounds,
            memory_bytes=max(64_000_000, int(memory * MEMORY_SHARE)),
            disk_bytes=MAX_BYTES,
        )
        row.bundle, row.terms = bundle, codec.encode(order).decode()
        row.artifacts = measurements.artifacts_of(manifest)
        self.see(session, actor, now, row, machine.Uploaded(terms.seconds))

    def cancel(self, session: Session, actor: Actor, now: float, row: MeasureLease, reason: str) -> None:
        """End a lease that is wanted no more; one that is over is left as it is."""
        self.see(session, actor, now, row, machine.Cancelled(reason or "no longer wanted"))

    def tick(self, session: Session, now: float) -> None:
        """Look at every open lease: what its board said, who fell silent, whose time is up, who may have a board."""
        query = select(MeasureLease).where(col(MeasureLease.status).in_([*ACTIVE, LeaseStatus.QUEUED]))
        rows = session.exec(query).all()
        for row in rows:
            actor = Actor(row.tenant, SYSTEM)
            if row.status != LeaseStatus.QUEUED and (words := _silent(session, row)):
                self.see(session, actor, now, row, machine.Silent(words))
            told = row.told_state and MeasureState(row.told_state) in TOLD_FINAL
            if told and measurements.complete(session, row, now):
                self.see(session, actor, now, row, machine.Told(MeasureState(row.told_state), row.told_detail))
            self.see(session, actor, now, row, machine.Tick())
        for tenant in sorted({row.tenant for row in rows if row.status == LeaseStatus.QUEUED}):
            self.grant(session, tenant, now)

    def see(self, session: Session, actor: Actor, now: float, row: MeasureLease, event: Event) -> None:
        """Let a lease's machine see an event, and do what follows."""
        before = Lease(LeaseStatus(row.status), row.renewed_ms / 1000, row.device, row.until_ms / 1000, row.reason)
        after, effects = machine.advance(before, event, now)
        if after == before:
            return
        row.status, row.device, row.reason = after.status.value, after.device, after.reason
        row.renewed_ms, row.until_ms = round(after.renewed_s * 1000), round(after.until_s * 1000)
        session.add(row)
        if after.status is not before.status:
            row.updated_ms = int(now * 1000)
            said = {"status": row.status, "device": row.device, "reason": row.reason, "bundle": row.bundle}
            audit.write(session, actor, now, f"lease.{row.status}", f"lease/{row.id}", {"status": before.status}, said)
            announce(session, row.tenant, "lease", lease=row.id, device=row.device, status=row.status)
        session.flush()
        for effect in effects:
            if effect is Effect.WITHDRAW:
                self._withdraw(row, now)
            self.pen.issue(session, row.tenant, now, [before.device], f"lease {row.id} is {row.status}")

    def blob(self, sha256: str) -> Path | None:
        """Return where a candidate's blob lies; None: no lease has it."""
        names.sha256(sha256)
        found = (each / sha256[:2] / sha256 for each in self.folder.iterdir()) if self.folder.is_dir() else iter(())
        return next((path for path in found if path.is_file()), None)

    def _check(self, container: Container) -> None:
        manifest = container.manifest
        if manifest.model != MODEL:
            raise InputError(f"candidates are a bundle of {MODEL}, this is {manifest.model}")
        if len(manifest.variants) > MAX_CANDIDATES:
            raise InputError(f"{len(manifest.variants)} candidates, at most {MAX_CANDIDATES} are measured at once")
        total = sum(blob.size_bytes for blob in manifest.blobs().values())
        if total > MAX_BYTES:
            raise TooLargeError(
                f"{total} bytes of candidates, at most {MAX_BYTES}", hint="let fewer compete: --engines"
            )

    def _withdraw(self, row: MeasureLease, now: float) -> None:
        """Take the candidates off the list and the disk."""
        try:
            self.repository.withdraw(target_path(MODEL, row.bundle), now)
        except TrustError as error:
            raise UnavailableError(f"the update repository refuses: {error}", hint=error.hint) from error
        with contextlib.suppress(OSError):
            (self.repository.targets_dir / MODEL / f"{row.bundle}.{row.bundle}.json").unlink(missing_ok=True)
        self._forget(row.id)

    def _forget(self, lease: str) -> None:
        shutil.rmtree(self.folder / lease, ignore_errors=True)


def _silent(session: Session, row: MeasureLease) -> str:
    """Return why a lease's board can no longer be reckoned with; empty: it can."""
    device = session.get(Device, (row.tenant, row.device))
    if device is None or device.status != DeviceStatus.ACTIVE:
        return f"{row.device} is no longer one of ours"
    state = session.get(DeviceState, (row.tenant, row.device))
    if state is None or not state.online or state.silent:
        return f"{row.device} went silent"
    return ""

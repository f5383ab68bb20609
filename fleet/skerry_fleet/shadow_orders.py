"""Starting and ending shadows, and taking devices out of them: each change signed into assignments at once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select, update

from skerry_contracts import codec
from skerry_contracts.assignment import target_path
from skerry_contracts.bundle import Manifest
from skerry_contracts.shadow import Shadow as Terms
from skerry_fleet import audit, director, rollout_checks
from skerry_fleet.audit import Actor
from skerry_fleet.config import RandomBytes
from skerry_fleet.database import announce
from skerry_fleet.director import CHUNK, Sign
from skerry_fleet.errors import ConflictError, InputError, MissingError
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.rollout_words import BLOCKING
from skerry_fleet.shadow_tables import Shadow, ShadowDevice, ShadowStatus
from skerry_fleet.tables import Bundle, Desired, Device, DeviceStatus, Rollout, RolloutDevice

SYSTEM = "system:shadow"
MAX_DAYS = 90.0


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowRequest:
    """What is asked of a new shadow: which devices (`devices` by name, else those of `group`, else all that fit), for
    how long, and what it may cost there; see `skerry_contracts.shadow.Shadow`.
    """

    model: str
    bundle: str
    group: str | None = None
    devices: tuple[str, ...] | None = None
    days: float = 7.0
    share: float = 0.1
    cpu_share: float = 0.1
    memory_bytes: int | None = None
    max_c: float = 70.0
    min_battery: float = 0.5
    tolerance: float = 0.1
    report_s: int = 300

    def terms(self, shadow: str, bundle: Bundle, now: float) -> Terms:
        """Return what goes into assignments.

        Raises:
            MismatchError: a value that makes no sense.
        """
        own = {field.name for field in dataclasses.fields(Terms)} & {each.name for each in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name in own if name != "bundle"}
        path = target_path(bundle.model, bundle.id)
        size, until_s = len(bundle.manifest.encode()), int(now + self.days * 86_400)
        return Terms(shadow, bundle.version, bundle.release, bundle.id, path, size, until_s, **values)


@dataclasses.dataclass(frozen=True, slots=True)
class Pen:
    """What signs assignments, and for how many days."""

    sign: Sign
    days: float

    def issue(self, session: Session, tenant: str, now: float, devices: Iterable[str], why: str) -> None:
        """Sign new assignments of the devices that still belong to the fleet."""
        session.flush()
        wanted = sorted(set(devices))
        for at in range(0, len(wanted), CHUNK):
            query = select(Device.name).where(
                Device.tenant == tenant,
                Device.status == DeviceStatus.ACTIVE.value,
                col(Device.name).in_(wanted[at : at + CHUNK]),
            )
            here = dict.fromkeys(session.exec(query).all(), why)
            director.issue(session, self.sign, Actor(tenant, SYSTEM), now, self.days, here)


def create(session: Session, pen: Pen, actor: Actor, now: float, request: ShadowRequest, random: RandomBytes) -> Shadow:
    """Start a shadow on every device it names that runs the model; devices leave the shadow they were in.

    Raises:
        MissingError: no such bundle, group or device.
        ConflictError: not published, of another model, other inputs, a rollout is under way there, or no device left.
        InputError: a time that makes no sense.
    """
    if not 0 < request.days <= MAX_DAYS:
        raise InputError(f"days: {request.days:g} is not above 0 and up to {MAX_DAYS:g}")
    bundle = rollout_checks.usable(session, actor.tenant, RolloutRequest(request.model, request.bundle, request.group))
    devices = _devices(session, actor.tenant, request, bundle)
    _no_rollout(session, actor.tenant, bundle.model, devices)
    number = (session.exec(select(func.max(Shadow.number)).where(Shadow.tenant == actor.tenant)).one() or 0) + 1
    shadow = f"s{number}-{random(4).hex()}"
    terms, now_ms = request.terms(shadow, bundle, now), int(now * 1000)
    release(session, actor.tenant, now, bundle.model, devices, f"shadow {shadow} took its place")
    row = Shadow(
        tenant=actor.tenant,
        id=shadow,
        number=number,
        model=bundle.model,
        bundle=bundle.id,
        group=request.group or "",
        chosen=request.devices is not None,
        terms=codec.encode(terms).decode(),
        until_ms=terms.until_s * 1000,
        created_ms=now_ms,
        created_by=actor.name,
        updated_ms=now_ms,
    )
    session.add(row)
    for device in devices:
        session.add(ShadowDevice(tenant=actor.tenant, shadow=shadow, device=device, model=bundle.model))
    after = {"model": row.model, "bundle": row.bundle, "group": row.group, "devices": len(devices)}
    audit.write(session, actor, now, "shadow.start", f"shadow/{shadow}", None, after)
    announce(session, actor.tenant, "shadow", shadow=shadow, model=row.model, status=row.status)
    pen.issue(session, actor.tenant, now, devices, f"shadow {shadow}")
    return row


def end(session: Session, pen: Pen, actor: Actor, now: float, shadow: str, reason: str = "") -> Shadow:
    """End a shadow on every device; one that has ended already is left as it is.

    Raises:
        MissingError: no such shadow.
    """
    row = get(session, actor.tenant, shadow)
    devices = active_devices(session, row)
    if row.status != ShadowStatus.RUNNING and not devices:
        return row
    _deactivate(session, row, devices)
    _move(session, actor, now, row, ShadowStatus.ENDED if not row.rollout else ShadowStatus.PROMOTED, reason)
    pen.issue(session, actor.tenant, now, devices, f"shadow {shadow} has ended")
    return row


def promoted(session: Session, actor: Actor, now: float, row: Shadow, rollout: str) -> None:
    """Note that a rollout was started from a shadow. Its devices leave it one by one, as the rollout takes them."""
    row.rollout = rollout
    _move(session, actor, now, row, ShadowStatus.PROMOTED, row.reason)


def release(session: Session, tenant: str, now: float, model: str, devices: Iterable[str], why: str) -> None:
    """Take devices out of whatever shadow of a model they are in; their next assignments name none.

    A shadow that has no device left ends. The caller has the assignments signed.
    """
    wanted, touched = sorted(set(devices)), set()
    session.flush()
    for at in range(0, len(wanted), CHUNK):
        inside = (
            col(ShadowDevice.tenant) == tenant,
            col(ShadowDevice.model) == model,
            col(ShadowDevice.active).is_(True),
            col(ShadowDevice.device).in_(wanted[at : at + CHUNK]),
        )
        touched |= set(session.exec(select(ShadowDevice.shadow).where(*inside)).all())
        session.exec(update(ShadowDevice).where(*inside).values(active=False))
    for shadow in sorted(touched):
        row = get(session, tenant, shadow)
        if not active_devices(session, row) and row.status == ShadowStatus.RUNNING:
            _move(session, Actor(tenant, SYSTEM), now, row, ShadowStatus.ENDED, why)


def expire(session: Session, pen: Pen, now: float) -> None:
    """End the shadows whose time is over."""
    query = select(Shadow).where(Shadow.status == ShadowStatus.RUNNING.value, Shadow.until_ms <= int(now * 1000))
    for row in session.exec(query).all():
        end(session, pen, Actor(row.tenant, SYSTEM), now, row.id, "its time is over")


def get(session: Session, tenant: str, shadow: str) -> Shadow:
    """Return a shadow's row.

    Raises:
        MissingError: no such shadow.
    """
    row = session.get(Shadow, (tenant, shadow))
    if row is None:
        raise MissingError(f"no shadow {shadow!r:.80}", hint="`skerry fleet shadow list` shows what there is")
    return row


def active_devices(session: Session, row: Shadow) -> list[str]:
    """Return the devices whose assignments name a shadow."""
    query = select(ShadowDevice.device).where(
        ShadowDevice.tenant == row.tenant, ShadowDevice.shadow == row.id, col(ShadowDevice.active).is_(True)
    )
    return list(session.exec(query.order_by(col(ShadowDevice.device))).all())


def _move(session: Session, actor: Actor, now: float, row: Shadow, status: ShadowStatus, reason: str) -> None:
    before = {"status": row.status}
    row.status, row.reason, row.updated_ms = status.value, reason[:500], int(now * 1000)
    session.add(row)
    after: dict[str, Any] = {"status": row.status, "reason": row.reason, "rollout": row.rollout}
    audit.write(session, actor, now, f"shadow.{status}", f"shadow/{row.id}", before, after)
    announce(session, row.tenant, "shadow", shadow=row.id, model=row.model, status=row.status)


def _deactivate(session: Session, row: Shadow, devices: list[str]) -> None:
    session.flush()
    of_row = (col(ShadowDevice.tenant) == row.tenant, col(ShadowDevice.shadow) == row.id)
    here = (*of_row, col(ShadowDevice.active).is_(True))
    session.exec(update(ShadowDevice).where(*here).values(active=False))


def _devices(session: Session, tenant: str, request: ShadowRequest, bundle: Bundle) -> list[str]:
    """Return the devices of a request that serve something the candidate can be compared with."""
    fitting = {device for device, _ in rollout_checks.fitting_devices(session, tenant, request.group or "", bundle)}
    wanted = fitting
    if request.devices is not None:
        wanted = set(request.devices)
        known = set(session.exec(select(Device.name).where(Device.tenant == tenant)).all())
        for device in sorted(wanted - fitting):
            if device not in known:
                raise MissingError(f"no device {device!r:.80}")
            where = f" or is not in group {request.group}" if request.group else ""
            raise ConflictError(f"{device} cannot run this bundle, made for {bundle.target}{where}")
    query = select(Desired.device, Desired.bundle).where(Desired.tenant == tenant, Desired.model == bundle.model)
    serves = {device: found for device, found in session.exec(query) if found is not None and device in wanted}
    left = sorted(device for device, found in serves.items() if found != bundle.id)
    if request.devices is not None and (others := sorted(wanted - set(left))):
        runs = "runs this very bundle" if others[0] in serves else f"runs no {bundle.model} to compare it with"
        raise ConflictError(f"{others[0]} {runs}", hint="leave it out")
    if not left:
        same = "every such device runs this very bundle" if serves else f"no such device runs {bundle.model}"
        raise ConflictError(f"nothing to compare it with: {same}", hint="a shadow needs another bundle that serves")
    _same_inputs(session, tenant, bundle, {serves[device] for device in left})
    return left


def _same_inputs(session: Session, tenant: str, bundle: Bundle, live: set[str]) -> None:
    inputs = codec.decode(Manifest, bundle.manifest.encode()).signature.inputs
    for each in sorted(live):
        row = session.get(Bundle, (tenant, each))
        if row is not None and codec.decode(Manifest, row.manifest.encode()).signature.inputs != inputs:
            raise ConflictError(
                f"bundle {bundle.id[:12]} takes other inputs than {row.version}, which serves",
                hint="only a model with the same inputs can run in its shadow",
            )


def _no_rollout(session: Session, tenant: str, model: str, devices: list[str]) -> None:
    joined = (col(Rollout.tenant) == col(RolloutDevice.tenant)) & (col(Rollout.id) == col(RolloutDevice.rollout))
    query = (
        select(RolloutDevice.device, Rollout.id, Rollout.status)
        .join(Rollout, joined)
        .where(
            RolloutDevice.tenant == tenant,
            RolloutDevice.model == model,
            col(RolloutDevice.active).is_(True),
            col(Rollout.status).in_([each.value for each in BLOCKING]),
        )
    )
    inside = set(devices)
    for device, rollout, status in session.exec(query):
        if device in inside:
            raise ConflictError(
                f"{device} is in rollout {rollout}, which is {status}", hint="wait until it is over, or abort it"
            )


def terms_of(row: Shadow) -> dict[str, Any]:
    """Return what a shadow may cost, as people asked for it."""
    hidden = {"id", "bundle", "version", "release", "target_path", "size_bytes", "until_s"}
    return {name: value for name, value in json.loads(row.terms).items() if name not in hidden}

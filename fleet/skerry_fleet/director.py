"""What each device is to run, signed: one assignment a device, its sequence rising, the newest kept and published
retained.

`signed_assignment` is the outbox: a row is written in the transaction that decides, published after it, and published
again after every reconnection, because a broker may forget.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.assignment import AssignedModel, Assignment, SamplingPolicy, Window, target_path
from skerry_fleet import audit
from skerry_fleet.audit import Actor
from skerry_fleet.database import announce
from skerry_fleet.errors import MissingError
from skerry_fleet.tables import Bundle, Desired, Device, DeviceStatus, Rollout, SignedAssignment

Sign = Callable[[Assignment], bytes]
"""Signs an assignment and returns the envelope's bytes (trust/director.py)."""


def want(
    session: Session, tenant: str, device: str, model: str, bundle: str | None, rollout: str, *, back: bool = False
) -> None:
    """Say what a device is to run of a model (None: nothing). `back`: to what it ran before, though that is older."""
    row = session.get(Desired, (tenant, device, model)) or Desired(tenant=tenant, device=device, model=model)
    row.bundle, row.rollout, row.allow_downgrade = bundle, rollout, back
    if back:
        row.confirmed = bundle
    session.add(row)


def confirm(session: Session, tenant: str, device: str, model: str, bundle: str) -> None:
    """Note that a bundle proved itself on a device: rollbacks lead here from now on."""
    row = session.get(Desired, (tenant, device, model)) or Desired(tenant=tenant, device=device, model=model)
    row.confirmed, row.allow_downgrade = bundle, False
    session.add(row)


def confirmed(session: Session, tenant: str, device: str, model: str) -> str | None:
    """Return the newest bundle of a model that proved itself on a device."""
    row = session.get(Desired, (tenant, device, model))
    return None if row is None else row.confirmed


def issue(
    session: Session, sign: Sign, actor: Actor, now: float, days: float, device: str, *, above: int = 0, why: str = ""
) -> int:
    """Sign a new assignment of everything the device is to run; return its sequence, which is greater than `above`.

    Raises:
        MissingError: no such device.
    """
    row = session.get(Device, (actor.tenant, device))
    if row is None or row.status != DeviceStatus.ACTIVE:
        raise MissingError(f"no device {device!r:.80}")
    wanted = session.exec(
        select(Desired)
        .where(Desired.tenant == actor.tenant, Desired.device == device, col(Desired.bundle).is_not(None))
        .order_by(col(Desired.model))
    ).all()
    row.sequence = max(row.sequence, above) + 1
    expires_s = int(now + days * 86_400)
    models = tuple(_assigned(session, each) for each in wanted)
    envelope = sign(Assignment(actor.tenant, device, row.sequence, int(now), expires_s, models))
    kept = session.get(SignedAssignment, (actor.tenant, device))
    before = None if kept is None else {"sequence": kept.sequence}
    kept = kept or SignedAssignment(
        tenant=actor.tenant, device=device, sequence=0, issued_ms=0, expires_ms=0, envelope=""
    )
    kept.sequence, kept.issued_ms, kept.expires_ms = row.sequence, int(now * 1000), expires_s * 1000
    kept.envelope, kept.published = envelope.decode(), False
    session.add(row)
    session.add(kept)
    after = {"sequence": row.sequence, "models": {each.model: each.bundle for each in models}, "why": why}
    audit.write(session, actor, now, "assignment.issue", f"device/{device}", before, after)
    announce(session, actor.tenant, "assignment", device=device, sequence=row.sequence)
    return row.sequence


def renew(session: Session, sign: Sign, now: float, days: float, most: int = 200) -> int:
    """Sign anew what is past half of its life; return how many were. A sleeping device then finds a fresh one."""
    old_ms = int((now - days * 43_200) * 1000)
    rows = session.exec(
        select(SignedAssignment)
        .where(SignedAssignment.issued_ms < old_ms, SignedAssignment.envelope != "")
        .order_by(col(SignedAssignment.issued_ms))
        .limit(most)
    ).all()
    for row in rows:
        issue(session, sign, Actor(row.tenant, "system:director"), now, days, row.device, why="renewed")
    return len(rows)


def _assigned(session: Session, wanted: Desired) -> AssignedModel:
    bundle = session.get(Bundle, (wanted.tenant, wanted.bundle))
    if bundle is None or wanted.bundle is None:
        raise MissingError(f"no bundle {wanted.bundle}")
    rollout = session.get(Rollout, (wanted.tenant, wanted.rollout))
    options: dict[str, Any] = json.loads(rollout.options) if rollout is not None else {}
    window, sampling = options.get("window"), options.get("sampling")
    return AssignedModel(
        model=wanted.model,
        version=bundle.version,
        release=bundle.release,
        bundle=bundle.id,
        target_path=target_path(wanted.model, bundle.id),
        size_bytes=len(bundle.manifest.encode()),
        rollout=wanted.rollout,
        allow_downgrade=wanted.allow_downgrade or bool(options.get("allow_downgrade")),
        # A way back waits for no maintenance window.
        window=codec.from_plain(Window, window) if window is not None and not wanted.allow_downgrade else None,
        sampling=codec.from_plain(SamplingPolicy, sampling) if sampling is not None else SamplingPolicy(),
    )

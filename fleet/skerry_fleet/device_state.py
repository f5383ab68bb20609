"""What a device is to run, what it says it runs, why, how they differ and since when: one answer for all who ask.

The chain has four links, and the difference names the first that is open: the order is signed, the broker has it, the
device has taken it in, the device runs it.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from sqlmodel import Session, select

from skerry_fleet import devices
from skerry_fleet.tables import Bundle, Desired, DeviceModel, DeviceState, Rollout, RolloutDevice, SignedAssignment


class Difference(StrEnum):
    """Which link of the chain is open."""

    NONE = "none"
    NOT_PUBLISHED = "not-published"
    """The device's broker has not been given the newest order yet."""
    NOT_HEARD = "not-heard"
    """The device has never reported."""
    NOT_ADOPTED = "not-adopted"
    """The device has not taken in its newest order: it is away, or has refused it."""
    NOT_RUNNING = "not-running"
    """The device knows its order and runs another bundle, or none: the update is under way, or has failed."""
    NOT_DESIRED = "not-desired"
    """The device runs a model that nobody has ordered: one of its factory, or by hand."""


def state(session: Session, tenant: str, name: str) -> dict[str, Any]:
    """Return the desired and the reported state of a device, model by model.

    Raises:
        MissingError: no such device.
    """
    device = devices.get(session, tenant, name)
    seen = session.get(DeviceState, (tenant, name)) or DeviceState(tenant=tenant, name=name)
    signed = session.get(SignedAssignment, (tenant, name))
    adopted = json.loads(seen.heartbeat)["sequence"] if seen.heartbeat else None
    wanted_rows = session.exec(select(Desired).where(Desired.tenant == tenant, Desired.device == name)).all()
    told_rows = session.exec(select(DeviceModel).where(DeviceModel.tenant == tenant, DeviceModel.name == name)).all()
    wanted, told = {row.model: row for row in wanted_rows}, {row.model: row for row in told_rows}
    published = signed is None or signed.published
    chain = _chain(published, adopted, device.sequence)
    issued_ms = signed.issued_ms if signed is not None else 0
    models = [
        {"model": model, **_model(session, tenant, name, wanted.get(model), told.get(model), chain, issued_ms)}
        for model in sorted(wanted.keys() | told.keys())
    ]
    return {
        "device": name,
        "online": seen.online,
        "silent": seen.silent,
        "last_seen_ms": seen.last_seen_ms,
        "sequence": device.sequence,
        "published": published,
        "adopted": adopted,
        "agrees": all(each["agrees"] for each in models),
        "models": models,
    }


def _chain(published: bool, adopted: int | None, sequence: int) -> Difference:
    """Return the first open link before the device runs anything."""
    if not published:
        return Difference.NOT_PUBLISHED
    if adopted is None:
        return Difference.NOT_HEARD
    return Difference.NONE if adopted >= sequence else Difference.NOT_ADOPTED


def _model(
    session: Session,
    tenant: str,
    device: str,
    wanted: Desired | None,
    told: DeviceModel | None,
    chain: Difference,
    issued_ms: int,
) -> dict[str, Any]:
    rollout = None if wanted is None else session.get(Rollout, (tenant, wanted.rollout))
    place = None if wanted is None else session.get(RolloutDevice, (tenant, wanted.rollout, device))
    target, running = (wanted.bundle if wanted is not None else None), (told.bundle if told is not None else None)
    if target == running:
        difference, since_ms = Difference.NONE, None
    elif wanted is None:
        difference, since_ms = Difference.NOT_DESIRED, None
    else:
        difference = chain if chain is not Difference.NONE else Difference.NOT_RUNNING
        since_ms = place.since_ms if place is not None and place.since_ms else issued_ms
    return {
        "desired": _bundle(session, tenant, target),
        "confirmed": _bundle(session, tenant, wanted.confirmed if wanted is not None else None),
        "back": wanted is not None and wanted.allow_downgrade,
        "reported": None if told is None else told.model_dump(exclude={"tenant", "name", "model"}),
        "rollout": None if rollout is None else _rollout(rollout),
        "place": None if place is None else place.model_dump(include=set(PLACE)),
        "agrees": difference is Difference.NONE,
        "difference": difference.value,
        "since_ms": since_ms,
    }


ROLLOUT = ("id", "status", "group", "created_ms", "created_by", "reason")
PLACE = ("place", "attempts", "since_ms", "due_ms", "phase", "reason", "detail")
"""What of a rollout, and of the device's place in it, says why."""


def _rollout(row: Rollout) -> dict[str, Any]:
    return {**row.model_dump(include=set(ROLLOUT)), "group": row.group or None}


def _bundle(session: Session, tenant: str, bundle: str | None) -> dict[str, Any] | None:
    row = session.get(Bundle, (tenant, bundle)) if bundle else None
    return None if row is None else {"id": row.id, "version": row.version, "release": row.release, "target": row.target}

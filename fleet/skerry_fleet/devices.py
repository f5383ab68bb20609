"""Devices: lists, one device in full, and its groups. Their tags are in tags.py, how they go in leaving.py."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from skerry_fleet import groups, placement, renewal
from skerry_fleet.audit import Actor
from skerry_fleet.errors import MissingError
from skerry_fleet.paging import Page, listing
from skerry_fleet.records import ProgressRow
from skerry_fleet.tables import (
    Desired,
    Device,
    DeviceModel,
    DeviceState,
    DeviceStatus,
    SignedAssignment,
)
from skerry_fleet.trust import authority


def get(session: Session, tenant: str, name: str) -> Device:
    """Return an active device.

    Raises:
        MissingError: no such device for this tenant.
    """
    row = session.get(Device, (tenant, name))
    if row is None or row.status != DeviceStatus.ACTIVE:
        raise MissingError(f"no device {name!r:.80}", hint="`skerry fleet device list` shows what there is")
    return row


def summary(device: Device, state: DeviceState) -> dict[str, Any]:
    """Return what a list shows of a device."""
    hardware = json.loads(device.hardware)
    return {
        "device": device.name,
        "online": state.online,
        "silent": state.silent,
        "last_seen_ms": state.last_seen_ms,
        "profile": hardware.get("profile", ""),
        "agent_version": hardware.get("agent_version", ""),
        "tags": json.loads(device.tags),
    }


def show(session: Session, tenant: str, name: str) -> dict[str, Any]:
    """Return everything known of one device.

    Raises:
        MissingError: no such device.
    """
    device = get(session, tenant, name)
    state = session.get(DeviceState, (tenant, name)) or DeviceState(tenant=tenant, name=name)
    wanted = session.exec(select(Desired).where(Desired.tenant == tenant, Desired.device == name)).all()
    assignment = session.get(SignedAssignment, (tenant, name))
    return {
        **summary(device, state),
        "boot_id": state.boot_id,
        "created_ms": device.created_ms,
        "claim": device.claim,
        "hardware": json.loads(device.hardware),
        "shard": placement.shard_of(session, tenant, name),
        "certificate": _certificate(device),
        "heartbeat": json.loads(state.heartbeat) if state.heartbeat else None,
        "groups": groups.groups_of(session, tenant, [name])[name],
        "models": [
            row.model_dump(exclude={"tenant", "name"}) for row in _models(session, tenant, [name]).get(name, [])
        ],
        "desired": [row.model_dump(exclude={"tenant", "device"}) for row in wanted],
        "assignment": None
        if assignment is None
        else {
            "sequence": assignment.sequence,
            "issued_ms": assignment.issued_ms,
            "expires_ms": assignment.expires_ms,
            "published": assignment.published,
        },
    }


def set_groups(session: Session, actor: Actor, now: float, name: str, wanted: list[str]) -> list[str]:
    """Make a device a member of exactly these groups; return those it joined.

    Raises:
        MissingError: no such device or group.
    """
    get(session, actor.tenant, name)
    # What queries choose is shown with the rest, and may be sent back as it was seen.
    present = set(groups.groups_of(session, actor.tenant, [name])[name])
    chosen = present & groups.dynamic(session, actor.tenant)
    present, wanted = present - chosen, [group for group in wanted if group not in chosen]
    for group in sorted(present - set(wanted)):
        groups.remove(session, actor, now, group, name)
    joined = [group for group in dict.fromkeys(wanted) if group not in present]
    for group in joined:
        groups.add(session, actor, now, group, [name])
    return joined


def events(session: Session, tenant: str, name: str, page: Page) -> dict[str, Any]:
    """Return one page of a device's progress, newest first.

    Raises:
        MissingError: no such device.
        InputError: not a cursor.
    """
    get(session, tenant, name)
    query = select(ProgressRow).where(ProgressRow.tenant == tenant, ProgressRow.device == name)
    if page.after_id is not None:
        query = query.where(col(ProgressRow.id) < page.after_id)
    rows = session.exec(query.order_by(col(ProgressRow.id).desc()).limit(page.limit + 1)).all()
    return listing(rows, page, lambda row: row.model_dump(exclude={"tenant", "device"}), lambda row: row.id)


def count_silent(session: Session, tenant: str) -> int:
    """Return how many devices are unheard for too long."""
    query = select(func.count()).where(DeviceState.tenant == tenant, col(DeviceState.silent).is_(True))
    return session.exec(query).one()


def totals(session: Session, tenant: str) -> dict[str, Any]:
    """Return counts of the fleet: devices, those online, and devices by model and version."""
    active = select(func.count()).where(Device.tenant == tenant, Device.status == DeviceStatus.ACTIVE.value)
    online = select(func.count()).where(DeviceState.tenant == tenant, col(DeviceState.online).is_(True))
    versions = (
        select(DeviceModel.model, DeviceModel.version, func.count(), func.sum(DeviceModel.predictions))
        .where(DeviceModel.tenant == tenant)
        .group_by(col(DeviceModel.model), col(DeviceModel.version))
        .order_by(col(DeviceModel.model), col(DeviceModel.version))
    )
    return {
        "devices": session.exec(active).one(),
        "online": session.exec(online).one(),
        "models": [
            {"model": model, "version": version, "devices": count, "predictions": int(predictions or 0)}
            for model, version, count, predictions in session.exec(versions)
        ],
    }


def _certificate(device: Device) -> dict[str, Any] | None:
    """Return what is worth knowing of the newest certificate; None where it was revoked, or there never was one."""
    newest = (renewal.certificates(device) or [""])[-1]
    if not newest:
        return None
    begins_s, ends_s = authority.life_s(newest)
    serial = f"{authority.serial_of(newest):x}"
    return {"serial": serial, "begins_ms": int(begins_s * 1000), "expires_ms": int(ends_s * 1000)}


def _models(session: Session, tenant: str, names: list[str]) -> dict[str, list[DeviceModel]]:
    found: dict[str, list[DeviceModel]] = {}
    query = select(DeviceModel).where(DeviceModel.tenant == tenant, col(DeviceModel.name).in_(names))
    for row in session.exec(query.order_by(col(DeviceModel.name), col(DeviceModel.model))):
        found.setdefault(row.name, []).append(row)
    return found

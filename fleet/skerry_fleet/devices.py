"""Devices: lists, one device in full, its tags, and the end of its membership."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, delete, select

from skerry_contracts.codec import canonical_json
from skerry_fleet import audit, groups, renewal
from skerry_fleet.audit import Actor
from skerry_fleet.database import announce
from skerry_fleet.errors import InputError, MissingError
from skerry_fleet.paging import Page, listing
from skerry_fleet.records import ProgressRow
from skerry_fleet.tables import (
    Desired,
    Device,
    DeviceModel,
    DeviceState,
    DeviceStatus,
    GroupMember,
    RevokedCertificate,
    SignedAssignment,
)
from skerry_fleet.trust import authority

MAX_TAGS = 64


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


def set_tags(session: Session, actor: Actor, now: float, name: str, tags: dict[str, str]) -> None:
    """Replace a device's tags.

    Raises:
        MissingError: no such device.
        InputError: too many tags, or overlong ones.
    """
    device = get(session, actor.tenant, name)
    if len(tags) > MAX_TAGS or any(not 0 < len(key) <= 64 or len(value) > 256 for key, value in tags.items()):
        raise InputError(f"tags: at most {MAX_TAGS}, names up to 64 and values up to 256 characters")
    before = json.loads(device.tags)
    if before == tags:
        return
    device.tags = canonical_json(tags).decode()
    session.add(device)
    audit.write(session, actor, now, "device.tag", f"device/{name}", {"tags": before}, {"tags": tags})


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


def decommission(session: Session, actor: Actor, now: float, name: str) -> None:
    """End a device's membership: its tokens die, its messages are refused, its retained assignment is cleared.

    Raises:
        MissingError: no such device.
    """
    device = get(session, actor.tenant, name)
    device.status = DeviceStatus.DECOMMISSIONED.value
    device.download_token_sha256 = ""
    for each in renewal.certificates(device):
        expires_ms = int(authority.expires_s(each) * 1000)
        serial = f"{authority.serial_of(each):x}"
        session.merge(RevokedCertificate(tenant=actor.tenant, serial=serial, device=name, expires_ms=expires_ms))
    session.add(device)
    for table in (GroupMember, Desired):
        session.exec(delete(table).where(col(table.tenant) == actor.tenant, col(table.device) == name))
    for state in (DeviceState, DeviceModel):
        session.exec(delete(state).where(col(state.tenant) == actor.tenant, col(state.name) == name))
    signed = session.get(SignedAssignment, (actor.tenant, name))
    if signed is not None:
        signed.envelope, signed.published = "", False  # an empty retained message takes the old one away
        session.add(signed)
    audit.write(
        session, actor, now, "device.decommission", f"device/{name}", {"status": "active"}, {"status": device.status}
    )
    announce(session, actor.tenant, "device", device=name, change="decommissioned")


def revoked_serials(session: Session, now: float) -> list[int]:
    """Return the serial numbers of revoked certificates that have not expired by themselves."""
    query = select(RevokedCertificate.serial).where(RevokedCertificate.expires_ms > int(now * 1000))
    return [int(serial, 16) for serial in session.exec(query)]


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


def _models(session: Session, tenant: str, names: list[str]) -> dict[str, list[DeviceModel]]:
    found: dict[str, list[DeviceModel]] = {}
    query = select(DeviceModel).where(DeviceModel.tenant == tenant, col(DeviceModel.name).in_(names))
    for row in session.exec(query.order_by(col(DeviceModel.name), col(DeviceModel.model))):
        found.setdefault(row.name, []).append(row)
    return found

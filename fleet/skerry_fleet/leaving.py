"""How devices go: certificates revoked, membership ended, and at last everything forgotten but the audit.

Every certificate that the audit knows of a device is revoked, not only those that it should hold: whoever copied an
older one is shut out, too. The brokers are told after the commit (`Fleet.shut_out`), and given the whole list from the
database again at each start.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, delete, or_, select

from skerry_fleet import alerts, audit, devices, renewal
from skerry_fleet import shadow_orders as shadows
from skerry_fleet.alert_words import AlertState, Kind, device_of
from skerry_fleet.audit import Actor
from skerry_fleet.database import announce
from skerry_fleet.errors import ConflictError, MissingError
from skerry_fleet.paging import Page, listing
from skerry_fleet.placement import DeviceShard
from skerry_fleet.records import Alert, Audit, ProgressRow, ReceiptRow, SampleRow, SketchRow
from skerry_fleet.shadow_tables import ShadowDevice, ShadowReportRow
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

LONGEST_MS = 400 * 86_400_000
"""No certificate lives longer: so long one of which only the number is known stays on the list."""
_TELEMETRY = (ProgressRow, SampleRow, SketchRow, ReceiptRow, ShadowReportRow)


def revoke(session: Session, actor: Actor, now: float, name: str) -> int:
    """Shut out every certificate of a device, which stays a member, and its download token; return how many.

    It gets in again by a claim that names it.

    Raises:
        MissingError: no such device.
    """
    device = devices.get(session, actor.tenant, name)
    count = _shut_out(session, now, device)
    after = {"certificates": count}
    audit.write(session, actor, now, "device.revoke", f"device/{name}", None, after)
    announce(session, actor.tenant, "device", device=name, change="revoked")
    return count


def decommission(session: Session, actor: Actor, now: float, name: str) -> None:
    """End a device's membership: its certificates and tokens die, its messages are refused, its retained assignment is
    cleared, its alerts close. Its name, hardware and telemetry stay until it is deleted. The caller takes it out of its
    rollouts first.

    Raises:
        MissingError: no such device.
    """
    device = devices.get(session, actor.tenant, name)
    device.status = DeviceStatus.DECOMMISSIONED.value
    _shut_out(session, now, device)
    _close_alerts(session, actor.tenant, now, name)
    active = (ShadowDevice.tenant == actor.tenant, ShadowDevice.device == name, col(ShadowDevice.active).is_(True))
    for model in sorted(set(session.exec(select(ShadowDevice.model).where(*active)))):
        shadows.release(session, actor.tenant, now, model, [name], f"{name} was decommissioned")
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


def forget(session: Session, actor: Actor, now: float, name: str) -> dict[str, Any]:
    """Delete everything of a decommissioned device but the audit and what is counted by the hour; return the counts.

    Raises:
        MissingError: no such device.
        ConflictError: it is a member still, or its broker has not cleared its assignment yet.
    """
    device = session.get(Device, (actor.tenant, name))
    if device is None:
        raise MissingError(f"no device {name!r:.80}", hint="`skerry fleet device gone` shows what there was")
    if device.status == DeviceStatus.ACTIVE:
        raise ConflictError(f"device {name} is a member of the fleet", hint="decommission it first")
    signed = session.get(SignedAssignment, (actor.tenant, name))
    if signed is not None and not signed.published:
        raise ConflictError(f"the broker still holds the last assignment of {name}", hint="try again in a moment")
    counts = {}
    for table in _TELEMETRY:
        mine = (col(table.tenant) == actor.tenant, col(table.device) == name)
        found = session.exec(select(func.count()).select_from(table).where(*mine)).one()
        session.exec(delete(table).where(*mine))
        counts[str(table.__tablename__)] = found
    for row in (signed, session.get(DeviceShard, (actor.tenant, name)), device):
        if row is not None:
            session.delete(row)
    audit.write(session, actor, now, "device.delete", f"device/{name}", {"status": device.status}, {"rows": counts})
    announce(session, actor.tenant, "device", device=name, change="deleted")
    return {"device": name, "status": "deleted", "rows": counts}


def list_gone(session: Session, tenant: str, page: Page) -> dict[str, Any]:
    """Return one page of the devices that were decommissioned and not deleted."""
    query = select(Device).where(Device.tenant == tenant, Device.status == DeviceStatus.DECOMMISSIONED.value)
    rows = session.exec(query.where(Device.name > page.after).order_by(col(Device.name)).limit(page.limit + 1)).all()
    return listing(rows, page, _gone, lambda row: row.name)


def revoked_serials(session: Session, now: float) -> list[int]:
    """Return the serial numbers of revoked certificates that have not expired by themselves."""
    query = select(RevokedCertificate.serial).where(RevokedCertificate.expires_ms > int(now * 1000))
    return [int(serial, 16) for serial in session.exec(query)]


def _gone(row: Device) -> dict[str, Any]:
    return {
        "device": row.name,
        "created_ms": row.created_ms,
        "claim": row.claim,
        "profile": json.loads(row.hardware).get("profile", ""),
    }


def _shut_out(session: Session, now: float, device: Device) -> int:
    """Revoke every certificate of a device, and its download token; return how many certificates."""
    now_ms = int(now * 1000)
    expires = {}
    told = select(Audit.after, Audit.time_ms).where(
        Audit.tenant == device.tenant, Audit.object == f"device/{device.name}"
    )
    for after, time_ms in session.exec(told.where(col(Audit.action).in_(["device.enrol", "device.renew"]))):
        serial = json.loads(after).get("certificate")
        if serial and time_ms + LONGEST_MS > now_ms:
            expires[str(serial)] = time_ms + LONGEST_MS
    for pem in renewal.certificates(device):
        expires[f"{authority.serial_of(pem):x}"] = int(authority.expires_s(pem) * 1000)
    for serial, expires_ms in expires.items():
        row = RevokedCertificate(tenant=device.tenant, serial=serial, device=device.name, expires_ms=expires_ms)
        session.merge(row)
    device.certificate_pem = device.next_certificate_pem = device.download_token_sha256 = device.public_key_sha256 = ""
    session.add(device)
    return len(expires)


def _close_alerts(session: Session, tenant: str, now: float, name: str) -> None:
    """Close what is wrong with a device that is no more."""
    of_it = or_(Alert.subject == name, col(Alert.subject).startswith(f"{name}/", autoescape=True))
    query = select(Alert.kind, Alert.subject).where(Alert.tenant == tenant, of_it)
    for kind, subject in session.exec(query.where(Alert.state != AlertState.RESOLVED.value)).all():
        if device_of(kind, subject) == name:
            alerts.resolve(session, tenant, now, Kind(kind), subject)

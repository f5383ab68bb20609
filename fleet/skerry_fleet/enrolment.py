"""Enrolment: a claim and a public key in, a name and a certificate out; everything in one transaction."""

from __future__ import annotations

import hashlib
import hmac
import json

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlmodel import Session, select

from skerry_contracts.codec import canonical_json, encode
from skerry_contracts.enrolment import Enrolment, EnrolmentRequest
from skerry_fleet import audit, claims, groups
from skerry_fleet.audit import Actor
from skerry_fleet.config import RandomBytes
from skerry_fleet.database import announce
from skerry_fleet.errors import AuthError, ConflictError, InputError
from skerry_fleet.tables import Device, DeviceState, DeviceStatus
from skerry_fleet.trust import authority
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.errors import TrustError


def enrol(
    session: Session,
    office: Authority,
    tenant: str,
    request: EnrolmentRequest,
    broker: tuple[str, int],
    now: float,
    days: float,
    random: RandomBytes,
) -> Enrolment:
    """Give a device its identity. The same device with the same key may ask again where the answer was lost.

    Raises:
        AuthError, ConflictError: the claim is unknown or spent, or the name is taken.
        InputError: the certificate request is refused.
    """
    claim = claims.find(session, tenant, request.claim, request.secret)
    try:
        key = authority.request_key(request.csr_pem)
    except TrustError as error:
        raise InputError(str(error), hint=error.hint) from error
    key_sha256 = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    name = request.device or f"device-{random(4).hex()}"
    device = session.get(Device, (tenant, name))
    repeated = device is not None and (device.claim, device.public_key_sha256) == (claim.id, key_sha256)
    active = device is not None and device.status == DeviceStatus.ACTIVE
    if not (repeated and active):
        made_for_it = claims.welcomes(session, claim, name, now)
        # A revoked device comes back, with all that it is, by a claim that was made for it and by no other.
        if device is not None and active and not (made_for_it and not device.public_key_sha256):
            raise ConflictError(
                f"there is a device {name} already",
                hint="choose another --device name, decommission the old one, or revoke it and make a claim for it",
            )
        claims.redeem(session, claim, now)
    try:
        certificate_pem = office.issue_device(request.csr_pem, tenant, name, now, days)
    except TrustError as error:
        raise InputError(str(error), hint=error.hint) from error
    token = f"sd1_{random(32).hex()}"
    if device is None:
        device = Device(tenant=tenant, name=name, created_ms=int(now * 1000))
    device.status = DeviceStatus.ACTIVE.value
    device.claim, device.public_key_sha256 = claim.id, key_sha256
    device.certificate_pem, device.download_token_sha256 = certificate_pem, _hash(token)
    device.next_certificate_pem, device.renewed_ms = "", 0
    device.hardware = encode(request.hardware).decode()
    if given := claims.tags_of(session, claim):
        device.tags = canonical_json({**json.loads(device.tags), **given}).decode()
    session.add(device)
    if session.get(DeviceState, (tenant, name)) is None:
        session.add(DeviceState(tenant=tenant, name=name, last_seen_ms=int(now * 1000)))
    actor = Actor(tenant, f"claim:{claim.id}")
    after = {"certificate": f"{authority.serial_of(certificate_pem):x}", "profile": request.hardware.profile}
    audit.write(session, actor, now, "device.enrol", f"device/{name}", None, after)
    session.flush()
    if claim.group:
        groups.add(session, actor, now, claim.group, [name])
    announce(session, tenant, "device", device=name, change="enrolled")
    return Enrolment(tenant, name, certificate_pem, broker[0], broker[1], token)


def device_of_token(session: Session, tenant: str, text: str) -> Device:
    """Return the tenant's device that holds this download token.

    Raises:
        AuthError: nobody does, or it was decommissioned.
    """
    digest = _hash(text)
    row = session.exec(select(Device).where(Device.download_token_sha256 == digest, Device.tenant == tenant)).first()
    if row is None or row.status != DeviceStatus.ACTIVE or not hmac.compare_digest(row.download_token_sha256, digest):
        raise AuthError("this download token is unknown", hint="enrol the device again")
    return row


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

"""Renewal of a device's certificate: signed with the present key, answered for a new one; both are good for a while.

The present certificate is not revoked: if the answer is lost on its way, the device must still get in. It ends by
itself. A device that slept past its certificate's end may still renew, since only it has the key, unless it was
decommissioned meanwhile. A clock that ran ahead when it asked does not keep it from asking again once it is right.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session

from skerry_contracts import codec
from skerry_contracts.assignment import Envelope
from skerry_contracts.enrolment import RENEWAL_TYPE, Renewal, RenewalRequest
from skerry_contracts.errors import ContractError
from skerry_fleet import audit
from skerry_fleet.audit import Actor
from skerry_fleet.errors import AuthError, ConflictError, InputError
from skerry_fleet.tables import Device
from skerry_fleet.trust import authority, signing
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.errors import TrustError

HALF = 0.5


def certificates(device: Device) -> list[str]:
    """Return the certificates (PEM) that a device may show: the present one, and the next where there is one."""
    return [each for each in (device.certificate_pem, device.next_certificate_pem) if each]


def renew(session: Session, office: Authority, device: Device, envelope: Envelope, now: float, days: float) -> Renewal:
    """Return the next certificate of the device whose download token came with the request.

    Raises:
        AuthError: not signed with a key of this device, or in another's name.
        ConflictError: an old request, played again.
        InputError: the certificate request is refused.
    """
    try:
        keys = [signing.certificate_key(each) for each in certificates(device)]
        request = codec.decode(RenewalRequest, signing.verify(envelope, RENEWAL_TYPE, keys))
    except (TrustError, ContractError) as error:
        raise AuthError(f"the renewal is refused: {error}", hint="enrol the device again") from error
    if (request.tenant, request.device) != (device.tenant, device.name):
        raise AuthError("the renewal is refused: it names another device", hint="enrol the device again")
    if request.issued_ms < device.renewed_ms:
        raise ConflictError("the renewal is refused: it is older than one before", hint="check the device's clock")
    try:
        wanted = signing.key_id(authority.request_key(request.csr_pem))
        if device.next_certificate_pem and _covers(device.next_certificate_pem, wanted, now):
            return Renewal(device.next_certificate_pem)  # the answer was lost: the same again
        issued = office.issue_device(request.csr_pem, device.tenant, device.name, now, days)
    except TrustError as error:
        raise InputError(str(error), hint=error.hint) from error
    signer = _signer(envelope, certificates(device))
    before, after = authority.serial_of(device.certificate_pem), authority.serial_of(issued)
    device.certificate_pem, device.next_certificate_pem = signer, issued
    # Not later than now: a device whose clock was ahead would be refused until that day had come.
    device.renewed_ms = min(request.issued_ms, int(now * 1000))
    session.add(device)
    actor = Actor(device.tenant, f"device:{device.name}")
    said = ({"certificate": f"{before:x}"}, {"certificate": f"{after:x}"})
    audit.write(session, actor, now, "device.renew", f"device/{device.name}", *said)
    return Renewal(issued)


def _covers(certificate_pem: str, key_id: str, now: float) -> bool:
    """Say whether a certificate is for this key and has more than half of its life before it."""
    begins, ends = authority.life_s(certificate_pem)
    return signing.key_id(signing.certificate_key(certificate_pem)) == key_id and now < begins + HALF * (ends - begins)


def _signer(envelope: Envelope, known: Iterable[str]) -> str:
    """Return the certificate whose key signed: from now on that is the present one."""
    by_key = {signing.key_id(signing.certificate_key(each)): each for each in known}
    return next(by_key[each.keyid] for each in envelope.signatures if each.keyid in by_key)

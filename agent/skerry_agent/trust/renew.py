"""Renewal: a new key and certificate at two thirds of the old one's life, asked for with the old key.

The answer goes into a slot of its own (`identity/next.pem`); the link tries it, and only a connection that stands puts
it in the old one's place. Whatever is lost on the way, one of the two slots lets the device in.
"""

from __future__ import annotations

import dataclasses

from cryptography import x509

from skerry_agent import identity
from skerry_agent.disk import Disk, replace_file
from skerry_agent.errors import ConfigError, NetworkError, TrustError
from skerry_agent.trust import signing
from skerry_agent.trust.enrol import certificate_request, private_key, requested_key
from skerry_agent.trust.transfer import Fleet
from skerry_contracts import codec
from skerry_contracts.device import Reason
from skerry_contracts.enrolment import RENEWAL_TYPE, Renewal, RenewalRequest
from skerry_contracts.errors import ContractError

SHARE = 2 / 3  # of a certificate's life, after which the next is asked for
PATH = "/device/v1/renew"


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """When the next renewal is due, when the newest certificate ends, and whether it came just now."""

    due_s: float
    expires_s: float
    renewed: bool = False
    begins_s: float = 0.0


def renew(disk: Disk, found: identity.Identity, fleet: Fleet, now_s: float) -> Life:
    """Return how long the newest certificate lives; ask for the next one first, if it is time.

    Raises:
        ConfigError: the credentials are damaged.
        NetworkError, TrustError: the fleet cannot be reached, refuses, or answers with another key's certificate.
    """
    newest = disk.read(identity.NEXT) or disk.read(identity.CREDENTIALS) or b""
    life = _life(newest)
    if now_s < life.due_s:
        return life
    signer = private_key(newest, identity.CREDENTIALS)
    key = requested_key(disk)
    device = found.enrolment.device
    request = RenewalRequest(found.enrolment.tenant, device, certificate_request(key, device), int(now_s * 1000))
    envelope = signing.sign(RENEWAL_TYPE, codec.encode(request), signer)
    try:
        renewal = codec.decode(Renewal, fleet.post(PATH, codec.encode(envelope)))
        certificate = x509.load_pem_x509_certificate(renewal.certificate_pem.encode())
    except (ContractError, ValueError) as error:
        raise NetworkError(f"the fleet's answer is unreadable: {error}", hint="update the agent") from error
    if certificate.public_key() != key.public_key():
        raise TrustError("the fleet's answer is another key's certificate", reason=Reason.WRONG_DEVICE)
    replace_file(disk, identity.NEXT, identity.credentials(disk, renewal.certificate_pem))
    disk.unlink(identity.REQUEST_KEY)
    return dataclasses.replace(_life(renewal.certificate_pem.encode()), renewed=True)


def inspect(credentials: bytes) -> tuple[Life, bool]:
    """Return the life of a certificate, and whether the key beside it is its own.

    Raises:
        ConfigError: the credentials are damaged.
    """
    life = _life(credentials)
    key = private_key(credentials, identity.CREDENTIALS)
    return life, x509.load_pem_x509_certificates(credentials)[0].public_key() == key.public_key()


def _life(pem: bytes) -> Life:
    try:
        certificate = x509.load_pem_x509_certificates(pem)[0]
    except ValueError as error:
        raise ConfigError(f"{identity.CREDENTIALS}: {error}", hint="enrol again with a new claim token") from error
    begins_s, ends_s = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return Life(begins_s + SHARE * (ends_s - begins_s), ends_s, begins_s=begins_s)

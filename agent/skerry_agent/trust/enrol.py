"""Enrolment: check the fleet against the claim token, make a key that never leaves, ask, keep the answer.

May be repeated after a failure at any point: the key is kept, and the fleet answers the same device and key again.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skerry_agent import identity
from skerry_agent.disk import Disk, replace_file
from skerry_agent.errors import ConfigError, NetworkError, TrustError
from skerry_agent.identity import Identity
from skerry_agent.trust.transfer import Fleet
from skerry_contracts import codec
from skerry_contracts.device import Hardware, Reason
from skerry_contracts.enrolment import Enrolment, EnrolmentRequest, Trust, parse_claim
from skerry_contracts.errors import ContractError


def enrol(disk: Disk, fleet: Fleet, url: str, claim: str, device: str | None, hardware: Hardware) -> Identity:
    """Enrol this device and write its identity.

    Raises:
        ConfigError: the token is malformed, or the device is enrolled already.
        TrustError: the fleet at this address is not the token's, or it refuses.
        NetworkError: it cannot be reached, or answers nonsense.
    """
    if disk.size(identity.ENROLMENT) is not None:
        name = identity.load(disk).enrolment.device
        raise ConfigError(f"already enrolled as {name}", hint="use another --root, or remove the identity folder")
    try:
        token = parse_claim(claim)
    except ContractError as error:
        raise ConfigError(f"--claim: {error}", hint=error.hint) from error
    document = fleet.get("/device/v1/trust")
    if codec.digest(document) != token.trust_sha256:
        raise TrustError(
            "the fleet at this address is not the one the claim token is for",
            reason=Reason.UNSIGNED,
            hint="check --fleet, and that nobody stands between",
        )
    disk.mkdir(identity.FOLDER)
    request = EnrolmentRequest(
        token.claim, token.secret, certificate_request(requested_key(disk), device), hardware, device
    )
    answer = fleet.post("/device/v1/enrol", codec.encode(request))
    try:
        trust, enrolment = codec.decode(Trust, document), codec.decode(Enrolment, answer)
    except ContractError as error:
        raise NetworkError(f"the fleet's answer is unreadable: {error}", hint="update the agent") from error
    if trust.tenant != enrolment.tenant:
        raise TrustError("the fleet's answer names another tenant than its trust", reason=Reason.WRONG_DEVICE)
    found = Identity(url, enrolment)
    identity.save(disk, found, document)
    return found


def requested_key(disk: Disk) -> ec.EllipticCurvePrivateKey:
    """Return the key (P-256) that a certificate is asked for; made, and made durable, before it is ever used."""
    data = disk.read(identity.REQUEST_KEY)
    if data is None:
        key = ec.generate_private_key(ec.SECP256R1())
        form, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        replace_file(disk, identity.REQUEST_KEY, key.private_bytes(serialization.Encoding.PEM, form, secret))
        return key
    return private_key(data, identity.REQUEST_KEY)


def private_key(pem: bytes, where: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key in a PEM file's content.

    Raises:
        ConfigError: there is none.
    """
    try:
        loaded = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}", hint="enrol again with a new claim token") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{where} is no P-256 key", hint="enrol again with a new claim token")
    return loaded


def certificate_request(key: ec.EllipticCurvePrivateKey, device: str | None) -> str:
    """Return a certificate request (PKCS#10, PEM) for a key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device or "device")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")

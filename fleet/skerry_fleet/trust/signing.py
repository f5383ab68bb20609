"""DSSE envelopes: sign and verify bytes of a stated type (github.com/secure-systems-lab/dsse).

Ed25519 signs the encoding itself; P-256 signs its SHA-256 and the signature is DER (r, s). A key's id is the SHA-256 of
its SubjectPublicKeyInfo in DER, lower-case hex. Decisions take values and return or raise; nothing here touches a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from skerry_contracts.assignment import Envelope, KeySignature, pre_authentication_encoding
from skerry_fleet.trust.errors import SignatureError
from skerry_fleet.trust.keys import PrivateKey, PublicKey


def key_id(key: PublicKey) -> str:
    """Return a public key's id: SHA-256 of its SubjectPublicKeyInfo (DER), lower-case hex."""
    return hashlib.sha256(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def sign(payload_type: str, payload: bytes, keys: Iterable[PrivateKey]) -> Envelope:
    """Return an envelope with one signature a key."""
    covered = pre_authentication_encoding(payload_type, payload)
    signatures = tuple(KeySignature(key_id(key.public_key()), _sign(key, covered)) for key in keys)
    return Envelope(payload_type, payload, signatures)


def verify(envelope: Envelope, payload_type: str, keys: Iterable[PublicKey], threshold: int = 1) -> bytes:
    """Return the payload if at least `threshold` different keys of `keys` signed it as `payload_type`.

    Raises:
        SignatureError: another type, too few signatures by known keys, or one by a known key that does not hold.
    """
    if envelope.payload_type != payload_type:
        raise SignatureError(f"type {envelope.payload_type!r:.80} found, {payload_type} expected")
    known = {key_id(key): key for key in keys}
    covered = pre_authentication_encoding(payload_type, envelope.payload)
    good = set()
    for signature in envelope.signatures:
        key = known.get(signature.keyid)
        if key is None:
            continue
        if not _holds(key, signature.sig, covered):
            raise SignatureError(f"the signature by key {signature.keyid:.16} does not hold")
        good.add(signature.keyid)
    if len(good) < threshold:
        raise SignatureError(f"{len(good)} of {threshold} needed signatures by known keys")
    return envelope.payload


def load_public_key(pem: str) -> PublicKey:
    """Return the Ed25519 or P-256 public key in a PEM text.

    Raises:
        SignatureError: no key, or one of another kind.
    """
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError) as error:
        raise SignatureError(f"not a public key: {error}") from error
    return fit_public_key(key)


def certificate_key(pem: str) -> PublicKey:
    """Return the public key of a certificate (PEM), Ed25519 or P-256.

    Raises:
        SignatureError: no certificate, or a key of another kind.
    """
    try:
        key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    except (ValueError, TypeError) as error:
        raise SignatureError(f"not a certificate: {error}") from error
    return fit_public_key(key)


def fit_public_key(key: object) -> PublicKey:
    """Return `key` if it is Ed25519 or P-256.

    Raises:
        SignatureError: any other kind.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise SignatureError(f"{type(key).__name__} is neither Ed25519 nor P-256")


def _sign(key: PrivateKey, covered: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(covered)
    return key.sign(covered, ec.ECDSA(hashes.SHA256()))


def _holds(key: PublicKey, signature: bytes, covered: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, covered)
        else:
            key.verify(signature, covered, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True

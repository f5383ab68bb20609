"""Signatures, for child processes: who may assign (DSSE; Ed25519 or P-256), and the device's own word (P-256).

A key's id is the SHA-256 of its SubjectPublicKeyInfo in DER; a P-256 signature is over SHA-256 and DER-encoded.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from skerry_agent.errors import ConfigError, TrustError
from skerry_contracts import codec
from skerry_contracts.assignment import (
    ASSIGNMENT_TYPE,
    Envelope,
    KeySignature,
    pre_authentication_encoding,
)
from skerry_contracts.device import Reason
from skerry_contracts.errors import ContractError

PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


def verify_assignment(envelope: bytes, director_keys_pem: Iterable[str]) -> bytes:
    """Return the payload of an assignment's envelope that one of the director's keys signed.

    Raises:
        TrustError: UNSIGNED.
    """
    return verify_director(envelope, ASSIGNMENT_TYPE, director_keys_pem)


def verify_director(envelope: bytes, payload_type: str, director_keys_pem: Iterable[str]) -> bytes:
    """Return the payload of an envelope that one of the director's keys signed as `payload_type`.

    Raises:
        TrustError: UNSIGNED.
    """
    try:
        found = codec.decode(Envelope, envelope)
    except ContractError as error:
        raise TrustError(f"unreadable: {error}", reason=Reason.UNSIGNED) from error
    if found.payload_type != payload_type:
        raise TrustError(f"of type {found.payload_type!r:.80}, not {payload_type}", reason=Reason.UNSIGNED)
    keys = {key_id(key): key for key in map(_public_key, director_keys_pem)}
    covered = pre_authentication_encoding(found.payload_type, found.payload)
    for signature in found.signatures:
        key = keys.get(signature.keyid)
        if key is not None and _holds(key, signature.sig, covered):
            return found.payload
    raise TrustError("no director's signature holds", reason=Reason.UNSIGNED)


def sign(payload_type: str, payload: bytes, key: ec.EllipticCurvePrivateKey) -> Envelope:
    """Return a payload in an envelope signed with the device's key."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload), ec.ECDSA(hashes.SHA256()))
    return Envelope(payload_type, payload, (KeySignature(key_id(key.public_key()), signature),))


def key_id(key: PublicKey) -> str:
    """Return a public key's id."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return codec.digest(key.public_bytes(serialization.Encoding.DER, form))


def _public_key(pem: str) -> PublicKey:
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"identity/trust.json: {error}", hint="enrol again with a new claim token") from error
    if isinstance(key, (ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey)):
        return key
    raise ConfigError("identity/trust.json names a key of an unknown kind", hint="update the agent")


def _holds(key: PublicKey, signature: bytes, covered: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, covered)
        else:
            key.verify(signature, covered, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True

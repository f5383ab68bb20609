"""Envelopes as a device reads them: only what the fleet's director signed counts."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ed25519

from skerry_contracts import codec
from skerry_contracts.assignment import ASSIGNMENT_TYPE, Envelope
from skerry_fleet.trust import signing
from skerry_fleet.trust.errors import SignatureError


def verified_payload(envelope: bytes, director: ed25519.Ed25519PublicKey) -> bytes | None:
    """Return what the fleet's director signed; None where it did not."""
    try:
        return signing.verify(codec.decode(Envelope, envelope), ASSIGNMENT_TYPE, [director])
    except (SignatureError, ValueError):
        return None

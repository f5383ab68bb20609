"""Who may assign: a director's key, over this payload, as this kind of document; anything else is unsigned."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from skerry_agent.errors import TrustError
from skerry_agent.trust import signing
from skerry_contracts import codec
from skerry_contracts.assignment import (
    ASSIGNMENT_TYPE,
    RECEIPT_TYPE,
    Envelope,
    KeySignature,
    pre_authentication_encoding,
)
from skerry_contracts.device import Reason

DIRECTOR, STRANGER = (ed25519.Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))


def pem(key: signing.PublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def signed(kind: str = ASSIGNMENT_TYPE, key: ed25519.Ed25519PrivateKey = DIRECTOR) -> Envelope:
    sig = key.sign(pre_authentication_encoding(kind, b"run this"))
    return Envelope(kind, b"run this", (KeySignature(signing.key_id(key.public_key()), sig),))


def test_a_director_s_word_is_believed() -> None:
    keys = [pem(DIRECTOR.public_key())]
    assert signing.verify_assignment(codec.encode(signed()), keys) == b"run this"
    device = ec.generate_private_key(ec.SECP256R1())
    own = signing.sign(ASSIGNMENT_TYPE, b"run this", device)
    assert signing.verify_assignment(codec.encode(own), [*keys, pem(device.public_key())]) == b"run this"


@pytest.mark.parametrize(
    "envelope",
    [
        signed(key=STRANGER),
        signed(kind=RECEIPT_TYPE),
        dataclasses.replace(signed(), payload=b"run that"),
        dataclasses.replace(signed(), payload_type=RECEIPT_TYPE),
        dataclasses.replace(signed(), signatures=()),
        dataclasses.replace(signed(), signatures=(KeySignature(signed().signatures[0].keyid, bytes(64)),)),
        dataclasses.replace(
            signed(key=STRANGER),
            signatures=(KeySignature(signed().signatures[0].keyid, signed(key=STRANGER).signatures[0].sig),),
        ),
    ],
    ids=["stranger", "kind", "payload", "relabelled", "no signature", "zeros", "borrowed key id"],
)
def test_all_else_is_unsigned(envelope: Envelope) -> None:
    with pytest.raises(TrustError) as caught:
        signing.verify_assignment(codec.encode(envelope), [pem(DIRECTOR.public_key())])
    assert caught.value.reason is Reason.UNSIGNED

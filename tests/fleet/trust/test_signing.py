from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.trust.conftest import NOW_S
from tests.fleet.trust.test_authority import request

from skerry_contracts import codec
from skerry_contracts.assignment import (
    ASSIGNMENT_TYPE,
    RECEIPT_TYPE,
    AssignedModel,
    Assignment,
    Envelope,
    KeySignature,
    Receipt,
    target_path,
)
from skerry_contracts.enrolment import Trust
from skerry_fleet.trust import signing
from skerry_fleet.trust.director import verify_receipt
from skerry_fleet.trust.errors import SignatureError
from skerry_fleet.trust.keys import PrivateKey
from skerry_fleet.trust.office import TrustOffice

KEYS: list[PrivateKey] = [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())]
PUBLIC = [key.public_key() for key in KEYS]
BUNDLE = "ab" * 32


@given(st.text(max_size=60), st.binary(max_size=300), st.sampled_from(KEYS))
def test_what_is_signed_is_read_back(kind: str, payload: bytes, key: PrivateKey) -> None:
    envelope = codec.decode(Envelope, codec.encode(signing.sign(kind, payload, [key])))
    assert signing.verify(envelope, kind, PUBLIC) == payload


@given(st.binary(max_size=80), st.data())
def test_any_flipped_byte_is_refused(payload: bytes, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(KEYS))
    envelope = signing.sign("type", payload, [key])
    signature = envelope.signatures[0].sig
    position = data.draw(st.integers(0, 10**6)) % (len(payload) + len(signature))
    both = bytearray(payload + signature)
    both[position] ^= data.draw(st.integers(1, 255))
    altered = dataclasses.replace(
        envelope,
        payload=bytes(both[: len(payload)]),
        signatures=(KeySignature(envelope.signatures[0].keyid, bytes(both[len(payload) :])),),
    )
    with pytest.raises(SignatureError):
        signing.verify(altered, "type", PUBLIC)


def test_a_type_cannot_be_taken_for_another() -> None:
    """The encoding separates type and payload by their lengths, so no shift between the two yields the same bytes."""
    envelope = signing.sign(ASSIGNMENT_TYPE, b"{}", KEYS[:1])
    with pytest.raises(SignatureError, match="expected"):
        signing.verify(envelope, RECEIPT_TYPE, PUBLIC)
    with pytest.raises(SignatureError, match="hold"):
        signing.verify(dataclasses.replace(envelope, payload_type=RECEIPT_TYPE), RECEIPT_TYPE, PUBLIC)


def test_thresholds_count_keys_not_signatures() -> None:
    once = signing.sign("type", b"x", KEYS[:1])
    twice = dataclasses.replace(once, signatures=once.signatures * 2)
    with pytest.raises(SignatureError, match="1 of 2"):
        signing.verify(twice, "type", PUBLIC, threshold=2)
    assert signing.verify(signing.sign("type", b"x", KEYS), "type", PUBLIC, threshold=2) == b"x"
    with pytest.raises(SignatureError, match="0 of 1"):
        signing.verify(dataclasses.replace(once, signatures=()), "type", PUBLIC)


def test_unknown_keys_are_passed_over() -> None:
    stranger = ed25519.Ed25519PrivateKey.generate()
    assert signing.verify(signing.sign("type", b"x", [stranger, *KEYS]), "type", PUBLIC) == b"x"
    with pytest.raises(SignatureError, match="0 of 1"):
        signing.verify(signing.sign("type", b"x", [stranger]), "type", PUBLIC)


def test_key_ids_are_those_of_the_public_key_info() -> None:
    envelope = signing.sign("type", b"x", KEYS[:1])
    assert envelope.signatures[0].keyid == signing.key_id(KEYS[0].public_key())
    assert len(envelope.signatures[0].keyid) == 64


@pytest.mark.parametrize("pem", ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_no_key(pem: str) -> None:
    with pytest.raises(SignatureError):
        signing.load_public_key(pem)
    with pytest.raises(SignatureError):
        signing.certificate_key(pem)


def test_an_assignment_holds_against_the_trust_document(office: TrustOffice) -> None:
    model = AssignedModel("digits", "1.0", 1, BUNDLE, target_path("digits", BUNDLE), 10, "r1")
    assignment = Assignment("default", "camera-1", 1, int(NOW_S), int(NOW_S) + 60, (model,))
    envelope = codec.decode(Envelope, office.director.sign_assignment(assignment))
    trust = codec.decode(Trust, office.trust_document)
    pinned = [signing.load_public_key(pem) for pem in trust.director_keys_pem]
    assert codec.decode(Assignment, signing.verify(envelope, ASSIGNMENT_TYPE, pinned)) == assignment
    assert office.trust_sha256 == codec.digest(office.trust_document)


def test_receipts(office: TrustOffice) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = office.authority.issue_device(request(key), "default", "camera-1", NOW_S)
    receipt = Receipt("default", "camera-1", 1, "digits", BUNDLE, "native", int(NOW_S), 8, 0.1, 0.2, 10_000_000)
    envelope = signing.sign(RECEIPT_TYPE, codec.encode(receipt), [key])
    assert verify_receipt(envelope, certificate) == receipt
    other = office.authority.issue_device(request(key), "default", "camera-2", NOW_S)
    with pytest.raises(SignatureError, match="another device"):
        verify_receipt(envelope, other)
    stranger = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(SignatureError):
        verify_receipt(signing.sign(RECEIPT_TYPE, codec.encode(receipt), [stranger]), certificate)
    with pytest.raises(SignatureError, match="none"):
        verify_receipt(signing.sign(RECEIPT_TYPE, b"{}", [key]), certificate)

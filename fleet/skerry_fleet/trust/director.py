"""Assignments out, receipts in: what binds one device to one set of models, and the device's signed answer.

Compare the director of Uptane: its key alone installs nothing, since the update repository must list the same bundle.
"""

from __future__ import annotations

import base64

from skerry_contracts import codec
from skerry_contracts.assignment import (
    ASSIGNMENT_TYPE,
    RECEIPT_TYPE,
    AssignedModel,
    Assignment,
    Envelope,
    Receipt,
    pre_authentication_encoding,
)
from skerry_contracts.carried import CARRIED_ACK_TYPE, CarriedAck
from skerry_contracts.errors import ContractError
from skerry_fleet.trust import authority, keys, signing
from skerry_fleet.trust.errors import SignatureError

# Canonical JSON with its keys in order, as `codec.encode` writes it, for records that are signed by ten thousands.
_ASSIGNMENT = b'{"device":%b,"expires_s":%d,"issued_s":%d,%b"models":%b,"sequence":%d,"tenant":%b}'
_ENVELOPE = b'{"payload":"%b","payload_type":"%b","signatures":[{"keyid":"%b","sig":"%b"}]}'


class Director:
    """Signs assignments with the fleet's director key."""

    def __init__(self, store: keys.KeyStore) -> None:
        self._key = store.ed25519(keys.DIRECTOR)
        self._keyid = signing.key_id(self._key.public_key())
        self._models: tuple[tuple[AssignedModel, ...], bytes] = ((), b"[]")

    def sign_assignment(self, assignment: Assignment) -> bytes:
        """Return the canonical bytes of a signed envelope, ready to be published (retained) to the device."""
        payload = self._payload(assignment)
        signature = self._key.sign(pre_authentication_encoding(ASSIGNMENT_TYPE, payload))
        told = base64.b64encode(payload), base64.b64encode(signature)
        return _ENVELOPE % (told[0], ASSIGNMENT_TYPE.encode(), self._keyid.encode(), told[1])

    def _payload(self, assignment: Assignment) -> bytes:
        """Return the canonical bytes of an assignment. The models are written once for all devices of a wave."""
        models, written = self._models
        if models is not assignment.models:
            written = codec.canonical_json(codec.to_plain(assignment.models))
            self._models = (assignment.models, written)
        measure = b"" if assignment.measure is None else b'"measure":%b,' % codec.encode(assignment.measure)
        names = codec.canonical_json(assignment.device), codec.canonical_json(assignment.tenant)
        numbers = assignment.expires_s, assignment.issued_s
        return _ASSIGNMENT % (names[0], *numbers, measure, written, assignment.sequence, names[1])

    def sign_ack(self, ack: CarriedAck) -> bytes:
        """Return the canonical bytes of a signed acknowledgement that is carried to its device by hand."""
        return codec.encode(signing.sign(CARRIED_ACK_TYPE, codec.encode(ack), [self._key]))


def verify_receipt(envelope: Envelope, *certificates_pem: str) -> Receipt:
    """Return the receipt in an envelope, if the owner of one of these certificates signed it and speaks of itself.

    The certificates are one device's, old and renewed. The caller has taken them from its own records, so issuer and
    life are not judged again here.

    Raises:
        SignatureError: the signature does not hold, or the receipt names another device.
    """
    payload = signing.verify(envelope, RECEIPT_TYPE, [signing.certificate_key(each) for each in certificates_pem])
    try:
        receipt = codec.decode(Receipt, payload)
    except ContractError as error:
        raise SignatureError(f"a signed receipt that is none: {error}") from error
    if authority.identity_of(certificates_pem[0]) != f"{receipt.tenant}/{receipt.device}":
        raise SignatureError(f"a receipt for {receipt.tenant}/{receipt.device} signed by another device")
    return receipt

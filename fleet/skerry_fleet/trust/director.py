"""Assignments out, receipts in: what binds one device to one set of models, and the device's signed answer.

Compare the director of Uptane: its key alone installs nothing, since the update repository must list the same bundle.
"""

from __future__ import annotations

from skerry_contracts import codec
from skerry_contracts.assignment import ASSIGNMENT_TYPE, RECEIPT_TYPE, Assignment, Envelope, Receipt
from skerry_contracts.carried import CARRIED_ACK_TYPE, CarriedAck
from skerry_contracts.errors import ContractError
from skerry_fleet.trust import authority, keys, signing
from skerry_fleet.trust.errors import SignatureError


class Director:
    """Signs assignments with the fleet's director key."""

    def __init__(self, store: keys.KeyStore) -> None:
        self._key = store.ed25519(keys.DIRECTOR)

    def sign_assignment(self, assignment: Assignment) -> bytes:
        """Return the canonical bytes of a signed envelope, ready to be published (retained) to the device."""
        return codec.encode(signing.sign(ASSIGNMENT_TYPE, codec.encode(assignment), [self._key]))

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

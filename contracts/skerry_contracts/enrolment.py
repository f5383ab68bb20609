"""How a device gets its identity: it shows a claim token once, keeps its own key, and is given a certificate and what
to trust.

A claim token is `skerry1.<claim id>.<secret>.<trust>`; `trust` is the SHA-256 of the trust document's bytes, so that
a device that holds the token cannot be given another fleet's roots, whatever the network between them does.
"""

from __future__ import annotations

import dataclasses
import re

from skerry_contracts import names
from skerry_contracts.device import Hardware
from skerry_contracts.errors import MismatchError

_TOKEN = re.compile(r"skerry1\.([a-z0-9]{8,32})\.([A-Za-z0-9_-]{32,64})\.([0-9a-f]{64})")


@dataclasses.dataclass(frozen=True, slots=True)
class ClaimToken:
    """A claim token taken apart."""

    claim: str
    secret: str
    trust_sha256: str

    def __str__(self) -> str:
        return f"skerry1.{self.claim}.{self.secret}.{self.trust_sha256}"


def parse_claim(text: str) -> ClaimToken:
    """Return the parts of a claim token.

    Raises:
        MismatchError: not a claim token.
    """
    found = _TOKEN.fullmatch(text.strip())
    if not found:
        raise MismatchError(
            "claim", "not a claim token", hint="copy the whole line that `skerry fleet claim create` printed"
        )
    return ClaimToken(*found.groups())


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """What a device believes from the first day: the fleet's certificate authority, the update repository's root (TUF
    root.json) and the keys that may sign assignments (PEM public keys).
    """

    tenant: str
    ca_pem: str
    tuf_root: bytes
    director_keys_pem: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """What a device sends. Of the certificate request (PEM) only the public key is taken."""

    claim: str
    secret: str
    csr_pem: str
    hardware: Hardware
    device: str | None = None

    def __post_init__(self) -> None:
        if self.device is not None:
            names.name(self.device, "device")


RENEWAL_TYPE = "application/vnd.skerry.renewal.v1+json"


@dataclasses.dataclass(frozen=True, slots=True)
class RenewalRequest:
    """A device asks for its next certificate, in an envelope of type `RENEWAL_TYPE` signed with its present key.

    `csr_pem` is made with a new key, of which only the public half is taken. `issued_ms` rises from request to
    request, so that nobody can play an old one again.
    """

    tenant: str
    device: str
    csr_pem: str
    issued_ms: int


@dataclasses.dataclass(frozen=True, slots=True)
class Renewal:
    """The next certificate. The present one stays good until it expires, in case this answer is lost."""

    certificate_pem: str


@dataclasses.dataclass(frozen=True, slots=True)
class Enrolment:
    """What a device gets: its name, its certificate, where the broker is, and a token for downloads over HTTP."""

    tenant: str
    device: str
    certificate_pem: str
    broker_host: str
    broker_port: int
    download_token: str

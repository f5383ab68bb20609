"""Everything the fleet signs with, under one folder: made on the first start, opened on every other.

<root>/keys/                private keys (see keys.py)
<root>/authority.crt        the certificate authority's certificate
<root>/tuf/{metadata,targets}/   the update repository
<root>/trust.json           what devices pin at enrolment; its SHA-256 is part of every claim token, so it never changes
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from skerry_contracts import codec, names
from skerry_contracts.enrolment import Trust
from skerry_contracts.errors import ContractError
from skerry_fleet.trust import durable, keys
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.director import Director
from skerry_fleet.trust.errors import TrustError
from skerry_fleet.trust.repository import Repository


@dataclasses.dataclass(frozen=True, slots=True)
class TrustOffice:
    """One tenant's authority, update repository and director, and the document that makes devices believe them."""

    tenant: str
    authority: Authority
    repository: Repository
    director: Director
    trust_document: bytes

    @property
    def trust_sha256(self) -> str:
        """The digest of the trust document, as claim tokens carry it."""
        return codec.digest(self.trust_document)


def open_office(root: Path, tenant: str, now_s: float, write: durable.Writer = durable.write_file) -> TrustOffice:
    """Return the office in `root`, made first where it is missing; what a cut left half done is finished.

    Raises:
        TrustError: a key is missing or unfit, or the files contradict each other.
    """
    names.name(tenant, "tenant")
    store = keys.KeyStore(root / "keys")
    durable.make_dirs(root)
    authority = Authority.create(root, store, now_s)
    repository = Repository(root / "tuf", store, write)
    repository.create(now_s)
    document = root / "trust.json"
    fresh = not document.exists()
    director_key = store.ed25519(keys.DIRECTOR, create=fresh)
    if fresh:
        spare = store.ed25519(keys.DIRECTOR_SPARE, create=True)
        pems = tuple(keys.public_pem(key.public_key()) for key in (director_key, spare))
        trust = Trust(tenant, authority.certificate_pem, repository.bootstrap_root(), pems)
        write(document, codec.encode(trust), 0o644)
    trust_document = document.read_bytes()
    _check(trust_document, tenant, authority, keys.public_pem(director_key.public_key()))
    return TrustOffice(tenant, authority, repository, Director(store), trust_document)


def _check(document: bytes, tenant: str, authority: Authority, director_pem: str) -> None:
    """Refuse to start with keys that no enrolled device would believe."""
    try:
        trust = codec.decode(Trust, document)
    except ContractError as error:
        raise TrustError(f"trust.json is damaged: {error}", hint="restore it from a copy") from error
    if trust.tenant != tenant:
        raise TrustError(f"trust.json is that of tenant {trust.tenant}, not {tenant}", hint="use another root folder")
    if trust.ca_pem != authority.certificate_pem or director_pem not in trust.director_keys_pem:
        raise TrustError("trust.json names other keys than those in keys/", hint="restore the folder as a whole")

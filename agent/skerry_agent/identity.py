"""Who this device is, where its fleet is, and what it believes: the files that enrolment left, read and written whole.

identity/device.pem        the device's own key (never leaves it) and its certificate, in one file: they change as one
identity/next.pem          the same, renewed and not yet proven by a connection; takes device.pem's place by one rename
identity/request.key       a key whose certificate has not come yet
identity/trust.json        contracts' Trust, byte for byte as the claim token's digest names it
identity/ca.crt            the fleet's authority, out of it
identity/enrolment.json    the fleet's address and contracts' Enrolment
"""

from __future__ import annotations

import dataclasses

from skerry_agent.disk import Disk, replace_file
from skerry_agent.errors import ConfigError
from skerry_contracts import codec
from skerry_contracts.enrolment import Enrolment, Trust
from skerry_contracts.errors import ContractError

FOLDER = "identity"
CREDENTIALS = f"{FOLDER}/device.pem"
NEXT = f"{FOLDER}/next.pem"
REQUEST_KEY = f"{FOLDER}/request.key"
TRUST = f"{FOLDER}/trust.json"
ENROLMENT = f"{FOLDER}/enrolment.json"
AUTHORITY = f"{FOLDER}/ca.crt"


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """The fleet's address (as given to `skerry agent enroll`) and what the fleet answered."""

    fleet: str
    enrolment: Enrolment


def load(disk: Disk) -> Identity:
    """Return the device's identity.

    Raises:
        ConfigError: not enrolled, or a damaged file.
    """
    data = disk.read(ENROLMENT)
    if data is None:
        raise ConfigError("this device is not enrolled", hint="skerry agent enroll --fleet URL --claim TOKEN")
    try:
        return codec.decode(Identity, data)
    except ContractError as error:
        raise ConfigError(f"{ENROLMENT}: {error}", hint="enrol again with a new claim token") from error


def load_trust(disk: Disk) -> Trust:
    """Return what the device believes.

    Raises:
        ConfigError: not enrolled, or a damaged file.
    """
    try:
        return codec.decode(Trust, disk.read(TRUST) or b"")
    except ContractError as error:
        raise ConfigError(f"{TRUST}: {error}", hint="enrol again with a new claim token") from error


def save(disk: Disk, identity: Identity, trust: bytes) -> None:
    """Write an identity durably; `enrolment.json` last: while it is missing, the device is not enrolled."""
    replace_file(disk, TRUST, trust)
    replace_file(disk, AUTHORITY, codec.decode(Trust, trust).ca_pem.encode())
    replace_file(disk, CREDENTIALS, credentials(disk, identity.enrolment.certificate_pem))
    replace_file(disk, ENROLMENT, codec.encode(identity))
    disk.unlink(REQUEST_KEY)


def credentials(disk: Disk, certificate_pem: str) -> bytes:
    """Return the requested key and the certificate that came for it, as one file's content."""
    return (disk.read(REQUEST_KEY) or b"") + certificate_pem.encode()


def promote(disk: Disk) -> None:
    """Let the renewed credentials take the place of the old ones, in one step that a power cut cannot divide."""
    disk.rename(NEXT, CREDENTIALS)
    disk.fsync_dir(FOLDER)

"""The fleet's own certificates on disk, renewed in time: the broker's as a server, the fleet's as its client."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from skerry_fleet.trust import authority, durable
from skerry_fleet.trust.authority import Authority

RENEW_AT = 1 / 3  # of the life left


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """Paths to PEM files: the authority to check the other side against, and one's own certificate and key."""

    ca: Path
    certificate: Path
    key: Path


def server(office: Authority, folder: Path, hosts: Sequence[str], now_s: float) -> Credentials:
    """Return the broker's certificate for localhost and `hosts`, made or renewed where needed."""
    credentials = _in(folder, "server")
    if _needs(office, credentials, hosts, now_s):
        _write(office, credentials, *office.issue_server(hosts, now_s))
    return credentials


def fleet_client(office: Authority, folder: Path, name: str, now_s: float) -> Credentials:
    """Return a certificate with which the fleet connects to the broker as `name`, made or renewed where needed."""
    credentials = _in(folder, name)
    if _needs(office, credentials, (), now_s):
        _write(office, credentials, *office.issue_fleet(name, now_s))
    return credentials


def visitor(office: Authority, folder: Path, identity: str, now_s: float) -> Credentials:
    """Return a certificate in a device's name, good for minutes: with it the fleet ends that device's connection."""
    credentials = _in(folder, "visitor")
    _write(office, credentials, *office.issue_visitor(identity, now_s))
    return credentials


def _in(folder: Path, name: str) -> Credentials:
    durable.make_dirs(folder)
    return Credentials(folder / "ca.crt", folder / f"{name}.crt", folder / f"{name}.key")


def _write(office: Authority, credentials: Credentials, key_pem: str, certificate_pem: str) -> None:
    durable.write_file(credentials.ca, office.certificate_pem.encode(), 0o644)
    # A cut between these two leaves a pair that does not match, which `_needs` sees and makes anew.
    durable.write_file(credentials.certificate, certificate_pem.encode(), 0o644)
    durable.write_file(credentials.key, key_pem.encode(), 0o600)


def _needs(office: Authority, credentials: Credentials, hosts: Sequence[str], now_s: float) -> bool:
    try:
        pem = credentials.certificate.read_text("ascii")
        key = credentials.key.read_bytes()
        if credentials.ca.read_text("ascii") != office.certificate_pem:
            return True
    except (FileNotFoundError, UnicodeDecodeError):
        return True
    left_s = authority.expires_s(pem) - now_s
    if left_s < authority.FLEET_DAYS * 86400 * RENEW_AT or not authority.belongs(pem, key):
        return True
    return not set(hosts) <= _named(pem)


def _named(pem: str) -> set[str]:
    found = x509.load_pem_x509_certificate(pem.encode()).extensions
    try:
        names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in names}

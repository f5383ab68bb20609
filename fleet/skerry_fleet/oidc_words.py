"""What is said of a provider of identities, and of a sign-in under way; `oidc.py` needs libraries, this does not."""

from __future__ import annotations

import dataclasses
import ipaddress
from urllib.parse import urlsplit


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Who vouches for people, and as whom we ask. `hosts` are those whose documents and keys count."""

    issuer: str
    client_id: str
    redirect_uri: str
    secret: str = dataclasses.field(default="", repr=False)
    hosts: tuple[str, ...] = ()
    scopes: str = "openid profile email"


@dataclasses.dataclass(frozen=True, slots=True)
class Flight:
    """What one sign-in under way must bring back."""

    state: str
    nonce: str
    verifier: str = dataclasses.field(repr=False)


def safe_address(address: str) -> bool:
    """Say whether an address may be asked: https, or http on this machine."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if parts.username or parts.password or parts.fragment or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _loopback(host))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

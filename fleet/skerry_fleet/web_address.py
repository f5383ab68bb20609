"""Addresses that browsers are led to. Whoever sets one may name any host, but nothing that a browser would run."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from skerry_fleet.errors import InputError

_PLAIN = re.compile(r"[!#-&(-;=?-\[\]-~]+")
"""ASCII without blanks, controls, quotes, angle brackets and backslashes: a host of other letters is written xn--."""


def check(name: str, address: str) -> None:
    """Refuse a setting that is neither empty nor the beginning of pages' addresses (RFC 3986, http or https).

    Raises:
        InputError: another scheme, no host, a user, a query or a fragment, or characters that no address has.

    >>> check("cloud_url", "https://cloud.example/skerry")
    """
    if not address:
        return
    hint = f"set {name} to something like https://cloud.example, or leave it out"
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not _PLAIN.fullmatch(address) or parts.scheme not in ("http", "https"):
        raise InputError(f"{name} {address!r:.80} is no http or https address", hint=hint)
    if "@" in parts.netloc or "?" in address or "#" in address:
        raise InputError(f"{name} has a user, a query or a fragment; pages are added to its end", hint=hint)

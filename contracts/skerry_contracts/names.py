"""What names may look like. Everything that becomes a topic level, a file name or a URL part passes through here
first.
"""

from __future__ import annotations

import re

from skerry_contracts.errors import MismatchError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BOOT = re.compile(r"[0-9]{8}-[0-9a-f]{8}")


def name(value: str, path: str = "name") -> str:
    """Return a tenant, device, model, group or target name: lower-case letters, digits and hyphens, 1 to 63 characters.

    Raises:
        MismatchError: anything else.
    """
    return _match(_NAME, value, path, "lower-case letters, digits and hyphens, 1 to 63 characters")


def version(value: str, path: str = "version") -> str:
    """Return a version: letters, digits and `.+_-`, at most 64 characters."""
    return _match(_VERSION, value, path, "letters, digits and .+_-, at most 64 characters")


def sha256(value: str, path: str = "sha256") -> str:
    """Return a SHA-256 in lower-case hex."""
    return _match(_SHA256, value, path, "64 lower-case hex digits")


def boot_id(value: str, path: str = "boot_id") -> str:
    """Return a boot id: eight digits that rise with every boot, a hyphen, eight hex digits. Later boots sort later."""
    return _match(_BOOT, value, path, "eight digits, a hyphen, eight hex digits")


def new_boot_id(count: int, token: bytes) -> str:
    """Return the boot id of a boot with this number, made distinct by four more bytes; ids are compared as text."""
    return boot_id(f"{count % 10**8:08d}-{token[:4].hex()}")


def _match(pattern: re.Pattern[str], value: str, path: str, wanted: str) -> str:
    if not pattern.fullmatch(value):
        raise MismatchError(path, f"{value!r:.80} refused: {wanted}")
    return value

"""The secret that the local API may ask for on its port: in a file that the agent's user and group can read.

The Unix socket needs none: who may open it is said by its own permissions. A port has no permissions, so every user of
the device, and every container that shares its network, reaches it.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
from pathlib import Path

MODE = 0o640
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}\n?")


def ensure(path: Path) -> str:
    """Return the token in a file; a new one where there is none, or what is there is no token.

    A token stays across restarts, so that programs may read it once.

    Raises:
        OSError: the file can be neither read nor written.
    """
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, encoding="ascii", errors="replace") as file:
            text = file.read(64)
            if _TOKEN.fullmatch(text):
                os.fchmod(fd, MODE)
                return text.strip()
    token = secrets.token_urlsafe(32)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            os.fchmod(fd, MODE)  # whatever the umask took away
            file.write(f"{token}\n")
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return token


def matches(token: str, header: bytes) -> bool:
    """Return whether an Authorization header bears the token; takes as long for a near miss as for a far one."""
    scheme, _, said = header.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(said.strip(), token.encode())

"""Secrets that the fleet has to read again (where messages go, and what signs webhooks), sealed in the database.

AES-256-GCM under a key that lies in `<root>/secrets.key` and not in the database, bound to the row they are for. So a
copy of the database, and a backup without keys, hold none. Passwords and API keys are not here: of those only hashes
are kept.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import logging
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlmodel import Session, col, select

from skerry_fleet import webhooks
from skerry_fleet.database import Database
from skerry_fleet.errors import UnavailableError
from skerry_fleet.incident_tables import Route
from skerry_fleet.trust import durable

FILE = "secrets.key"
KEY_BYTES, NONCE_BYTES = 32, 12
PREFIX = "sealed1."
HINT = f"put the {FILE} of its time back, or delete the route and create it anew"

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Vault:
    """Seals and opens with one key. Sealed text says which key it needs: `sealed1.<key>.<nonce and ciphertext>`."""

    key: bytes = dataclasses.field(repr=False)

    @property
    def name(self) -> str:
        """What this key is called in sealed text."""
        return hashlib.sha256(b"skerry vault\0" + self.key).hexdigest()[:8]

    def seal(self, text: str, *place: str) -> str:
        """Return a text sealed for one place: table, tenant, name, column."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(self.key).encrypt(nonce, text.encode(), _bound(place))
        return f"{PREFIX}{self.name}.{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, *place: str) -> str:
        """Return what was sealed for this place.

        Raises:
            UnavailableError: with another key, for another place, or altered.
        """
        _, _, rest = sealed.partition(PREFIX)
        name, _, data = rest.partition(".")
        what = " ".join(place[:1] + place[2:3])
        if name != self.name:
            raise UnavailableError(f"{what} was sealed with another key", hint=HINT)
        try:
            raw = base64.b64decode(data, validate=True)
            return AESGCM(self.key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(place)).decode()
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise UnavailableError(f"{what} cannot be opened: altered, or from elsewhere", hint=HINT) from error


def _bound(place: tuple[str, ...]) -> bytes:
    return "\0".join(place).encode()


def open_vault(root: Path) -> Vault:
    """Return the vault of the fleet in `root`; its key is made at the first start.

    Raises:
        UnavailableError: the file holds no key.
    """
    path = root / FILE
    if not path.is_file():
        durable.write_file(path, os.urandom(KEY_BYTES).hex().encode() + b"\n", 0o600)
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except (ValueError, UnicodeDecodeError):
        key = b""
    if len(key) != KEY_BYTES:
        raise UnavailableError(f"{path} holds no key", hint=f"restore it from a copy, or remove it: then {HINT}")
    return Vault(key)


def unlock(database: Database, root: Path) -> None:
    """Give a database's sessions the vault of its fleet.

    Raises:
        UnavailableError: see `open_vault`.
    """
    database.info["vault"] = open_vault(root)
    with database.write() as session:
        adopt(session)


def of(session: Session) -> Vault:
    """Return the vault of a session's fleet."""
    found: Vault = session.info["vault"]
    return found


def seal_route(session: Session, row: Route) -> None:
    """Seal a route's target and secret, and keep what may be seen of the target."""
    vault = of(session)
    row.shown = webhooks.shown(row.target)
    row.target = vault.seal(row.target, "route", row.tenant, row.name, "target")
    row.secret = vault.seal(row.secret, "route", row.tenant, row.name, "secret")


def opened_route(session: Session, row: Route) -> tuple[str, str]:
    """Return a route's target and secret.

    Raises:
        UnavailableError: they cannot be opened with this fleet's key.
    """
    vault = of(session)
    target = vault.open(row.target, "route", row.tenant, row.name, "target")
    return target, vault.open(row.secret, "route", row.tenant, row.name, "secret")


def adopt(session: Session) -> None:
    """Seal what a version before kept as it was; say which routes this fleet's key does not open."""
    vault = of(session)
    for row in session.exec(select(Route).order_by(col(Route.tenant), col(Route.name))).all():
        if not row.target.startswith(PREFIX):
            seal_route(session, row)
            session.add(row)
            log.info("sealed the target of route %s", row.name)
        elif not row.target.startswith(f"{PREFIX}{vault.name}."):
            log.error("route %s was sealed with another key: %s", row.name, HINT)

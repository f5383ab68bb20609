"""Keys of people and programs: 256 random bits each, of which the fleet keeps only the SHA-256.

A key is `sk1_<id>_<secret>`. A slow hash would protect guessable passwords; these cannot be guessed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from enum import StrEnum
from typing import Any

from sqlmodel import Session, col, select

from skerry_fleet import audit
from skerry_fleet.audit import Actor
from skerry_fleet.config import RandomBytes
from skerry_fleet.errors import AuthError, ConflictError, InputError, MissingError
from skerry_fleet.paging import Page, listing
from skerry_fleet.tables import ApiKey


class Role(StrEnum):
    """What a key may do; each role may do what those before it may. A measurer leases boards and has candidates
    measured there, and changes nothing else.
    """

    VIEWER = "viewer"
    MEASURER = "measurer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling: tenant, key and role. For a person who signed in, `kind` is `user` and `key` their name."""

    tenant: str
    key: str
    name: str
    role: Role
    kind: str = "key"

    def actor(self, request: str = "") -> Actor:
        """Return the caller as the audit names it."""
        return Actor(self.tenant, f"{self.kind}:{self.key}", request)


def create(session: Session, actor: Actor, now: float, random: RandomBytes, name: str, role: str) -> tuple[ApiKey, str]:
    """Make a key; the text is returned here and never again.

    Raises:
        InputError: an empty or overlong name, or no such role.
    """
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise InputError("name: 1 to 100 printable characters")
    if role not in list(Role):
        raise InputError(f"role {role!r:.40} is none of {', '.join(Role)}")
    secret = random(32).hex()
    row = ApiKey(
        id=random(6).hex(),
        tenant=actor.tenant,
        name=name,
        role=role,
        secret_sha256=_hash(secret),
        created_ms=int(now * 1000),
        created_by=actor.name,
    )
    session.add(row)
    audit.write(session, actor, now, "key.create", f"key/{row.id}", None, {"name": name, "role": role})
    return row, f"sk1_{row.id}_{secret}"


def authenticate(session: Session, text: str) -> Caller:
    """Return who holds this key.

    Raises:
        AuthError: not a key, or not one of ours, or revoked.
    """
    parts = text.split("_")
    if len(parts) != 3 or parts[0] != "sk1" or len(text) > 200:
        raise AuthError("that is not an API key", hint="keys begin with sk1_; `skerry fleet key create` makes one")
    row = session.get(ApiKey, parts[1])
    if row is None or row.revoked_ms is not None or not hmac.compare_digest(row.secret_sha256, _hash(parts[2])):
        raise AuthError("this API key is unknown or revoked", hint="ask an admin for a new one")
    return Caller(row.tenant, row.id, row.name, Role(row.role))


def list_keys(session: Session, tenant: str, page: Page) -> dict[str, Any]:
    """Return one page of keys, without secrets."""
    rows = session.exec(
        select(ApiKey)
        .where(ApiKey.tenant == tenant, ApiKey.id > page.after)
        .order_by(col(ApiKey.id))
        .limit(page.limit + 1)
    ).all()
    return listing(rows, page, view, lambda row: row.id)


def revoke(session: Session, actor: Actor, now: float, key: str) -> dict[str, Any]:
    """Make a key worthless.

    Raises:
        MissingError: no such key.
        ConflictError: the only admin's key left.
    """
    row = session.get(ApiKey, key)
    if row is None or row.tenant != actor.tenant:
        raise MissingError(f"no key {key:.40}")
    if row.revoked_ms is None:
        admins = session.exec(
            select(ApiKey.id).where(
                ApiKey.tenant == actor.tenant, ApiKey.role == Role.ADMIN.value, col(ApiKey.revoked_ms).is_(None)
            )
        ).all()
        if list(admins) == [key]:  # admins without a key reach no API, and their own accounts can be lost
            raise ConflictError("this is the only admin key left", hint="create another admin key first")
        row.revoked_ms = int(now * 1000)
        session.add(row)
        audit.write(session, actor, now, "key.revoke", f"key/{key}", {"role": row.role}, {"revoked": True})
    return view(row)


def view(row: ApiKey) -> dict[str, Any]:
    """Return a key as the API shows it."""
    shown = row.model_dump(include={"id", "name", "role", "created_ms", "created_by", "revoked_ms"})
    return shown


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

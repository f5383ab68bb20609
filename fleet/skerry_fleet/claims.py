"""Claims: tokens that let a device enrol a fixed number of times before an hour. Only the secret's SHA-256 is kept."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from sqlmodel import Session, col, select

from skerry_contracts.enrolment import ClaimToken
from skerry_fleet import audit, groups
from skerry_fleet.audit import Actor
from skerry_fleet.config import RandomBytes
from skerry_fleet.database import rowcount
from skerry_fleet.errors import AuthError, ConflictError, InputError, MissingError
from skerry_fleet.paging import Page, listing
from skerry_fleet.tables import Claim

MAX_USES = 1_000_000
MAX_LIFE_S = 366 * 86_400.0


def create(
    session: Session,
    actor: Actor,
    now: float,
    random: RandomBytes,
    trust_sha256: str,
    *,
    uses: int = 1,
    expires_s: float = 86_400.0,
    group: str = "",
) -> dict[str, Any]:
    """Make a claim for `uses` devices, valid for `expires_s` seconds; the token is in the answer and nowhere else.

    Raises:
        InputError: uses or time out of range.
        MissingError: no such group.
        ConflictError: a query chooses the group's devices.
    """
    if not 1 <= uses <= MAX_USES:
        raise InputError(f"uses: from 1 to {MAX_USES}")
    if not 1 <= expires_s <= MAX_LIFE_S:
        raise InputError(f"expires_s: from 1 to {MAX_LIFE_S:.0f} seconds")
    if group:
        groups.get(session, actor.tenant, group)
        if group in groups.dynamic(session, actor.tenant):
            raise ConflictError(
                f"a query chooses the devices of group {group}", hint="give the claim tags that the query asks for"
            )
    secret = base64.urlsafe_b64encode(random(32)).rstrip(b"=").decode("ascii")
    row = Claim(
        tenant=actor.tenant,
        id=random(6).hex(),
        secret_sha256=_hash(secret),
        group=group,
        uses=uses,
        uses_left=uses,
        created_ms=int(now * 1000),
        expires_ms=int((now + expires_s) * 1000),
        created_by=actor.name,
    )
    session.add(row)
    audit.write(session, actor, now, "claim.create", f"claim/{row.id}", None, {"uses": uses, "group": group})
    return {**view(row), "token": str(ClaimToken(row.id, secret, trust_sha256))}


def find(session: Session, tenant: str, claim: str, secret: str) -> Claim:
    """Return the claim of this id and secret, used up or not.

    Raises:
        AuthError: no such claim, or another secret.
    """
    row = session.get(Claim, (tenant, claim))
    if row is None or not hmac.compare_digest(row.secret_sha256, _hash(secret)):
        raise AuthError("this claim token is unknown", hint="`skerry fleet claim create` makes a new one")
    return row


def redeem(session: Session, row: Claim, now: float) -> None:
    """Use a claim once, in one statement: two devices can never share the last use.

    Raises:
        ConflictError: used up, expired or revoked.
    """
    taken = rowcount(
        session,
        "UPDATE claim SET uses_left = uses_left - 1 WHERE tenant = :tenant AND id = :id"
        " AND uses_left > 0 AND NOT revoked AND expires_ms > :now",
        tenant=row.tenant,
        id=row.id,
        now=int(now * 1000),
    )
    session.refresh(row)
    if taken != 1:
        why = "was revoked" if row.revoked else "has expired" if row.expires_ms <= now * 1000 else "is used up"
        raise ConflictError(
            f"this claim token {why}", hint="`skerry fleet claim create` makes a new one", code="claim-spent"
        )


def list_claims(session: Session, tenant: str, page: Page) -> dict[str, Any]:
    """Return one page of claims, without secrets."""
    rows = session.exec(
        select(Claim).where(Claim.tenant == tenant, Claim.id > page.after).order_by(col(Claim.id)).limit(page.limit + 1)
    ).all()
    return listing(rows, page, view, lambda row: row.id)


def revoke(session: Session, actor: Actor, now: float, claim: str) -> dict[str, Any]:
    """Make a claim worthless.

    Raises:
        MissingError: no such claim.
    """
    row = session.get(Claim, (actor.tenant, claim))
    if row is None:
        raise MissingError(f"no claim {claim!r:.40}")
    if not row.revoked:
        row.revoked = True
        session.add(row)
        audit.write(
            session, actor, now, "claim.revoke", f"claim/{claim}", {"uses_left": row.uses_left}, {"revoked": True}
        )
    return view(row)


def view(row: Claim) -> dict[str, Any]:
    """Return a claim as the API shows it."""
    return row.model_dump(exclude={"tenant", "secret_sha256"})


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

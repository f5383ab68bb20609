"""Claims: tokens that let a device enrol a fixed number of times before an hour. Only the secret's SHA-256 is kept."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, func, select

from skerry_contracts import names
from skerry_contracts.codec import canonical_json
from skerry_contracts.enrolment import ClaimToken
from skerry_contracts.errors import MismatchError
from skerry_fleet import audit, groups, tag_rules
from skerry_fleet.audit import Actor
from skerry_fleet.claim_tables import ClaimDevice, ClaimTags
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
    tags: Mapping[str, str] | None = None,
    devices: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Make a claim for `uses` devices, valid for `expires_s` seconds; the token is in the answer and nowhere else.

    Its devices get `tags`. With `devices` it is for these names alone, once each, whatever `uses` says.

    Raises:
        InputError: uses or time out of range, tags or names that may not be.
        MissingError: no such group.
        ConflictError: a query chooses the group's devices.
    """
    if devices is not None:
        uses = len(_names(devices))
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
    session.flush()
    if tags:
        tag_rules.check(tags)
        text = canonical_json(dict(tags)).decode()
        session.add(ClaimTags(tenant=actor.tenant, claim=row.id, tags=text))
    session.add_all(ClaimDevice(tenant=actor.tenant, claim=row.id, device=name) for name in devices or ())
    after = {"uses": uses, "group": group, "tags": dict(tags or {}), "named": devices is not None}
    audit.write(session, actor, now, "claim.create", f"claim/{row.id}", None, after)
    session.flush()
    return {**views(session, [row])[0], "token": str(ClaimToken(row.id, secret, trust_sha256))}


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
    shown = {row.id: seen for row, seen in zip(rows, views(session, rows), strict=True)}
    return listing(rows, page, lambda row: shown[row.id], lambda row: row.id)


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
    return views(session, [row])[0]


def views(session: Session, rows: Sequence[Claim]) -> list[dict[str, Any]]:
    """Return claims as the API shows them; `named`: how many devices each is for by name."""
    ids, tenant = [row.id for row in rows], rows[0].tenant if rows else ""
    tagged = select(ClaimTags.claim, ClaimTags.tags).where(ClaimTags.tenant == tenant, col(ClaimTags.claim).in_(ids))
    counted = select(ClaimDevice.claim, func.count()).where(ClaimDevice.tenant == tenant)
    counted = counted.where(col(ClaimDevice.claim).in_(ids)).group_by(col(ClaimDevice.claim))
    tags, named = dict(session.exec(tagged).all()), dict(session.exec(counted).all())
    return [
        {
            **row.model_dump(exclude={"tenant", "secret_sha256"}),
            "tags": json.loads(tags.get(row.id, "{}")),
            "named": named.get(row.id, 0),
        }
        for row in rows
    ]


def welcomes(session: Session, row: Claim, device: str, now: float) -> bool:
    """Say whether a claim was made for a device of this name, and note that it comes now: it may once.

    Raises:
        ConflictError: the claim is for other devices, or this one came before.
    """
    mine = session.get(ClaimDevice, (row.tenant, row.id, device))
    if mine is None:
        query = select(ClaimDevice.device).where(ClaimDevice.tenant == row.tenant, ClaimDevice.claim == row.id)
        if session.exec(query.limit(1)).first() is None:
            return False
    if mine is None or mine.enrolled_ms is not None:
        raise ConflictError(
            f"this claim token is not for a device {device!r:.80}"
            if mine is None
            else f"device {device} has used this claim token before",
            hint="enrol with a --device name that it was made for, or make another for it",
            code="claim-not-for-it",
        )
    mine.enrolled_ms = int(now * 1000)
    session.add(mine)
    return True


def tags_of(session: Session, row: Claim) -> dict[str, str]:
    """Return the tags that a claim gives."""
    given = session.get(ClaimTags, (row.tenant, row.id))
    found: dict[str, str] = {} if given is None else json.loads(given.tags)
    return found


def _names(devices: Sequence[str]) -> Sequence[str]:
    """Return names of devices that are to come, if each may be one and comes once.

    Raises:
        InputError: none, or a name that may not be one or comes twice.
    """
    if not devices:
        raise InputError("devices: at least one name", hint="leave it out for a claim that is for any device")
    known = set()
    for name in devices:
        try:
            names.name(name, "devices")
        except MismatchError as error:
            raise InputError(str(error)) from error
        if name in known:
            raise InputError(f"device {name} is named twice")
        known.add(name)
    return devices


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

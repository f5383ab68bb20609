"""The audit chain: one record for every change of state, written in the change's own transaction.

`hash` = SHA-256 over canonical JSON of (previous hash, tenant, seq, time, actor, action, object, before, after,
request). Removing, altering or reordering records breaks the chain; cutting off its end is seen by comparing with a
head kept elsewhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from sqlmodel import Session, col, select

from skerry_contracts.codec import canonical_json
from skerry_fleet.records import Audit, AuditHead

GENESIS = "0" * 64


@dataclasses.dataclass(frozen=True, slots=True)
class Actor:
    """Who does it: the tenant, a name such as `key:ab12` or `system:rollout`, and the request's id."""

    tenant: str
    name: str
    request: str = ""


def write(
    session: Session,
    actor: Actor,
    now: float,
    action: str,
    subject: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> Audit:
    """Add one record to the tenant's chain and return it. `subject` is `<kind>/<name>`."""
    # Read and locked once a transaction: nobody else can move it until the commit.
    heads: dict[str, AuditHead] = session.info.setdefault("audit_heads", {})
    head = heads.get(actor.tenant) or session.get(AuditHead, actor.tenant, with_for_update=True)
    if head is None:
        head = AuditHead(tenant=actor.tenant, seq=0, hash=GENESIS)
    heads[actor.tenant] = head
    row = Audit(
        tenant=actor.tenant,
        seq=head.seq + 1,
        time_ms=int(now * 1000),
        actor=actor.name,
        action=action,
        object=subject,
        before=canonical_json(before).decode(),
        after=canonical_json(after).decode(),
        request=actor.request,
        previous_hash=head.hash,
        hash="",
    )
    row.hash = digest(row)
    head.seq, head.hash = row.seq, row.hash
    session.add(row)
    session.add(head)
    return row


def digest(row: Audit) -> str:
    """Return the hash a record must carry."""
    numbers = [row.seq, row.time_ms]
    texts = [row.previous_hash, row.tenant, row.actor, row.action, row.object, row.before, row.after, row.request]
    return hashlib.sha256(canonical_json([numbers, texts])).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """What a walk along the chain found. `broken_at` is the first record that does not fit."""

    records: int
    head: str
    broken_at: int | None
    problem: str = ""


def verify(session: Session, tenant: str, page: int = 5000) -> Verification:
    """Walk a tenant's chain from its beginning."""
    last, count = GENESIS, 0
    while True:
        rows = session.exec(
            select(Audit).where(Audit.tenant == tenant, Audit.seq > count).order_by(col(Audit.seq)).limit(page)
        ).all()
        for row in rows:
            if row.seq != count + 1:
                return Verification(count, last, count + 1, "a record is missing")
            if row.previous_hash != last:
                return Verification(count, last, row.seq, "does not follow the record before it")
            if digest(row) != row.hash:
                return Verification(count, last, row.seq, "was altered")
            last, count = row.hash, row.seq
        session.expunge_all()
        if len(rows) < page:
            break
    head = session.get(AuditHead, tenant)
    if head is not None and (head.seq, head.hash) != (count, last):
        return Verification(count, last, count + 1, "the end of the chain is missing")
    return Verification(count, last, None)

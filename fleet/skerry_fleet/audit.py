"""The audit chain: one record for every change of state, written in the change's own transaction.

`hash` = SHA-256 over canonical JSON of (previous hash, tenant, seq, time, actor, action, object, before, after,
request). Removing, altering or reordering records breaks the chain; cutting off its end is seen by comparing with a
head kept elsewhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlmodel import Session, col, select

from skerry_contracts.codec import canonical_json
from skerry_fleet.records import Audit, AuditHead
from skerry_fleet.sql import bulk
from skerry_fleet.sql.changes import Insert

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
    head = _head(session, actor.tenant)
    row = Audit(**_record(actor, now, head, action, subject, before, after))
    session.add(row)
    session.add(head)
    return row


_RECORDS = Insert(
    "audit",
    ("tenant", "seq", "time_ms", "actor", "action", "object", "before", "after", "request", "previous_hash", "hash"),
)
Change = tuple[str, dict[str, Any] | None, dict[str, Any] | None]
"""What a record is about (`<kind>/<name>`), and its state before and after."""


def write_all(session: Session, actor: Actor, now: float, action: str, changes: Iterable[Change]) -> None:
    """Add a record for each of many changes of one kind, as `write` does, at a fifth of the price."""
    head = _head(session, actor.tenant)
    rows = [_record(actor, now, head, action, *change) for change in changes]
    if rows:
        session.add(head)
        bulk.many(session, _RECORDS, rows)


def _head(session: Session, tenant: str) -> AuditHead:
    """Return the end of a tenant's chain, read and locked once a transaction: nobody else can move it before."""
    heads: dict[str, AuditHead] = session.info.setdefault("audit_heads", {})
    head = heads.get(tenant) or session.get(AuditHead, tenant, with_for_update=True)
    heads[tenant] = head = head or AuditHead(tenant=tenant, seq=0, hash=GENESIS)
    return head


def _record(
    actor: Actor,
    now: float,
    head: AuditHead,
    action: str,
    subject: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the next record's columns, and move the head on."""
    row: dict[str, Any] = {
        "tenant": actor.tenant,
        "seq": head.seq + 1,
        "time_ms": int(now * 1000),
        "actor": actor.name,
        "action": action,
        "object": subject,
        "before": canonical_json(before).decode(),
        "after": canonical_json(after).decode(),
        "request": actor.request,
        "previous_hash": head.hash,
    }
    row["hash"] = _hash(row)
    head.seq, head.hash = row["seq"], row["hash"]
    return row


def digest(row: Audit) -> str:
    """Return the hash a record must carry."""
    return digest_of({name: getattr(row, name) for name in (*NUMBERS, *TEXTS)})


NUMBERS = ("seq", "time_ms")
TEXTS = ("previous_hash", "tenant", "actor", "action", "object", "before", "after", "request")


def digest_of(row: Mapping[str, Any]) -> str:
    """Return the hash of a record's columns."""
    covered = [[row[name] for name in NUMBERS], [row[name] for name in TEXTS]]
    return hashlib.sha256(canonical_json(covered)).hexdigest()


_canonical = msgspec.json.Encoder(order="sorted").encode


def _hash(row: Mapping[str, Any]) -> str:
    """Return what `digest_of` does, for records made here, text and 64-bit numbers: in a quarter of the time."""
    covered = [[row[name] for name in NUMBERS], [row[name] for name in TEXTS]]
    return hashlib.sha256(_canonical(covered)).hexdigest()


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

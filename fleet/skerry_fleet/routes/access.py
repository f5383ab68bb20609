"""/api/v1: claims, keys and the audit."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from sqlmodel import col, select

from skerry_fleet import apikeys, audit, audit_file, claims, paging
from skerry_fleet.paging import listing
from skerry_fleet.records import Audit
from skerry_fleet.routes.common import Admin, FleetPart, OncePart, Operator, PagePart, Viewer, actor_of, body, reply

router = APIRouter(prefix="/api/v1")


@dataclasses.dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A new claim: for how many devices, how long, into which group they go and with which tags; with `devices`, for
    these names alone.
    """

    uses: int = 1
    expires_s: float = 86_400.0
    group: str | None = None
    tags: dict[str, str] | None = None
    devices: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class KeyRequest:
    """A new API key."""

    name: str
    role: str


@router.get("/claims")
def list_claims(fleet: FleetPart, caller: Operator, page: PagePart) -> Response:
    """Claims, without secrets."""
    with fleet.database.read() as session:
        return reply(claims.list_claims(session, caller.tenant, page))


@router.post("/claims", status_code=201)
def create_claim(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    wanted: Annotated[ClaimRequest, Depends(body(ClaimRequest))],
    once: OncePart,
) -> Response:
    """Make a claim; the token is shown here only."""
    now = fleet.clock()
    with fleet.database.write() as session:

        def make() -> dict[str, Any]:
            return claims.create(
                session,
                actor_of(request, caller),
                now,
                fleet.random,
                fleet.office.trust_sha256,
                uses=wanted.uses,
                expires_s=wanted.expires_s,
                group=wanted.group or "",
                tags=wanted.tags,
                devices=wanted.devices,
            )

        return reply(once.do(session, caller, now, make), 201)


@router.delete("/claims/{claim}")
def revoke_claim(request: Request, fleet: FleetPart, caller: Operator, claim: str) -> Response:
    """Make a claim worthless."""
    with fleet.database.write() as session:
        return reply(claims.revoke(session, actor_of(request, caller), fleet.clock(), claim))


@router.get("/keys")
def list_keys(fleet: FleetPart, caller: Admin, page: PagePart) -> Response:
    """API keys, without secrets."""
    with fleet.database.read() as session:
        return reply(apikeys.list_keys(session, caller.tenant, page))


@router.post("/keys", status_code=201)
def create_key(
    request: Request,
    fleet: FleetPart,
    caller: Admin,
    wanted: Annotated[KeyRequest, Depends(body(KeyRequest))],
    once: OncePart,
) -> Response:
    """Make an API key; its text is shown here only."""
    actor, now = actor_of(request, caller), fleet.clock()
    with fleet.database.write() as session:

        def make() -> dict[str, Any]:
            row, text = apikeys.create(session, actor, now, fleet.random, wanted.name, wanted.role)
            return {**apikeys.view(row), "key": text}

        return reply(once.do(session, caller, now, make), 201)


@router.delete("/keys/{key_id}")
def revoke_key(request: Request, fleet: FleetPart, caller: Admin, key_id: str) -> Response:
    """Make a key worthless."""
    with fleet.database.write() as session:
        return reply(apikeys.revoke(session, actor_of(request, caller), fleet.clock(), key_id))


@router.get("/audit")
def list_audit(
    fleet: FleetPart, caller: Viewer, page: PagePart, object: str = "", actor: str = "", action: str = ""
) -> Response:
    """The audit chain, newest first; of one object (`rollout/r1-...`), actor or action where one is named."""
    only = {"object": object, "actor": actor, "action": action}
    query = paging.narrowed(select(Audit).where(Audit.tenant == caller.tenant), Audit, only)
    if page.after_id is not None:
        query = query.where(Audit.seq < page.after_id)
    with fleet.database.read() as session:
        rows = session.exec(query.order_by(col(Audit.seq).desc()).limit(page.limit + 1)).all()
        return reply(listing(rows, page, _audit_view, lambda row: row.seq))


@router.get("/audit/verify")
def verify_audit(fleet: FleetPart, caller: Viewer) -> Response:
    """Walk the whole chain and say whether it holds."""
    with fleet.database.read() as session:
        return reply(dataclasses.asdict(audit.verify(session, caller.tenant)))


@router.get("/audit/export")
def export_audit(fleet: FleetPart, caller: Viewer, after: str | None = None) -> StreamingResponse:
    """The whole chain, or what comes behind a record, as JSON lines; `skerry fleet audit verify` reads them."""
    found = audit_file.lines(fleet.database, caller.tenant, paging.page(after, None).after_id or 0)
    return StreamingResponse(found, media_type=audit_file.MEDIA)


@router.get("/whoami")
def whoami(fleet: FleetPart, caller: Viewer) -> Response:
    """Who this key is."""
    return reply({"tenant": caller.tenant, "key": caller.key, "name": caller.name, "role": caller.role})


def _audit_view(row: Audit) -> dict[str, Any]:
    shown = row.model_dump(exclude={"tenant"})
    return {**shown, "before": json.loads(row.before), "after": json.loads(row.after)}

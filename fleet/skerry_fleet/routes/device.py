"""What devices ask over HTTP: trust, enrolment, update metadata and blobs."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from skerry_contracts import codec, names
from skerry_contracts.assignment import Envelope
from skerry_contracts.enrolment import EnrolmentRequest
from skerry_fleet import devices, enrolment, group_queries, placement, renewal
from skerry_fleet.auth import DeviceGuard
from skerry_fleet.errors import MissingError
from skerry_fleet.routes import sending
from skerry_fleet.routes.common import FleetPart

router = APIRouter()
FromDevice = Annotated[str, Depends(DeviceGuard())]

_METADATA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.json")
_TARGET = re.compile(r"([a-z0-9][a-z0-9-]{0,62})/([0-9a-f]{64}\.[0-9a-f]{64}\.json)")


@router.get("/device/v1/trust")
def trust(fleet: FleetPart) -> Response:
    """The trust document, exactly the bytes whose digest claim tokens carry."""
    return Response(fleet.office.trust_document, media_type="application/json")


async def _request(request: Request) -> EnrolmentRequest:
    return codec.decode(EnrolmentRequest, await request.body())


@router.post("/device/v1/enrol")
def enrol(fleet: FleetPart, request: Annotated[EnrolmentRequest, Depends(_request)]) -> Response:
    """A claim and a key in, an identity out; the new device joins the rollouts that cover it."""
    now, tenant = fleet.clock(), fleet.config.tenant
    with fleet.rollouts.open() as session:
        days = fleet.config.certificate_days
        made = enrolment.enrol(session, fleet.office.authority, tenant, request, fleet.broker, now, days, fleet.random)
        session.flush()
        shard = placement.place(session, tenant, made.device, fleet.config.shards)
        session.flush()
        group_queries.touch(session, fleet.rollouts, now, tenant, [made.device])
        fleet.rollouts.joined(session, now, tenant, made.device)
    if fleet.brokers:
        host, port = fleet.brokers[shard]
        made = dataclasses.replace(made, broker_host=host, broker_port=port)
    return Response(codec.encode(made), media_type="application/json")


async def _envelope(request: Request) -> Envelope:
    return codec.decode(Envelope, await request.body())


@router.post("/device/v1/renew")
def renew(fleet: FleetPart, device: FromDevice, envelope: Annotated[Envelope, Depends(_envelope)]) -> Response:
    """A new key, signed for with the present one, in; the next certificate out."""
    with fleet.rollouts.open() as session:
        row = devices.get(session, fleet.config.tenant, device)
        days = fleet.config.certificate_days
        made = renewal.renew(session, fleet.office.authority, row, envelope, fleet.clock(), days)
    return Response(codec.encode(made), media_type="application/json")


@router.get("/tuf/metadata/{name}")
def metadata(fleet: FleetPart, device: FromDevice, name: str) -> Response:
    """Metadata of the update repository (TUF)."""
    if not _METADATA.fullmatch(name) or ".." in name:
        raise MissingError("no such metadata")
    return sending.file(fleet, fleet.office.repository.metadata_dir / name, "application/json")


@router.get("/tuf/targets/{path:path}")
def target(fleet: FleetPart, device: FromDevice, path: str) -> Response:
    """A listed manifest, by its consistent-snapshot name."""
    found = _TARGET.fullmatch(path)
    if found is None:
        raise MissingError("no such target")
    return sending.file(fleet, fleet.office.repository.targets_dir / found[1] / found[2], "application/json")


@router.get("/blobs/{sha256}")
def blob(request: Request, fleet: FleetPart, device: FromDevice, sha256: str) -> Response:
    """A blob by its digest, of a bundle or of candidates that are measured just now; ranges are served."""
    names.sha256(sha256)
    try:
        return sending.blob(fleet, sha256, request.headers.get("range"))
    except MissingError:
        lent = fleet.leases.blob(sha256)
        if lent is None:
            raise
    return sending.file(fleet, lent, sending.BYTES, sha256)


@router.get("/deltas/{sha256}")
def delta(
    fleet: FleetPart,
    device: FromDevice,
    sha256: str,
    base: Annotated[list[str], Query(max_length=8)],
    method: Annotated[list[str], Query(max_length=8)],
) -> Response:
    """The smallest delta to a blob from one of the bases that the device has; then `/blobs` serves it."""
    names.sha256(sha256)
    found = fleet.deltas.offer(sha256, base, method)
    if found is None:
        raise MissingError("no delta was prepared", hint="fetch the whole blob")
    return Response(codec.encode(found), media_type="application/json")

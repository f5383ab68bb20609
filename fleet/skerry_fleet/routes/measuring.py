"""/api/v1: leases of boards for measuring, and the performance database."""

from __future__ import annotations

import dataclasses
import tempfile
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from skerry_fleet import lease_request, leases, measurements
from skerry_fleet.apikeys import Caller, Role
from skerry_fleet.audit import Actor
from skerry_fleet.errors import MissingError, UnavailableError
from skerry_fleet.fleet import Fleet
from skerry_fleet.lease_request import LeaseRequest, Terms
from skerry_fleet.measure_tables import MeasureLease
from skerry_fleet.routes.common import FleetPart, Measurer, OncePart, PagePart, SeenPart, Viewer, actor_of, body, reply
from skerry_fleet.routes.models import receive

router = APIRouter(prefix="/api/v1")


@dataclasses.dataclass(frozen=True, slots=True)
class RenewRequest:
    """A sign of life; `results` asks for what the board reported so far as well."""

    results: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class CancelRequest:
    """Why a lease is wanted no more."""

    reason: str = ""


@router.get("/leases")
def list_leases(fleet: FleetPart, caller: Viewer, page: PagePart, status: str = "") -> Response:
    """Leases, newest first."""
    with fleet.database.read() as session:
        return reply(measurements.list_leases(session, caller.tenant, page, status))


@router.post("/leases", status_code=201)
def ask_lease(
    request: Request,
    fleet: FleetPart,
    caller: Measurer,
    wanted: Annotated[LeaseRequest, Depends(body(LeaseRequest))],
    once: OncePart,
) -> Response:
    """Ask for a board."""
    now = fleet.clock()
    with fleet.database.write() as session:

        def make() -> dict[str, Any]:
            row = fleet.leases.create(session, actor_of(request, caller), now, wanted)
            session.flush()
            return measurements.lease_view(session, row)

        return reply(once.do(session, caller, now, make), 201)


@router.get("/leases/{lease}")
def show_lease(fleet: FleetPart, caller: Viewer, lease: str) -> Response:
    """Where a lease stands."""
    with fleet.database.read() as session:
        row = lease_request.get(session, caller.tenant, lease)
        return reply(measurements.lease_view(session, row), facts={"status": row.status})


@router.post("/leases/{lease}/renew")
def renew_lease(
    request: Request,
    fleet: FleetPart,
    caller: Measurer,
    lease: str,
    wanted: Annotated[RenewRequest, Depends(body(RenewRequest))],
) -> Response:
    """Keep a lease, and hear where it stands."""
    actor = actor_of(request, caller)
    with fleet.database.write() as session:
        row = lease_request.owned(session, actor, lease, by_role=False)
        fleet.leases.renew(session, actor, fleet.clock(), row)
        return reply(measurements.lease_view(session, row, results=wanted.results))


@router.post("/leases/{lease}/bundle")
async def upload_candidates(
    request: Request, fleet: FleetPart, caller: Measurer, lease: str, seconds: int = Query(300), rounds: int = Query(8)
) -> Response:
    """Take in the candidates as the request's body (a bundle file), and order them measured."""
    actor, terms = actor_of(request, caller), Terms(seconds, rounds)
    try:
        with tempfile.TemporaryFile(dir=fleet.config.root) as file:
            await receive(request, file, leases.MAX_BYTES + (16 << 20))
            return reply(await run_in_threadpool(_upload, fleet, actor, lease, file, terms))
    except OSError as error:
        raise UnavailableError(f"cannot keep the candidates: {error.strerror}", hint="free disk space") from error


def _upload(fleet: Fleet, actor: Actor, lease: str, file: BinaryIO, terms: Terms) -> dict[str, object]:
    with fleet.database.write() as session:
        row: MeasureLease = lease_request.owned(session, actor, lease, by_role=False)
        fleet.leases.upload(session, actor, fleet.clock(), row, file, terms)
        return measurements.lease_view(session, row)


@router.post("/leases/{lease}/cancel")
def cancel_lease(
    request: Request,
    fleet: FleetPart,
    caller: Measurer,
    lease: str,
    wanted: Annotated[CancelRequest, Depends(body(CancelRequest))],
    seen: SeenPart,
) -> Response:
    """End a lease: one's own, or as an operator any."""
    actor = actor_of(request, caller)
    with fleet.database.write() as session:
        row = lease_request.owned(session, actor, lease, by_role=_steers(caller))
        seen.still({"status": row.status})
        fleet.leases.cancel(session, actor, fleet.clock(), row, wanted.reason)
        return reply(measurements.lease_view(session, row))


@router.get("/measurements")
def list_measurements(
    fleet: FleetPart,
    caller: Viewer,
    page: PagePart,
    profile: str = "",
    device: str = "",
    source: str = "",
    lease: str = "",
) -> Response:
    """The performance database, newest first."""
    with fleet.database.read() as session:
        found = measurements.list_measurements(
            session, caller.tenant, page, profile=profile, device=device, source=source, lease=lease
        )
        return reply(found)


@router.get("/measurements/{number}")
def show_measurement(fleet: FleetPart, caller: Viewer, number: str) -> Response:
    """One measurement with every round."""
    if not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise MissingError(f"no measurement {number!r:.40}")
    with fleet.database.read() as session:
        return reply(measurements.show(session, caller.tenant, int(number)))


def _steers(caller: Caller) -> bool:
    return caller.role.covers(Role.OPERATOR)

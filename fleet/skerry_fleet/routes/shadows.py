"""/api/v1: shadows, what they came to, and the rollout that one may become."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from sqlmodel import Session

from skerry_contracts import codec
from skerry_fleet import shadow_figures as figures
from skerry_fleet import shadow_orders as orders
from skerry_fleet.audit import Actor
from skerry_fleet.errors import ConflictError, InputError
from skerry_fleet.fleet import Fleet
from skerry_fleet.rollout_plan import Wave
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.routes.common import FleetPart, OncePart, Operator, PagePart, SeenPart, Viewer, actor_of, body, reply
from skerry_fleet.routes.rollouts import OrderRequest
from skerry_fleet.shadow_orders import ShadowRequest
from skerry_fleet.shadow_tables import Shadow, ShadowStatus

router = APIRouter(prefix="/api/v1")


@dataclasses.dataclass(frozen=True, slots=True)
class PromoteRequest:
    """How the rollout of a shadow's bundle is to go; see `RolloutRequest`. `group` None: where the shadow was."""

    group: str | None = None
    canary: int = 1
    waves: tuple[Wave, ...] = (Wave(100),)
    soak_s: float = 30.0
    failure_budget: int = 0
    exposure_budget: int = 5
    timeout_s: float = 86_400.0
    approval: bool = False


@router.get("/shadows")
def list_shadows(fleet: FleetPart, caller: Viewer, page: PagePart, model: str = "", status: str = "") -> Response:
    """Shadows, newest first."""
    with fleet.database.read() as session:
        return reply(figures.list_shadows(session, caller.tenant, page, model, status))


@router.post("/shadows", status_code=201)
def start_shadow(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    wanted: Annotated[ShadowRequest, Depends(body(ShadowRequest))],
    once: OncePart,
) -> Response:
    """Start a shadow."""
    now = fleet.clock()
    with fleet.rollouts.open() as session:

        def make() -> dict[str, Any]:
            row = orders.create(session, fleet.pen, actor_of(request, caller), now, wanted, fleet.random)
            session.flush()
            return figures.view(session, row)

        return reply(once.do(session, caller, now, make), 201)


@router.get("/shadows/{shadow}")
def show_shadow(fleet: FleetPart, caller: Viewer, shadow: str) -> Response:
    """What a shadow came to."""
    with fleet.database.read() as session:
        row = orders.get(session, caller.tenant, shadow)
        return reply(figures.view(session, row), facts=_stands(row))


@router.get("/shadows/{shadow}/devices")
def shadow_devices(fleet: FleetPart, caller: Viewer, shadow: str, page: PagePart) -> Response:
    """The devices of a shadow, each with its own figures."""
    with fleet.database.read() as session:
        return reply(figures.list_devices(session, caller.tenant, shadow, page))


@router.get("/shadows/{shadow}/samples")
def shadow_samples(fleet: FleetPart, caller: Operator, shadow: str) -> Response:
    """The newest samples on which it disagreed, with both answers."""
    with fleet.database.read() as session:
        found = figures.samples(session, caller.tenant, shadow)
        items = [
            {
                "id": row.id,
                "device": row.device,
                "received_ms": row.received_ms,
                "prediction": sample.prediction,
                "record": codec.to_plain(sample),
            }
            for row, sample in found
        ]
        return reply({"items": items, "next": None})


@router.post("/shadows/{shadow}/end")
def end_shadow(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    shadow: str,
    wanted: Annotated[OrderRequest, Depends(body(OrderRequest))],
    seen: SeenPart,
) -> Response:
    """End a shadow on every device."""
    with fleet.rollouts.open() as session:
        seen.still(_stands(orders.get(session, caller.tenant, shadow)))
        row = orders.end(session, fleet.pen, actor_of(request, caller), fleet.clock(), shadow, wanted.reason)
        return reply(figures.view(session, row))


@router.post("/shadows/{shadow}/promote", status_code=201)
def promote_shadow(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    shadow: str,
    wanted: Annotated[PromoteRequest, Depends(body(PromoteRequest))],
    once: OncePart,
    seen: SeenPart,
) -> Response:
    """Start a rollout of a shadow's bundle."""
    actor = actor_of(request, caller)
    with fleet.rollouts.open() as session:

        def make() -> dict[str, Any]:
            seen.still(_stands(orders.get(session, caller.tenant, shadow)))
            return promote_in(session, fleet, actor, shadow, wanted)

        return reply(once.do(session, caller, fleet.clock(), make), 201)


def _stands(row: Shadow) -> Any:
    """Return what orders depend on; its figures move all the time."""
    return {"status": row.status}


def promote(fleet: Fleet, actor: Actor, shadow: str, wanted: PromoteRequest) -> dict[str, Any]:
    """Start a rollout of a shadow's bundle in a transaction of its own; see `promote_in`."""
    with fleet.rollouts.open() as session:
        return promote_in(session, fleet, actor, shadow, wanted)


def promote_in(session: Session, fleet: Fleet, actor: Actor, shadow: str, wanted: PromoteRequest) -> dict[str, Any]:
    """Start a rollout of a shadow's bundle and return it.

    Raises:
        MissingError: no such shadow.
        ConflictError: it was promoted before, or the rollout cannot be.
        InputError: it ran on chosen devices, and no group is named.
    """
    row = orders.get(session, actor.tenant, shadow)
    if row.status == ShadowStatus.PROMOTED:
        raise ConflictError(f"shadow {shadow} became rollout {row.rollout}", hint="skerry fleet rollout show")
    if row.chosen and wanted.group is None:
        raise InputError("this shadow ran on chosen devices", hint="name the group that the rollout is for")
    fields = {field.name: getattr(wanted, field.name) for field in dataclasses.fields(wanted)}
    fields["group"] = wanted.group if wanted.group is not None else row.group or None
    plan = RolloutRequest(row.model, row.bundle, **fields)
    plan.plan()
    made = fleet.rollouts.create(session, actor, fleet.clock(), plan)
    orders.promoted(session, actor, fleet.clock(), row, made["id"])
    return made

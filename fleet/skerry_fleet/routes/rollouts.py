"""/api/v1: rollouts."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from skerry_fleet import rollout_pairs, rollout_preview, rollout_rows
from skerry_fleet.errors import MissingError
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.rollout_words import Order
from skerry_fleet.routes.common import FleetPart, OncePart, Operator, PagePart, SeenPart, Viewer, actor_of, body, reply
from skerry_fleet.tables import Rollout

router = APIRouter(prefix="/api/v1")


@dataclasses.dataclass(frozen=True, slots=True)
class OrderRequest:
    """Why an order is given; may be left out."""

    reason: str = ""


@router.get("/rollouts")
def list_rollouts(fleet: FleetPart, caller: Viewer, page: PagePart, model: str = "", status: str = "") -> Response:
    """Rollouts, newest first."""
    with fleet.database.read() as session:
        return reply(rollout_rows.list_rollouts(session, caller.tenant, page, model, status))


@router.post("/rollouts", status_code=201)
def create_rollout(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    wanted: Annotated[RolloutRequest, Depends(body(RolloutRequest))],
    once: OncePart,
    dry_run: bool = False,
) -> Response:
    """Start a rollout; with `dry_run`, say what it would do, and do nothing."""
    if dry_run:
        with fleet.database.read() as session:
            return reply(rollout_preview.preview(session, caller.tenant, wanted))
    wanted.plan()
    actor, now = actor_of(request, caller), fleet.clock()
    with fleet.rollouts.open() as session:

        def make() -> dict[str, Any]:
            return fleet.rollouts.create(session, actor, now, wanted)

        return reply(once.do(session, caller, now, make), 201)


@router.get("/rollouts/{rollout}")
def show_rollout(fleet: FleetPart, caller: Viewer, rollout: str) -> Response:
    """Where a rollout stands."""
    with fleet.database.read() as session:
        row = rollout_rows.get(session, caller.tenant, rollout)
        return reply(rollout_rows.view(row), facts=_stands(row))


@router.get("/rollouts/{rollout}/devices")
def rollout_devices(fleet: FleetPart, caller: Viewer, rollout: str, page: PagePart, place: str = "") -> Response:
    """The devices of a rollout."""
    with fleet.database.read() as session:
        return reply(rollout_rows.list_devices(session, caller.tenant, rollout, page, place))


@router.get("/rollouts/{rollout}/evidence")
def rollout_evidence(fleet: FleetPart, caller: Viewer, rollout: str, page: PagePart) -> Response:
    """How devices with the bundle do beside devices without it: the evidence for harm, and its pairs."""
    with fleet.database.read() as session:
        row = rollout_rows.get(session, caller.tenant, rollout)
        return reply({**rollout_pairs.evidence(session, row), **rollout_pairs.list_pairs(session, row, page)})


@router.post("/rollouts/{rollout}/{order}")
def order_rollout(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    rollout: str,
    order: str,
    wanted: Annotated[OrderRequest, Depends(body(OrderRequest))],
    seen: SeenPart,
) -> Response:
    """Approve, pause, resume, abort or roll back."""
    if order not in list(Order):
        raise MissingError(f"no order {order!r:.40}", hint=f"orders: {', '.join(Order)}")
    with fleet.rollouts.open() as session:
        actor = actor_of(request, caller)
        seen.still(_stands(rollout_rows.get(session, caller.tenant, rollout)))
        return reply(fleet.rollouts.order(session, actor, fleet.clock(), rollout, Order(order), wanted.reason))


def _stands(row: Rollout) -> Any:
    """Return what orders depend on; its counts move all the time."""
    return {"status": row.status, "stage": row.stage}

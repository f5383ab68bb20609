"""What is asked of the fleet as a whole: overview, event stream, metrics, health."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from skerry_fleet import alerts, devices, rollout_rows
from skerry_fleet.errors import ForbiddenError
from skerry_fleet.migrations import upgrade
from skerry_fleet.routes.common import FleetPart, Viewer, reply

router = APIRouter()


@router.get("/api/v1/overview")
def overview(request: Request, fleet: FleetPart, caller: Viewer) -> Response:
    """The fleet in a few numbers."""
    with fleet.database.read() as session:
        totals = devices.totals(session, caller.tenant)
        open_alerts = alerts.count_open(session, caller.tenant)
        rollouts = rollout_rows.count_active(session, caller.tenant)
    return reply(
        {
            "tenant": caller.tenant,
            "devices": {"total": totals["devices"], "online": totals["online"]},
            "models": totals["models"],
            "open_alerts": open_alerts,
            "active_rollouts": rollouts,
            "messages_per_s": fleet.metrics.messages_per_s() if caller.tenant == fleet.config.tenant else 0.0,
            "broker": {"host": fleet.broker[0], "port": fleet.broker[1], "connected": request.app.state.connected()},
            "uptime_s": round(fleet.clock() - fleet.started, 1),
        }
    )


@router.get("/api/v1/events")
async def events(request: Request, fleet: FleetPart, caller: Viewer) -> StreamingResponse:
    """Server-sent events: device, rollout, shadow, lease, alert, incident, bundle, drift."""
    stream = request.app.state.hub.stream(caller.tenant, fleet.config.stream_idle_s)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})


@router.get("/metrics")
def metrics(fleet: FleetPart, caller: Viewer) -> Response:
    """Metrics in Prometheus' text format: of the whole process, so for keys of the tenant that it serves."""
    if caller.tenant != fleet.config.tenant:
        raise ForbiddenError("metrics tell of the whole fleet", hint="ask with a key of the fleet's own tenant")
    return Response(fleet.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    return reply({"status": "ok"})


@router.get("/readyz")
def readyz(request: Request, fleet: FleetPart) -> Response:
    """The database answers, is at this version's step and takes what is written, and the broker has us."""
    with fleet.database.read() as session:
        migrated = upgrade.revision(session.connection()) == upgrade.HEAD
    said = {
        "database": fleet.database.writable(),
        "migrated": migrated,
        "broker": bool(request.app.state.connected()),
    }
    return reply(said, 200 if all(said.values()) else 503)

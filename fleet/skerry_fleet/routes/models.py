"""/api/v1: models, bundles, drift and the feeds for the cloud."""

from __future__ import annotations

import dataclasses
import tempfile
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from skerry_contracts import codec, names
from skerry_fleet import feeds, registry, rollups
from skerry_fleet.errors import InputError, TooLargeError, UnavailableError
from skerry_fleet.rollups import HISTORY_HOURS
from skerry_fleet.routes.common import FleetPart, OncePart, Operator, PagePart, SeenPart, Viewer, actor_of, body, reply

router = APIRouter(prefix="/api/v1")


@dataclasses.dataclass(frozen=True, slots=True)
class ModelRequest:
    """A new model."""

    name: str
    description: str = ""


@router.get("/models")
def list_models(fleet: FleetPart, caller: Viewer, page: PagePart, q: str = "") -> Response:
    """Models by name."""
    with fleet.database.read() as session:
        return reply(registry.list_models(session, caller.tenant, page, q))


@router.post("/models", status_code=201)
def register_model(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    wanted: Annotated[ModelRequest, Depends(body(ModelRequest))],
    once: OncePart,
) -> Response:
    """Register a model."""
    actor = actor_of(request, caller)
    with fleet.database.write() as session:

        def make() -> dict[str, Any]:
            return fleet.registry.register(actor, wanted.name, wanted.description, session)

        return reply(once.do(session, caller, fleet.clock(), make), 201)


@router.get("/models/{model}/bundles")
def list_bundles(fleet: FleetPart, caller: Viewer, model: str, page: PagePart, target: str = "") -> Response:
    """A model's bundles, newest release first."""
    with fleet.database.read() as session:
        return reply(registry.list_bundles(session, caller.tenant, model, page, target))


@router.post("/models/{model}/bundles", status_code=201)
async def upload_bundle(
    request: Request, fleet: FleetPart, caller: Operator, model: str, publish: bool = Query(True)
) -> Response:
    """Take in a bundle file as the request's body."""
    actor = actor_of(request, caller)
    try:
        with tempfile.TemporaryFile(dir=fleet.config.root) as file:
            await receive(request, file, fleet.config.max_bundle_bytes)
            made = await run_in_threadpool(fleet.registry.upload, actor, model, file, publish=publish)
    except OSError as error:
        raise UnavailableError(f"cannot keep the bundle: {error.strerror}", hint="free disk space") from error
    return reply(made, 201)


async def receive(request: Request, file: IO[bytes], most: int) -> None:
    """Write a request's body to a file.

    Raises:
        TooLargeError: it is larger than `most` bytes.
    """
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > most:
            raise TooLargeError(f"a bundle of more than {most} bytes", hint="raise max_bundle_bytes")
        file.write(piece)
    file.seek(0)


@router.get("/bundles/{bundle}")
def show_bundle(fleet: FleetPart, caller: Viewer, bundle: str) -> Response:
    """A bundle with its manifest and evidence."""
    with fleet.database.read() as session:
        shown = registry.show(session, caller.tenant, bundle)
        return reply(shown, facts={"state": shown["state"]})


@router.post("/bundles/{bundle}/publish")
def publish_bundle(request: Request, fleet: FleetPart, caller: Operator, bundle: str, seen: SeenPart) -> Response:
    """List a draft in the update repository."""
    return reply(fleet.registry.publish(actor_of(request, caller), bundle, seen))


@router.post("/bundles/{bundle}/withdraw")
def withdraw_bundle(request: Request, fleet: FleetPart, caller: Operator, bundle: str, seen: SeenPart) -> Response:
    """Take a bundle off the list."""
    return reply(fleet.registry.withdraw(actor_of(request, caller), bundle, seen))


async def _drift(request: Request) -> dict[str, Any]:
    plain = codec.parse_json(await request.body())
    if not isinstance(plain, dict) or not isinstance(plain.get("drifting"), bool):
        raise InputError("a verdict is an object with `drifting`, true or false")
    monitor = plain.setdefault("monitor", "data")
    if not isinstance(monitor, str):
        raise InputError("monitor is a name, such as data")
    names.name(monitor, "monitor")
    return plain


@router.put("/models/{model}/drift")
def put_drift(
    request: Request,
    fleet: FleetPart,
    caller: Operator,
    model: str,
    verdict: Annotated[dict[str, Any], Depends(_drift)],
) -> Response:
    """Take in a monitor's verdict: `monitor`, `drifting`, `score`, `threshold` and whatever else it says."""
    actor, now = actor_of(request, caller), fleet.clock()
    with fleet.database.write() as session:
        return reply(feeds.put_drift(session, actor, now, model, verdict["monitor"], verdict["drifting"], verdict))


@router.get("/models/{model}/drift")
def get_drift(fleet: FleetPart, caller: Viewer, model: str) -> Response:
    """The newest verdict of each monitor."""
    with fleet.database.read() as session:
        return reply(feeds.get_drift(session, caller.tenant, model))


@router.get("/models/{model}/health")
def health(fleet: FleetPart, caller: Viewer, model: str, hours: int = Query(168, ge=1, le=HISTORY_HOURS)) -> Response:
    """A model's health by the hour, each version apart, oldest first."""
    since_ms = int((fleet.clock() - 3600 * hours) * 1000)
    with fleet.database.read() as session:
        return reply({"items": rollups.health(session, caller.tenant, model, since_ms)})


@router.get("/samples")
def samples(fleet: FleetPart, caller: Operator, page: PagePart) -> Response:
    """Samples in the order of their commits."""
    with fleet.database.read() as session:
        return Response(feeds.read(session, caller.tenant, "samples", page), media_type="application/json")


@router.get("/sketches")
def sketches(fleet: FleetPart, caller: Operator, page: PagePart) -> Response:
    """Sketches in the order of their commits."""
    with fleet.database.read() as session:
        return Response(feeds.read(session, caller.tenant, "sketches", page), media_type="application/json")


@router.get("/dead-letters")
def dead_letters(fleet: FleetPart, caller: Operator, page: PagePart, device: str = "") -> Response:
    """Refused messages, newest first."""
    with fleet.database.read() as session:
        return reply(feeds.dead_letters(session, caller.tenant, page, {"device": device}))

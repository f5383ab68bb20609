"""The fleet's routes as documented, small enough to run in a thread on a real socket: what the cloud side needs of
it.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from skerry_contracts import codec
from skerry_contracts.container import open_container
from skerry_contracts.sample import Sample
from skerry_contracts.sketch import Sketch

KEY = "test-key"
Json = dict[str, Any]


class Fleet:
    """State that tests look into: every effect is counted, so that a doubled one shows."""

    def __init__(self) -> None:
        self.feeds: dict[str, list[Json]] = {"samples": [], "sketches": []}
        self.models: list[str] = []
        self.bundles: dict[str, Json] = {}
        self.uploads: list[str] = []
        self.rollouts: list[Json] = []
        self.keys: dict[str, Json] = {}
        self.drift: dict[str, Json] = {}
        self.down = 0  # answer 503 so many times

    def send(self, device: str, record: Sample | Sketch) -> None:
        feed = self.feeds["samples" if isinstance(record, Sample) else "sketches"]
        feed.append({"id": len(feed) + 1, "device": device, "record": codec.to_plain(record)})


def refused(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message, "hint": ""}}, status)


def routes(fleet: Fleet) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def guard(request: Request, following: Any) -> Any:
        if fleet.down:
            fleet.down -= 1
            return refused(503, "unavailable", "starting")
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return refused(401, "no-key", "an API key is needed")
        return await following(request)

    @app.get("/api/v1/{feed}")
    async def listing(feed: str, after: str = "", limit: int = 100, model: str = "") -> Any:
        if feed == "rollouts":
            return {"items": [each for each in fleet.rollouts if each["model"] == model], "next": None}
        if feed not in fleet.feeds:
            return refused(404, "missing", f"no {feed}")
        start = int(after or 0)
        items = fleet.feeds[feed][start : start + limit]
        return {"items": items, "next": str(items[-1]["id"]) if items else None}

    @app.post("/api/v1/models")
    async def register(body: Json) -> Any:
        if body["name"] in fleet.models:
            return refused(409, "exists", "registered already")
        fleet.models.append(body["name"])
        return body

    @app.get("/api/v1/models/{model}/bundles")
    async def bundles(model: str) -> Any:
        if model not in fleet.models:
            return refused(404, "missing", "no such model")
        return {"items": [each for each in fleet.bundles.values() if each["model"] == model], "next": None}

    @app.post("/api/v1/models/{model}/bundles")
    async def upload(model: str, request: Request) -> Any:
        container = open_container(io.BytesIO(await request.body()))
        container.verify()
        fleet.uploads.append(container.bundle_id)
        manifest = container.manifest
        row = {"id": container.bundle_id, "model": model, "release": manifest.release, "target": manifest.target}
        fleet.bundles.setdefault(container.bundle_id, {**row, "manifest": codec.to_plain(manifest)})
        return row

    @app.get("/api/v1/bundles/{bundle}")
    async def bundle(bundle: str) -> Any:
        return fleet.bundles.get(bundle) or refused(404, "missing", "no such bundle")

    @app.post("/api/v1/rollouts")
    async def roll_out(body: Json, request: Request) -> Any:
        key = request.headers.get("idempotency-key", "")
        if key not in fleet.keys:
            fleet.keys[key] = {**body, "id": f"r{len(fleet.rollouts) + 1}", "status": "running", "asked": 0}
            fleet.rollouts.append(fleet.keys[key])
        return fleet.keys[key]

    @app.get("/api/v1/rollouts/{rollout}")
    async def show(rollout: str) -> Any:
        found = next(each for each in fleet.rollouts if each["id"] == rollout)
        found["asked"] += 1
        if found["asked"] >= 2 and found["status"] == "running":
            found["status"] = "complete"
        return found

    @app.put("/api/v1/models/{model}/drift")
    async def drift(model: str, body: Json) -> Any:
        if not isinstance(body.get("drifting"), bool):
            return refused(422, "input", "a verdict has `drifting`")
        fleet.drift[f"{model}/{body['monitor']}"] = body
        return {}

    return app


@contextlib.contextmanager
def serving(fleet: Fleet) -> Iterator[str]:
    """Serve a fleet on a free loopback port; give its address."""
    server = uvicorn.Server(uvicorn.Config(routes(fleet), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not (server.started and server.servers):
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)

"""The pages: a person labels, approves, and sees what came from what. Rendered on the server; works without scripts
and offline.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Form, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from skerry_cloud.errors import CloudError, NotFoundError, RefusedError
from skerry_cloud.labels.jobs import ABSTAIN, State
from skerry_cloud.monitor import verdicts
from skerry_cloud.pipelines.engine import Log
from skerry_cloud.services import Services
from skerry_cloud.web.images import to_png
from skerry_contracts.errors import ContractError

HERE = Path(__file__).parent
HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
_WORKER = re.compile(r"[\w .-]{1,40}")


def build(services: Services, log: Log) -> FastAPI:
    """Return the web application over open services."""
    app = FastAPI(title="Skerry cloud", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    templates = Jinja2Templates(HERE / "templates")
    _guard(app, templates)
    _overview(app, templates, services, log)
    _label_pages(app, templates, services)
    _pipeline_pages(app, templates, log)
    return app


def _guard(app: FastAPI, templates: Jinja2Templates) -> None:
    """Refuse forms that another site's page sends, and turn our errors into pages."""

    @app.middleware("http")
    async def same_origin(request: Request, following: Any) -> Response:
        origin = request.headers.get("origin")
        if request.method != "GET" and origin and urlsplit(origin).netloc != request.headers.get("host"):
            return PlainTextResponse("refused: the form came from another site", 403)
        response: Response = await following(request)
        response.headers.update(HEADERS)
        return response

    async def show(request: Request, error: Exception) -> Response:
        status = 404 if isinstance(error, NotFoundError) else 409 if isinstance(error, RefusedError) else 400
        parts = {"message": str(error), "hint": getattr(error, "hint", "")}
        return templates.TemplateResponse(request, "error.html", parts, status)

    app.add_exception_handler(CloudError, show)
    app.add_exception_handler(ContractError, show)


def _overview(app: FastAPI, templates: Jinja2Templates, services: Services, log: Log) -> None:
    @app.get("/", response_class=HTMLResponse)
    def overview(request: Request) -> Response:
        parts = {
            "models": sorted(services.projects),
            "verdicts": verdicts.newest(services.database, limit=30),
            "pipelines": log.all()[:10],
            "jobs": [job for job in services.jobs.all() if job.state is not State.DONE],
        }
        return templates.TemplateResponse(request, "overview.html", parts)

    @app.get("/registry", response_class=HTMLResponse)
    def registry(request: Request) -> Response:
        return templates.TemplateResponse(request, "registry.html", {"listing": services.registry.listing()})

    @app.get("/lineage", response_class=HTMLResponse)
    def lineage(request: Request, prediction: str = "") -> Response:
        found = services.registry.lineage(prediction) if prediction else None
        return templates.TemplateResponse(request, "lineage.html", {"found": found, "prediction": prediction})

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}


def _label_pages(app: FastAPI, templates: Jinja2Templates, services: Services) -> None:
    @app.get("/label", response_class=HTMLResponse)
    def jobs(request: Request) -> Response:
        listed = [(job, services.jobs.ledger(job.id)) for job in services.jobs.all()]
        return templates.TemplateResponse(request, "jobs.html", {"jobs": listed})

    @app.get("/label/{job}", response_class=HTMLResponse)
    def item(request: Request, job: str, worker: str = "") -> Response:
        found = services.jobs.get(job)
        worker = worker.strip() if _WORKER.fullmatch(worker.strip()) else ""
        prediction = services.jobs.lease(job, worker) if worker and found.state is not State.DONE else None
        parts = {"job": found, "worker": worker, "prediction": prediction, "ledger": services.jobs.ledger(job)}
        return templates.TemplateResponse(request, "label.html", parts)

    @app.post("/label/{job}")
    def vote(
        job: str,
        worker: Annotated[str, Form()],
        prediction: Annotated[str, Form()],
        label: Annotated[str, Form()] = "",
        new_label: Annotated[str, Form()] = "",
    ) -> Response:
        services.jobs.vote(job, prediction, worker, new_label.strip() or label or ABSTAIN)
        return RedirectResponse(f"/label/{quote(job)}?worker={quote(worker)}", 303)

    @app.get("/image/{prediction:path}")
    def image(prediction: str) -> Response:
        batch = services.lake.by_prediction([prediction])
        model = services.database.row("SELECT model FROM sample WHERE prediction = ?", (prediction,))
        project = services.projects.get(model["model"]) if model else None
        shape = project.train.image_shape if project else ()
        return Response(to_png(next(iter(batch.inputs.values()))[0], shape), media_type="image/png")


def _pipeline_pages(app: FastAPI, templates: Jinja2Templates, log: Log) -> None:
    @app.get("/pipelines", response_class=HTMLResponse)
    def pipelines(request: Request) -> Response:
        return templates.TemplateResponse(request, "pipelines.html", {"pipelines": log.all()})

    @app.get("/pipelines/{pipeline}", response_class=HTMLResponse)
    def pipeline(request: Request, pipeline: str) -> Response:
        parts = {"pipeline": log.get(pipeline), "steps": log.steps(pipeline)}
        return templates.TemplateResponse(request, "pipeline.html", parts)

    @app.post("/pipelines/{pipeline}/approve")
    def approve(pipeline: str, by: Annotated[str, Form()] = "web") -> Response:
        log.approve(pipeline, by.strip() or "web")
        return RedirectResponse(f"/pipelines/{quote(pipeline)}", 303)

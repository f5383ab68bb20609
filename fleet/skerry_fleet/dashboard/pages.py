"""How a page is made: templates, headers that fence the browser in, and refusals in words instead of JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from sqlmodel import select
from starlette.exceptions import HTTPException

from skerry_contracts.errors import ContractError
from skerry_fleet.apikeys import Role
from skerry_fleet.auth import fleet_of
from skerry_fleet.dashboard import drawing, words
from skerry_fleet.dashboard.session import SessionGuard, Visitor
from skerry_fleet.errors import AuthError, FleetError
from skerry_fleet.fleet import Fleet
from skerry_fleet.tables import ApiKey

HERE = Path(__file__).parent
PART = "x-skerry-part"
"""A request with this header wants the live part of a page alone."""
FENCE = {
    # Nothing from elsewhere, nothing inline: a text from a device that got past escaping would still not run.
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
STATIC = {path.name: path.read_bytes() for path in sorted((HERE / "static").iterdir()) if path.suffix in KINDS}
VERSION = hashlib.sha256(b"".join(STATIC.values())).hexdigest()[:12]


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words.FILTERS)
    environment.globals.update(draw=drawing, version=VERSION)
    return environment


TEMPLATES = _templates()


def render(
    request: Request, visitor: Visitor | None, template: str, values: dict[str, Any], code: int = 200
) -> Response:
    """Return a page; its live part alone where the browser asks for that."""
    part, fleet = PART in request.headers, fleet_of(request)
    text = TEMPLATES.get_template(template).render(
        layout="part.html" if part else "page.html",
        visitor=visitor,
        now=fleet.clock(),
        keys={} if visitor is None else _key_names(fleet, visitor.caller.tenant),
        path=request.url.path,
        query=request.url.query,
        labels=f"{fleet.config.cloud_url.rstrip('/')}/label" if fleet.config.cloud_url else "",
        **values,
    )
    return HTMLResponse(text, code, {"cache-control": "no-store", "vary": f"cookie, {PART}"})


def _key_names(fleet: Fleet, tenant: str) -> dict[str, str]:
    with fleet.database.read() as session:
        return dict(session.exec(select(ApiKey.id, ApiKey.name).where(ApiKey.tenant == tenant)).all())


def link(path: str, **values: object) -> str:
    """Return an address with those values that say something."""
    query = urlencode({name: value for name, value in values.items() if value not in ("", None)})
    return f"{path}?{query}" if query else path


class PageRoute(APIRoute):
    """A route of pages: refusals are shown to people, and every answer carries the fence."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, fenced."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await handler(request)
            except (FleetError, ContractError, RequestValidationError, HTTPException, OperationalError) as error:
                response = refuse(request, error)
            response.headers.update(FENCE)
            return response

        return handle


def refuse(request: Request, error: Exception) -> Response:
    """Return the page that says why not. Whoever is not signed in is sent to sign in and comes back after."""
    if isinstance(error, AuthError):
        if request.method == "GET" and PART not in request.headers and not request.url.path.endswith("/events"):
            back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(link("/ui/sign-in", next=back), 303)
        return _error(request, 401, str(error), "sign in and try again")
    if isinstance(error, FleetError):
        return _error(request, error.status, str(error), error.hint)
    if isinstance(error, HTTPException):
        return _error(request, error.status_code, str(error.detail), "")
    if isinstance(error, OperationalError):
        return _error(request, 503, "the database refuses", "is the disk full?")
    if isinstance(error, RequestValidationError):
        return _error(request, 422, "this form is incomplete; nothing was changed", "go back and fill it in")
    return _error(request, 422, str(error), "")


def _error(request: Request, status: int, message: str, hint: str) -> Response:
    return render(
        request, _whoever(request), "error.html", {"status": status, "message": message, "hint": hint}, status
    )


def _whoever(request: Request) -> Visitor | None:
    """Return who is signed in, so that a refusal keeps the menu; None where that cannot be said."""
    try:
        return SessionGuard(Role.VIEWER)(request)
    except (AuthError, OperationalError):
        return None

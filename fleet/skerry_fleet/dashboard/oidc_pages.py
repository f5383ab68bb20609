"""The way to the provider of identities and back. A cookie, signed and short-lived, holds what must come back."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from skerry_fleet import oidc_people
from skerry_fleet.auth import fleet_of
from skerry_fleet.dashboard.account_pages import SIGN_IN, begin, safe_path, sentences, sign_in_form
from skerry_fleet.dashboard.pages import PageRoute, render
from skerry_fleet.dashboard.session import Holder, sessions_of
from skerry_fleet.errors import AuthError, FleetError, MissingError
from skerry_fleet.oidc_words import Flight
from skerry_fleet.routes.common import FleetPart

if TYPE_CHECKING:
    from skerry_fleet.oidc import Provider

router = APIRouter(route_class=PageRoute, include_in_schema=False)
FLIGHT = "skerry_oidc"
FLIGHT_S = 600


def provider_of(request: Request) -> Provider:
    """Return who vouches for people.

    Raises:
        MissingError: nobody does.
    """
    found: Provider | None = request.app.state.provider
    if found is None:
        raise MissingError("this fleet has no provider of identities", hint="docs/access.md says how to set one")
    return found


@router.get("/ui/sign-in/oidc")
def depart(request: Request, fleet: FleetPart, next: str = "/ui/") -> Response:
    """Send a browser to the provider."""
    provider = provider_of(request)
    flight = Flight(*(fleet.random(32).hex() for _ in range(3)))
    try:
        address = provider.start(flight)
    except FleetError as error:
        return _refused(request, error)
    said = [flight.state, flight.nonce, flight.verifier, safe_path(next), int(fleet.clock()) + FLIGHT_S]
    kept = base64.urlsafe_b64encode(json.dumps(said).encode()).decode()
    response = RedirectResponse(address, 303)
    signed = f"{kept}.{sessions_of(request).signature('oidc', kept)}"
    # Lax: the way back begins at another site, and a strict cookie would not come along.
    secure = provider.settings.redirect_uri.startswith("https")
    response.set_cookie(FLIGHT, signed, FLIGHT_S, path=SIGN_IN, httponly=True, samesite="lax", secure=secure)
    return response


@router.get(oidc_people.CALLBACK)
def arrive(request: Request, fleet: FleetPart) -> Response:
    """Take in who comes back from the provider."""
    provider = provider_of(request)
    try:
        flight, back = _flight(request)
        claims = provider.finish(flight, request.query_params)
        now = fleet.clock()
        with fleet.database.write() as session:
            found = oidc_people.admit(session, fleet.config, claims, now, fleet.random, request.state.request_id)
            holder = Holder("user", found.id, found.stamp)
        made = begin(request, back, holder)
    except FleetError as error:
        return _refused(request, error)
    # A page that goes on by itself, not a redirect: after one from another site a strict cookie is not sent.
    response = render(request, None, "signed-in.html", {"back": back})
    for cookie in made.headers.getlist("set-cookie"):
        response.headers.append("set-cookie", cookie)
    response.delete_cookie(FLIGHT, path=SIGN_IN)
    return response


def _flight(request: Request) -> tuple[Flight, str]:
    kept, _, signature = request.cookies.get(FLIGHT, "").rpartition(".")
    hint = "begin again, in this browser"
    if not kept or not sessions_of(request).signed("oidc", kept, signature):
        raise AuthError("this sign-in was not begun in this browser", hint=hint)
    said: list[Any] = json.loads(base64.urlsafe_b64decode(kept))
    state, nonce, verifier, back, until = said
    if until <= fleet_of(request).clock():
        raise AuthError("this sign-in took too long", hint=hint)
    return Flight(state, nonce, verifier), back


def _refused(request: Request, error: FleetError) -> Response:
    response = sign_in_form(request, "/ui/", sentences(error), error.status)
    response.delete_cookie(FLIGHT, path=SIGN_IN)
    return response

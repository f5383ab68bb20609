"""How the walk asks, and what it demands of answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from tests.fleet.access.estate import Estate, leaves
from tests.fleet.access.visits import VISITS, Visit
from tests.fleet.conftest import make_bundle

from skerry_contracts import codec
from skerry_contracts.assignment import Envelope
from skerry_contracts.carried import CARRIED_TYPE, Carried
from skerry_fleet.apikeys import Role
from skerry_fleet.auth import BrokerGuard, DeviceGuard, Guard
from skerry_fleet.dashboard.session import SessionGuard

STREAMS = {"/api/v1/events", "/ui/events"}
OWN = {"/ui/sign-out", "/ui/account/sign-out", "/ui/account/password"}
"""What everybody may do about themselves, and what is over then."""


def filled(estate: Estate, visit: Visit, text: str) -> str:
    values = {**estate.names, "rival_bundle": estate.rival["bundle"]}
    for name, value in visit.names.items():
        values[name] = value.format_map(values) if "{" in value else value
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text.replace("{rest:path}", "nowhere")


def asked(estate: Estate, visit: Visit, body: Any, *, form: bool, token: str = "") -> dict[str, Any]:
    """Return how a request carries a body."""
    if form and body is not None:
        return {"data": {**body, "token": token}}
    if body == b"{file}":
        return {"content": make_bundle(version="3", release=3)}
    if isinstance(body, bytes):
        said = Carried("rival", estate.names["device"], 0, True, ())
        return {"content": codec.encode(Envelope(CARRIED_TYPE, codec.encode(said), ()))}
    return {} if body is None else {"json": json.loads(filled(estate, visit, json.dumps(body)))}


def guard_of(route: APIRoute) -> Role | str | None:
    """Return what a route itself demands."""

    def calls(dependant: Dependant) -> Iterator[Any]:
        yield dependant.call
        for each in dependant.dependencies:
            yield from calls(each)

    found = [each for each in calls(route.dependant) if isinstance(each, (Guard, SessionGuard, DeviceGuard))]
    assert len(found) <= 1, route.path
    if not found:
        return None
    if isinstance(found[0], BrokerGuard):
        return "broker"
    return "device" if isinstance(found[0], DeviceGuard) else found[0].role


def visits(estate: Estate, pages: bool | None = None) -> list[tuple[str, str, Visit]]:
    """Return (method, path, visit) in the table's order, which is that in which the owner can do everything."""
    known = {(method, route.path) for method, route in leaves(estate.app)}
    return [
        (method, path, visit)
        for (method, path), visit in VISITS.items()
        if (method, path) in known and pages in (None, path.startswith("/ui"))
    ]


def refused(answer: httpx.Response, status: int, words: str) -> None:
    """An API's refusal has one shape."""
    assert answer.status_code == status, f"{words}: {answer.status_code} {answer.text[:300]}"
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "hint"} and error["message"], words
    wanted = {401: "unauthenticated", 403: "forbidden", 404: "not-found"}
    assert error["code"] == wanted[status], words


def untold(estate: Estate, answer: httpx.Response, sent: str, words: str) -> None:
    """Nothing of the first tenant's is in an answer but what the request itself said."""
    told = answer.text + repr(answer.headers)
    for mark in estate.marks():
        assert mark in sent or mark not in told, f"{words}: told {mark}"

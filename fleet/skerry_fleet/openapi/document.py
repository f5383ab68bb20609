"""The document itself: FastAPI's own account of paths and parameters, and what it cannot see, which is most of it:
bodies that our codec reads, answers that are plain rows, the keys, and every refusal.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import msgspec
from fastapi import FastAPI, Response
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from skerry_fleet.alerts import AlertState
from skerry_fleet.apikeys import Role
from skerry_fleet.auth import BrokerGuard, DeviceGuard, Guard
from skerry_fleet.frontdoor import every_route
from skerry_fleet.limits import DOWNLOADS, FREE
from skerry_fleet.openapi.answers import ANSWERS, FIELDS, KINDS
from skerry_fleet.openapi.shapes import ERROR, ERROR_SCHEMA, JSON, TEXT, Answer, Schema, record, records
from skerry_fleet.paging import DEFAULT_LIMIT, MAX_LIMIT
from skerry_fleet.query.reading import MAX_TEXT
from skerry_fleet.rollout_words import Order, Place
from skerry_fleet.routes.common import Body

REASONS = {
    400: "It cannot be read: no JSON, repeated keys, NaN.",
    401: "No key, or an unknown or revoked one.",
    403: "The key's role is too low.",
    404: "No such object, for this key.",
    408: "The body arrives too slowly.",
    409: "The object's state does not allow it.",
    412: "The object is no longer as `If-Match` says.",
    413: "Over a limit of size.",
    415: "The body is packed (`Content-Encoding`).",
    416: "No such range of the file.",
    422: "It can be read, and is wrong.",
    429: "Too many requests from this key or address; `Retry-After` says how many seconds to wait.",
    503: "A part of the fleet does not answer; the same request may work later.",
}
_HEX = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_CURSORS = (  # by what a path ends in; the others go on at a name
    (re.compile(r"/bundles$"), {"type": "string", "pattern": "^([0-9]{1,18}-[0-9a-f]{64})?$"}),
    (
        re.compile(r"/(groups|claims|keys|models|devices|decommissioned|tags|routes|users)$"),
        {"type": "string", "pattern": "^[ -~]{0,200}$"},
    ),
    (re.compile(r""), {"type": "string", "pattern": "^[0-9]{0,18}$"}),
)
# Parameters that routes read as text, to refuse them in our own words.
_PARAMETERS: dict[str, tuple[Schema, str]] = {
    "after": (TEXT, "Where the list goes on: `next` of the page before, as it came."),
    "limit": ({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}, "Items at most."),
    "online": ({"type": "string", "enum": ["", "true", "false"], "default": ""}, "Only those online, or offline."),
    "q": (TEXT, "Only names that begin with this."),
    "query": ({**TEXT, "maxLength": MAX_TEXT}, "Only devices that this query (RSQL, docs/devices.md) means."),
    "group": (TEXT, "Only members of this group."),
    "model": (TEXT, "Only of this model."),
    "status": (TEXT, "Only in this status; of rollouts, `active` is every one under way."),
    "state": ({"type": "string", "enum": ["", *AlertState], "default": ""}, "Only in this state."),
    "incident": ({"type": "string", "pattern": "^[0-9]{0,18}$"}, "Only of this incident."),
    "kind": (TEXT, "Only of this kind, such as `device-silent`."),
    "subject": (TEXT, "Only about this subject, such as a device."),
    "route": (TEXT, "Only by this route."),
    "target": (TEXT, "Only for this board."),
    "actor": (TEXT, "Only by this actor, such as `key:1f2e3d4c5b6a`."),
    "action": (TEXT, "Only this action, such as `rollout.create`."),
    "place": (TEXT, f"Only devices in this place: {', '.join(Place)}."),
    "object": (TEXT, "Only records of one object, such as `rollout/r1-9c01d2aa`."),
    "profile": (TEXT, "Only boards of this profile."),
    "device": (TEXT, "Only of this device."),
    "source": (TEXT, "Only of the model with this SHA-256."),
    "lease": (TEXT, "Only of this lease."),
    "hours": ({"type": "integer"}, "How far back."),
    "dry_run": ({"type": "boolean"}, "Say what it would do (200), and do nothing."),
    "publish": ({"type": "boolean"}, "False keeps a draft, which is listed for devices by `publish`."),
    "base": (TEXT, "SHA-256 of blobs that the device has."),
    "method": (TEXT, "Methods that the device can apply."),
    "seconds": ({"type": "integer"}, "Time for all candidates."),
    "rounds": ({"type": "integer"}, "Rounds of each candidate."),
    "if-match": (TEXT, "Only if the object is still as this `ETag` says: otherwise 412."),
    "idempotency-key": ({"type": "string", "minLength": 1, "maxLength": 200}, "Makes the same request harmless twice."),
}
_KNOWN = {"schema": TEXT, "description": "`ETag` of an answer that the caller has: 304 where it still holds."}
_IN_PATH: dict[str, Schema] = {"order": {"type": "string", "enum": list(Order)}, "sha256": _HEX}
_OWN_SCHEMA = frozenset({"hours", "dry_run", "publish", "base", "method", "seconds", "rounds"})  # FastAPI's is true


def install(app: FastAPI) -> None:
    """Serve the document at /openapi.json; it says nothing of this fleet, so it needs no key."""

    @functools.cache
    def made() -> bytes:
        return msgspec.json.encode(describe(app))

    @app.get("/openapi.json")
    def openapi() -> Response:
        """This document."""
        return Response(made(), media_type=JSON)


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document (3.1) of an application's routes, without the dashboard's.

    Raises:
        KeyError: a route of which `ANSWERS` knows nothing.
    """
    base = get_openapi(title="Skerry fleet", version=version("skerry"), routes=app.routes)
    kinds: set[type[Any]] = set(KINDS)
    paths: dict[str, Any] = {}
    for route in routes(app):
        path = route.path.replace(":path}", "}")
        for method in sorted(route.methods or ()):
            seen = base["paths"][path][method.lower()]
            paths.setdefault(path, {})[method.lower()] = _operation(route, method, seen, ANSWERS[method, path], kinds)
    components = records(sorted(kinds, key=lambda kind: kind.__name__))
    for kind in kinds - set(KINDS):
        components[kind.__name__]["additionalProperties"] = False  # `Body` refuses what it does not know
        for field, schema in FIELDS.get(kind.__name__, {}).items():
            components[kind.__name__]["properties"][field] |= schema
    return {
        "openapi": "3.1.0",
        "info": {**base["info"], "description": "Every refusal has one shape, `Error`. See docs/fleet.md."},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {**components, ERROR: ERROR_SCHEMA},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, `sk1_...`."},
                "download": {"type": "http", "scheme": "bearer", "description": "A device's download token."},
                "broker": {"type": "http", "scheme": "bearer", "description": "The secret of this fleet's brokers."},
            },
        },
    }


def routes(app: FastAPI) -> list[APIRoute]:
    """Return every route but the dashboard's."""
    return [each for each in every_route(app) if each.path != "/" and not each.path.startswith("/ui")]


def _operation(
    route: APIRoute, method: str, seen: dict[str, Any], answer: Answer, kinds: set[type[Any]]
) -> dict[str, Any]:
    """Return one operation; the records that its body needs are added to `kinds`."""
    guard, body = None, answer.takes
    for call in _calls(route.dependant):
        if isinstance(call, (Guard, DeviceGuard)):
            guard = call
        if isinstance(call, Body):
            kinds.add(call.kind)
            body = record(call.kind)
    said = (route.endpoint.__doc__ or "").strip()
    made: dict[str, Any] = {
        "operationId": route.name,
        "tags": [_tag(route.path)],
        "summary": said.splitlines()[0],
        "parameters": [_parameter(route.path, each) for each in seen.get("parameters", ())],
    }
    if isinstance(guard, Guard):
        made["description"] = f"Needs the role {guard.role} or a higher one."
    if guard is not None:
        kind = "key" if isinstance(guard, Guard) else "broker" if isinstance(guard, BrokerGuard) else "download"
        made["security"] = [{kind: []}]
    if body is not None:
        optional = any(isinstance(call, Body) and _all_optional(call.kind) for call in _calls(route.dependant))
        made["requestBody"] = {"required": not optional, "content": {answer.takes_media: {"schema": body}}}
    status = route.status_code or 200
    answers = {str(status): _answer("Done.", answer.schema, answer.media)}
    answers |= {str(other): _answer("See the summary.", schema, JSON) for other, schema in answer.others.items()}
    if 416 in answer.refuses:
        answers["206"] = _answer("The range that was asked for.", None, answer.media)
    for refused in sorted(_refusals(route, method, guard, made, answer)):
        if str(refused) not in answers:
            answers[str(refused)] = _answer(REASONS[refused], {"$ref": f"#/components/schemas/{ERROR}"}, JSON)
    if method == "GET" and (answer.media in (JSON, "application/pkix-crl") or 416 in answer.refuses):
        made["parameters"].append({"name": "if-none-match", "in": "header", "required": False, **_KNOWN})
        answers["304"] = {"description": "The answer is still the one of this `ETag`."}
    made["responses"] = dict(sorted(answers.items()))
    return made


def _refusals(
    route: APIRoute, method: str, guard: Guard | DeviceGuard | None, made: dict[str, Any], answer: Answer
) -> set[int]:
    found = {503, *answer.refuses}
    if route.path not in FREE and not route.path.startswith(DOWNLOADS):
        found.add(429)
    if any(each["name"] == "if-match" for each in made["parameters"]):
        found.add(412)
    if guard is not None:
        found.add(401)
    if isinstance(guard, Guard) and guard.role is not Role.VIEWER:
        found.add(403)
    if made["parameters"] or "requestBody" in made:
        found.add(422)
    if "requestBody" in made:
        found |= {400, 408, 413, 415}
    if "{" in route.path or method != "GET":
        found.add(404)
    if method != "GET":
        found.add(409)
    return found


def _answer(text: str, schema: Schema | None, media: str) -> dict[str, Any]:
    return {"description": text, "content": {media: {"schema": schema if schema is not None else {"type": "string"}}}}


def _parameter(path: str, seen: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter as it is really read."""
    name, inside = seen["name"], seen["in"]
    if inside == "path":
        return {"name": name, "in": "path", "required": True, "schema": _IN_PATH.get(name, {**TEXT, "minLength": 1})}
    schema, said = _PARAMETERS[name]
    if name == "after":
        schema = next(cursor for ends, cursor in _CURSORS if ends.search(path))
    if name in _OWN_SCHEMA:
        schema = {key: value for key, value in seen["schema"].items() if key != "title"}
    return {"name": name, "in": inside, "required": seen["required"], "description": said, "schema": schema}


def _calls(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for each in dependant.dependencies:
        yield from _calls(each)


def _all_optional(kind: type[Any]) -> bool:
    return not records([kind])[kind.__name__]["required"]


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part and part not in {"api", "v1", "device"}]
    return parts[0] if path.startswith("/api/") else "device" if path.count("/") > 1 else "service"

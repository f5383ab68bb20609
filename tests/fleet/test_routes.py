"""The API over HTTP: every route is guarded, every refusal has one shape, bad input changes nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from tests.fleet.conftest import Clock, admin, enrolment_body, make_bundle, new_key

from skerry_contracts import codec
from skerry_fleet.apikeys import Role
from skerry_fleet.app import create_app
from skerry_fleet.auth import PUBLIC, DeviceGuard, Guard
from skerry_fleet.config import FleetConfig
from skerry_fleet.openapi import document

ROLE_OF_WRITES = {"POST": Role.OPERATOR, "PUT": Role.OPERATOR, "PATCH": Role.OPERATOR, "DELETE": Role.OPERATOR}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One application for all requests that must change nothing."""
    config = FleetConfig(root=tmp_path_factory.mktemp("shared"))
    with admin(create_app(config, Clock(), random.Random(1).randbytes, with_broker=False)) as found:
        found.post("/api/v1/models", json={"name": "digits"})
        yield found


def every_route(app: FastAPI) -> list[APIRoute]:
    """Return every route of the application but the dashboard's, which has its own guard and its own test."""
    found: list[APIRoute] = []
    rooms: list[Any] = list(app.routes)
    while rooms:
        each = rooms.pop()
        if hasattr(each, "original_router"):  # how FastAPI keeps a router that was included
            rooms += each.original_router.routes
        elif each.path != "/" and not each.path.startswith("/ui"):
            assert isinstance(each, APIRoute), f"{each.path} is no route that can be guarded"
            found.append(each)
    assert len(found) > 40
    told = {(each.path, *sorted(each.methods or ())) for each in document.routes(app)}
    assert {(each.path, *sorted(each.methods or ())) for each in found} == told, "the description leaves routes out"
    return sorted(found, key=lambda route: route.path)


def guards(dependant: Dependant) -> list[Guard | DeviceGuard]:
    found = [dependant.call] if isinstance(dependant.call, (Guard, DeviceGuard)) else []
    return found + [guard for each in dependant.dependencies for guard in guards(each)]


def test_every_route_is_guarded(app: FastAPI) -> None:
    """A new route without a guard fails here; so does one that changes something and lets viewers do it."""
    for route in every_route(app):
        found = guards(route.dependant)
        if route.path in PUBLIC:
            assert not found, route.path
            continue
        assert len(found) == 1, f"{route.path} has no guard"
        for method in route.methods or ():
            if isinstance(found[0], Guard) and method in ROLE_OF_WRITES:
                lends = route.path.startswith("/api/v1/leases")  # what a compiler's key is for
                needed = Role.MEASURER if lends else ROLE_OF_WRITES[method]
                assert found[0].role.covers(needed), f"{method} {route.path}"
    app.state.fleet.close()


def paths(app: FastAPI) -> list[tuple[str, str]]:
    return [(method, route.path) for route in every_route(app) for method in sorted(route.methods or ())]


def test_without_a_key_nothing_answers(app: FastAPI, client: httpx.Client) -> None:
    for method, path in paths(app):
        if path in PUBLIC:
            continue
        for headers in ({}, {"authorization": "Bearer sk1_0_0"}, {"authorization": "Basic eDp5"}):
            request = client.build_request(method, path.replace("{", "").replace("}", ""))
            del request.headers["authorization"]
            request.headers.update(headers)
            answer = client.send(request)
            assert answer.status_code == 401, (method, path)
            assert answer.json()["error"]["code"] == "unauthenticated"


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("GET", "/nowhere", {}, 404, "not-found"),
        ("GET", "/api/v1/devices/none", {}, 404, "not-found"),
        ("PUT", "/api/v1/devices", {}, 405, "method-not-allowed"),
        ("POST", "/api/v1/groups", {"content": b"{"}, 400, "malformed"),
        ("POST", "/api/v1/groups", {"content": b'{"name":"a","name":"b"}'}, 400, "malformed"),
        ("POST", "/api/v1/groups", {"content": b'{"name":NaN}'}, 400, "malformed"),
        ("POST", "/api/v1/groups", {"content": b'{"name":1e999}'}, 400, "malformed"),
        ("POST", "/api/v1/groups", {"content": b"[" * 100_000}, 400, "malformed"),
        ("POST", "/api/v1/groups", {"content": b"\xff"}, 400, "malformed"),
        ("POST", "/api/v1/groups", {"json": {"name": "a/b"}}, 422, "bad-input"),
        ("POST", "/api/v1/groups", {"json": {"name": "../x"}}, 422, "bad-input"),
        ("POST", "/api/v1/groups", {"json": {"name": 5}}, 422, "bad-input"),
        ("POST", "/api/v1/groups", {"json": {"nam": "x"}}, 422, "bad-input"),
        ("POST", "/api/v1/groups", {"json": []}, 422, "bad-input"),
        ("POST", "/api/v1/groups", {"json": {"name": "\ud800"}}, 422, "bad-input"),
        ("POST", "/api/v1/claims", {"json": {"uses": 0}}, 422, "bad-input"),
        ("POST", "/api/v1/claims", {"json": {"expires_s": -1}}, 422, "bad-input"),
        ("POST", "/api/v1/claims", {"json": {"group": "none"}}, 404, "not-found"),
        ("POST", "/api/v1/keys", {"json": {"name": "x", "role": "god"}}, 422, "bad-input"),
        ("POST", "/api/v1/rollouts", {"json": {"model": "m", "bundle": "x", "canary": 0}}, 422, "bad-input"),
        (
            "POST",
            "/api/v1/rollouts",
            {"json": {"model": "m", "bundle": "x", "waves": [{"percent": 0}]}},
            422,
            "bad-input",
        ),
        ("POST", "/api/v1/rollouts", {"json": {"model": "m", "bundle": "x", "canery": 1}}, 422, "bad-input"),
        ("POST", "/api/v1/rollouts", {"json": {"model": "m", "bundle": "x"}}, 404, "not-found"),
        ("POST", "/api/v1/rollouts/none/abort", {}, 404, "not-found"),
        ("POST", "/api/v1/rollouts/none/explode", {}, 404, "not-found"),
        ("POST", "/api/v1/models/none/bundles", {"content": make_bundle("none")}, 404, "not-found"),
        ("POST", "/api/v1/models/none/bundles", {"content": b"PK"}, 422, "bad-bundle"),
        ("POST", "/api/v1/alerts/x/ack", {}, 404, "not-found"),
        ("POST", "/api/v1/alerts/99999999999999999999999/ack", {}, 404, "not-found"),
        ("PUT", "/api/v1/models/none/drift", {"json": {"drifting": True}}, 404, "not-found"),
        ("PUT", "/api/v1/models/none/drift", {"json": {"drifting": 1}}, 422, "bad-input"),
        ("POST", "/device/v1/enrol", {"json": {}}, 422, "bad-input"),
        ("GET", "/api/v1/devices?limit=0", {}, 422, "bad-input"),
        ("GET", "/api/v1/devices?limit=-1", {}, 422, "bad-input"),
        ("GET", "/api/v1/devices?limit=1001", {}, 422, "bad-input"),
        ("GET", "/api/v1/devices?limit=99999999999999999999", {}, 422, "bad-input"),
        ("GET", "/api/v1/devices?online=maybe", {}, 422, "bad-input"),
        ("GET", "/api/v1/devices?group=none", {}, 404, "not-found"),
        ("GET", "/api/v1/samples?after=x", {}, 422, "bad-input"),
        ("GET", "/api/v1/samples?after=99999999999999999999", {}, 422, "bad-input"),
        ("GET", "/api/v1/alerts?state=x", {}, 422, "bad-input"),
        ("GET", "/api/v1/models/digits/bundles?after=%C2%B2", {}, 422, "bad-input"),
        ("GET", "/api/v1/models/digits/bundles?after=0", {}, 422, "bad-input"),
    ],
)
def test_bad_input_is_refused_in_one_shape(
    shared: httpx.Client, method: str, path: str, sent: dict[str, Any], status: int, code: str
) -> None:
    before = shared.get("/api/v1/audit").json()
    answer = shared.request(method, path, **_encoded(sent))
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "hint"} and error["code"] == code and error["message"]
    assert answer.headers["x-request-id"]
    assert shared.get("/api/v1/audit").json() == before


def _encoded(sent: dict[str, Any]) -> dict[str, Any]:
    # httpx refuses to send a lone surrogate; JSON can say it in ASCII.
    return {"content": json.dumps(sent["json"]).encode()} if "json" in sent else sent


def test_bodies_over_the_limit_are_refused_announced_or_not(client: httpx.Client, app: FastAPI) -> None:
    size = app.state.fleet.config.max_body_bytes + 1
    announced = client.post("/api/v1/groups", content=b" " * size)
    streamed = client.post("/api/v1/groups", content=iter([b" " * 65536] * (size // 65536 + 1)))
    for answer in (announced, streamed):
        assert answer.status_code == 413 and answer.json()["error"]["code"] == "too-large"


def test_paths_of_others_cannot_be_reached_through_names(client: httpx.Client) -> None:
    token = client.post("/api/v1/claims", json={}).json()["token"]
    enrolled = client.post("/device/v1/enrol", json=enrolment_body(token, "d0", new_key())).json()
    headers = {"authorization": f"Bearer {enrolled['download_token']}"}
    for path in (
        "/tuf/metadata/..%2f..%2fkeys%2fdirector.json",
        "/tuf/metadata/%2e%2e%2fauthority.json",
        "/tuf/targets/%2e%2e/metadata/1.root.json",
        "/tuf/targets/%2e%2e/%2e%2e/x.json",
        "/tuf/targets/digits/..%2f..%2fx",
        "/blobs/..%2f..%2fadmin.key",
        "/blobs/" + "A" * 64,
        "/blobs/" + "0" * 64,
    ):
        assert client.get(path, headers=headers).status_code in (404, 422), path
    assert client.get("/tuf/metadata/1.root.json", headers=headers).status_code == 200
    assert client.get("/api/v1/devices", headers=headers).status_code == 401
    assert client.get("/tuf/metadata/1.root.json").status_code == 401, "an API key is no device"


def test_enrolment_download_and_the_spent_claim(client: httpx.Client, app: FastAPI) -> None:
    trust = client.get("/device/v1/trust").content
    made = client.post("/api/v1/claims", json={"uses": 1}).json()
    assert made["token"].endswith(codec.digest(trust))
    key = new_key()
    first = client.post("/device/v1/enrol", json=enrolment_body(made["token"], None, key)).json()
    again = client.post("/device/v1/enrol", json=enrolment_body(made["token"], first["device"], key))
    assert again.status_code == 200, "the answer may have been lost: the same key may ask again"
    spent = client.post("/device/v1/enrol", json=enrolment_body(made["token"], "d9", new_key()))
    assert (spent.status_code, spent.json()["error"]["code"]) == (409, "claim-spent")
    wrong = made["token"].replace(made["token"].split(".")[2], "x" * 43)
    assert client.post("/device/v1/enrol", json=enrolment_body(wrong, "d9", new_key())).status_code == 401
    other = client.post("/api/v1/claims", json={}).json()["token"]
    taken = client.post("/device/v1/enrol", json=enrolment_body(other, first["device"], new_key()))
    assert taken.status_code == 409 and "already" in taken.json()["error"]["message"]
    assert (
        client.get("/api/v1/claims").json()["items"][1]["uses_left"]
        + client.get("/api/v1/claims").json()["items"][0]["uses_left"]
        == 1
    )
    client.post("/api/v1/models", json={"name": "digits"})
    bundle = client.post("/api/v1/models/digits/bundles", content=make_bundle()).json()
    manifest = client.get(f"/api/v1/bundles/{bundle['id'][:10]}").json()["manifest"]
    blob = manifest["variants"][0]["blobs"]["library"]
    headers = {"authorization": f"Bearer {again.json()['download_token']}"}
    whole = client.get(f"/blobs/{blob['sha256']}", headers=headers)
    assert whole.content == b"library 1" and codec.digest(whole.content) == blob["sha256"]
    part = client.get(f"/blobs/{blob['sha256']}", headers={**headers, "range": "bytes=3-"})
    assert (part.status_code, part.content) == (206, b"rary 1")
    listed = client.get(f"/tuf/targets/digits/{bundle['id']}.{bundle['id']}.json", headers=headers)
    assert codec.digest(listed.content) == bundle["id"]
    old = {"authorization": f"Bearer {first['download_token']}"}
    assert client.get(f"/blobs/{blob['sha256']}", headers=old).status_code == 401, "a new token replaces the old"
    assert client.delete(f"/api/v1/devices/{first['device']}").status_code == 200
    assert client.get(f"/blobs/{blob['sha256']}", headers=headers).status_code == 401
    assert client.get("/api/v1/audit/verify").json()["broken_at"] is None


def test_groups_tags_pages_and_overview(client: httpx.Client) -> None:
    token = client.post("/api/v1/claims", json={"uses": 5}).json()["token"]
    for number in range(5):
        client.post("/device/v1/enrol", json=enrolment_body(token, f"d{number}", new_key()))
    assert client.post("/api/v1/groups", json={"name": "lab"}).status_code == 201
    assert client.post("/api/v1/groups", json={"name": "lab"}).status_code == 409
    assert client.post("/api/v1/groups/lab/devices", json={"devices": ["d0", "d1"]}).json()["added"] == ["d0", "d1"]
    assert client.post("/api/v1/groups/lab/devices", json={"devices": ["d2", "none"]}).status_code == 404
    patched = client.patch("/api/v1/devices/d3", json={"groups": ["lab"], "tags": {"site": "north"}}).json()
    assert patched["groups"] == ["lab"] and patched["tags"] == {"site": "north"}
    inside = client.get("/api/v1/devices?group=lab").json()["items"]
    assert [each["device"] for each in inside] == ["d0", "d1", "d3"]
    first = client.get("/api/v1/devices?limit=2").json()
    second = client.get(f"/api/v1/devices?limit=2&after={first['next']}").json()
    third = client.get(f"/api/v1/devices?limit=2&after={second['next']}").json()
    assert [each["device"] for page in (first, second, third) for each in page["items"]] == [f"d{i}" for i in range(5)]
    assert third["next"] is None and client.get("/api/v1/devices?q=d4").json()["items"][0]["device"] == "d4"
    lab = {"name": "lab", "description": "", "devices": 3, "query": None}
    assert client.get("/api/v1/groups").json()["items"] == [lab]
    overview = client.get("/api/v1/overview").json()
    assert overview["devices"] == {"total": 5, "online": 0} and overview["broker"]["connected"] is False
    assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200

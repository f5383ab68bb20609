"""Requests that come twice because an answer was lost make one thing, and get one answer."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import select
from tests.fleet.conftest import Clock, make_bundle
from tests.fleet.described import furnish

from skerry_fleet.once_tables import RequestOnce

DIGEST = "0" * 64
MAKING: list[tuple[str, dict[str, Any]]] = [
    ("/groups", {"name": "lab"}),
    ("/claims", {"uses": 3}),
    ("/keys", {"name": "robot", "role": "viewer"}),
    ("/models", {"name": "faces"}),
    ("/mutes", {"hours": 1.0}),
]


@pytest.mark.parametrize(("path", "body"), MAKING)
def test_the_same_request_with_the_same_key_makes_one_thing(
    client: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    once = {"idempotency-key": "k1"}
    first = client.post(f"/api/v1{path}", json=body, headers=once)
    again = client.post(f"/api/v1{path}", json=body, headers=once)
    assert first.status_code == again.status_code == 201 and first.json() == again.json(), "a secret, too"
    other = client.post(f"/api/v1{path}", json={**body, "description": "x", "name": "other"}, headers=once)
    assert other.status_code in (409, 422)
    acts = [(each["action"], each["actor"]) for each in client.get("/api/v1/audit").json()["items"]]
    made = [act for act, by in acts if act.endswith((".create", ".register")) and by.startswith("key:")]
    assert len(made) == 1, made


def test_a_rollout_asked_for_twice_is_one(client: httpx.Client) -> None:
    furnish(client)
    (running,) = client.get("/api/v1/rollouts").json()["items"]
    client.post(f"/api/v1/rollouts/{running['id']}/abort")
    once = {"idempotency-key": "k1"}
    wanted = {"model": "digits", "bundle": running["bundle"]}
    first = client.post("/api/v1/rollouts", json=wanted, headers=once)
    again = client.post("/api/v1/rollouts", json=wanted, headers=once)
    assert first.status_code == again.status_code == 201 and first.json() == again.json()
    other = client.post("/api/v1/rollouts", json={**wanted, "canary": 2}, headers=once)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "key-reused")
    assert len(client.get("/api/v1/rollouts").json()["items"]) == 2


def test_a_key_is_the_callers_own_and_for_one_request(client: httpx.Client) -> None:
    once = {"idempotency-key": "k1"}
    assert client.post("/api/v1/groups", json={"name": "lab"}, headers=once).status_code == 201
    reused = client.post("/api/v1/groups", json={"name": "hall"}, headers=once)
    assert (reused.status_code, reused.json()["error"]["code"]) == (409, "key-reused")
    elsewhere = client.post("/api/v1/models", json={"name": "lab"}, headers=once)
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (409, "key-reused")
    key = client.post("/api/v1/keys", json={"name": "second", "role": "operator"}).json()["key"]
    theirs = {**once, "authorization": f"Bearer {key}"}
    assert client.post("/api/v1/groups", json={"name": "lab"}, headers=theirs).json()["error"]["code"] == "conflict"
    assert client.post("/api/v1/groups", json={"name": "hall"}, headers=theirs).status_code == 201
    for bad in ("", "x" * 201):
        assert client.post("/api/v1/groups", json={"name": "a"}, headers={"idempotency-key": bad}).status_code == 422


def test_what_was_refused_is_not_kept(client: httpx.Client) -> None:
    once = {"idempotency-key": "k1"}
    assert client.post("/api/v1/claims", json={"group": "lab"}, headers=once).status_code == 404
    client.post("/api/v1/groups", json={"name": "lab"})
    assert client.post("/api/v1/claims", json={"group": "lab"}, headers=once).status_code == 201


def test_secrets_of_kept_answers_cannot_be_read_in_the_database(client: httpx.Client, app: FastAPI) -> None:
    made = client.post("/api/v1/keys", json={"name": "x", "role": "viewer"}, headers={"idempotency-key": "k1"}).json()
    with app.state.fleet.database.read() as session:
        (row,) = session.exec(select(RequestOnce)).all()
    assert made["key"].encode() not in row.answer and made["id"].encode() not in row.answer
    assert "k1" not in (row.key_sha256, row.path)


def test_a_key_is_forgotten_after_a_day(client: httpx.Client, app: FastAPI, clock: Clock) -> None:
    once = {"idempotency-key": "k1"}
    first = client.post("/api/v1/claims", json={}, headers=once).json()
    clock.now += 86_399
    assert client.post("/api/v1/claims", json={}, headers=once).json() == first
    clock.now += 2
    assert client.post("/api/v1/claims", json={}, headers=once).json() != first
    with app.state.fleet.database.read() as session:
        assert len(session.exec(select(RequestOnce)).all()) == 1


def test_the_same_bundle_needs_no_key(client: httpx.Client) -> None:
    client.post("/api/v1/models", json={"name": "digits"})
    first, again = (client.post("/api/v1/models/digits/bundles", content=make_bundle()).json() for _ in range(2))
    assert first == again

"""What the API says of itself: whole, and true by the word of a stranger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from tests.fleet.described import ask, furnish

from skerry_fleet.auth import PUBLIC
from skerry_fleet.openapi.answers import ANSWERS
from skerry_fleet.openapi.document import describe


def test_every_route_is_described_with_its_key_and_its_refusals(app: FastAPI) -> None:
    document = describe(app)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == set(ANSWERS), "a route without an answer, or an answer without a route"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], path
            assert ("security" in operation) == (path not in PUBLIC), path
            assert ("401" in operation["responses"]) == (path not in PUBLIC or path == "/device/v1/enrol"), path
            assert path in PUBLIC or method == "get" or "409" in operation["responses"], path
            if (
                "201" in operation["responses"] and path != "/api/v1/models/{model}/bundles"
            ):  # the same file is the same
                assert "idempotency-key" in [each["name"] for each in operation["parameters"]], path
    bodies = document["components"]["schemas"]
    assert bodies["RolloutRequest"]["properties"]["waves"]["items"] == {"$ref": "#/components/schemas/Wave"}
    assert bodies["RolloutRequest"]["required"] == ["model", "bundle"] and bodies["Error"]["required"] == ["error"]
    app.state.fleet.close()


def test_a_wrong_method_hears_of_every_right_one(client: httpx.Client) -> None:
    assert client.put("/api/v1/groups").headers["allow"] == "GET, POST"
    assert client.put("/api/v1/devices/x").headers["allow"] == "DELETE, GET, PATCH"
    assert client.put("/api/v1/rollouts/x/devices").headers["allow"] == "GET"


def test_a_stranger_finds_the_api_as_described(client: httpx.Client, tmp_path: Path) -> None:
    """schemathesis makes requests from the document alone and compares the answers with it (benchmarks/fleet_api.py
    asks more, and longer).
    """
    key, device = client.headers["authorization"].removeprefix("Bearer "), furnish(client)
    ask(str(client.base_url), key, tmp_path, 1, ["coverage"], "--exclude-path", "/readyz")  # there is no broker
    ask(str(client.base_url), device, tmp_path, 2, ["fuzzing"], "--include-tag", "device")


def test_a_verdict_of_a_monitor_without_a_name_is_refused(client: httpx.Client) -> None:
    monitors: list[Any] = [{}, [], 1, None]
    for monitor in monitors:
        answer = client.put("/api/v1/models/none/drift", json={"drifting": True, "monitor": monitor})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad-input")

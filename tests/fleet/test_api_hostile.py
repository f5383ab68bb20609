"""Every place of the API into which a stranger can write something, and what a stranger would write there.

The places are found by walking the routes, so that a new one is asked as well.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from tests.fleet.conftest import Clock, admin
from tests.fleet.described import furnish
from tests.fleet.hostile import LEAKS, NAMES, TEXTS, VALUES, Stand

from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.openapi.document import describe, routes
from skerry_fleet.routes.common import Body

DATABASES = "both"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    config = FleetConfig(root=tmp_path_factory.mktemp("hostile") / "fleet", key_per_s=0, address_per_s=0)
    app = create_app(config, Clock(), random.Random(1).randbytes, with_broker=False)
    with admin(app) as client:
        found = Stand(app, client, furnish(client))
        yield found
        found.line.close()


@pytest.fixture
def config(config: FleetConfig) -> FleetConfig:
    """No limits of rate: on a quick machine they, and not what is tested, would refuse."""
    return dataclasses.replace(config, key_per_s=0, address_per_s=0)


@pytest.fixture
def either(client: httpx.Client, app: FastAPI) -> Iterator[Stand]:
    """The same on each database: a NUL is no text for PostgreSQL, a number of 65 bits none for SQLite."""
    found = Stand(app, client, furnish(client))
    yield found
    found.line.close()


def test_no_name_in_a_path_leads_elsewhere(either: Stand) -> None:
    before = either.state()
    asked = 0
    for route in routes(either.app):
        words = re.findall(r"\{(\w+)(?::path)?\}", route.path)
        for word in words:
            for name in NAMES:
                path = name.join(re.split(rf"\{{{word}(?::path)?\}}", route.path))
                path = re.sub(r"\{\w+(:path)?\}", "digits", path)
                for method in sorted(route.methods or ()):
                    status = either.refused(method, path)
                    assert status >= 400 or path.endswith(("/..", "/*")), (method, path, status)
                    asked += 1
    assert asked > 500 and either.state() == before


def test_no_filter_cursor_or_limit_breaks_a_list(either: Stand) -> None:
    before = either.state()
    document, asked = describe(either.app), 0
    for path, methods in document["paths"].items():
        operation = methods.get("get")
        if operation is None or path == "/api/v1/events" or ("{" in path and "/models/" not in path):
            continue
        for parameter in operation["parameters"]:
            if parameter["in"] != "query":
                continue
            for value in NAMES:
                where = path.replace("{model}", "digits")
                status, text = either.ask("GET", f"{where}?{parameter['name']}={value.replace(' ', '+')}")
                assert status in (200, 404, 422), (where, parameter["name"], value, status, text[:200])
                assert not any(leak in text for leak in LEAKS), text[:300]
                if status == 200 and parameter["name"] not in ("after", "q", "sort"):
                    assert json.loads(text)["items"] == [] or parameter["name"] in ("limit", "hours"), (where, value)
                asked += 1
    assert asked > 300 and either.state() == before


def bodies(app: FastAPI) -> Iterator[tuple[str, str, type[Any]]]:
    """Return (method, path, record) of every route that reads a record."""
    for route in routes(app):
        waiting = [route.dependant]
        while waiting:
            each = waiting.pop()
            waiting += each.dependencies
            if isinstance(each.call, Body):
                path = re.sub(
                    r"\{(\w+)\}", lambda found: {"device": "d0", "group": "lab"}.get(found[1], "x"), route.path
                )
                yield sorted(route.methods or ())[0], path, each.call.kind


def test_what_is_no_request_body_changes_nothing(stand: Stand) -> None:
    """Depth, repeated keys, numbers that are none, numbers beyond everything, bytes that are no text."""
    before = stand.state()
    for method, path, _ in bodies(stand.app):
        stranger = path.startswith("/broker/")  # asks for a secret of its own, before anything is read
        for text in TEXTS:
            wanted = (401,) if stranger else (400, 422)
            assert stand.refused(method, path, text) in wanted, (method, path, text[:40])
    for path in ("/device/v1/enrol", "/device/v1/renew", "/api/v1/carried"):
        for text in TEXTS:
            assert stand.refused("POST", path, text) in (400, 422), (path, text[:40])
    for text in TEXTS:
        assert stand.refused("PUT", "/api/v1/models/digits/drift", text) in (400, 422), text[:40]
    assert stand.state() == before


def test_no_value_of_any_field_is_an_error_of_ours(either: Stand) -> None:
    for method, path, kind in bodies(either.app):
        good = {
            field.name: "digits"
            for field in dataclasses.fields(kind)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        for field in dataclasses.fields(kind):
            for value in VALUES:
                either.refused(method, path, json.dumps({**good, field.name: value}).encode())
    assert either.client.get("/api/v1/audit/verify").json()["broken_at"] is None


def test_names_that_a_log_a_table_or_a_page_would_misread_are_refused(stand: Stand) -> None:
    """Names of things reach tables, logs, topics and pages: a formula, a line break or a tag never gets that far."""
    for name in (
        "=1+1",
        "+1",
        "-1",
        "@x",
        "a\nb",
        "a\r\nb",
        "a\tb",
        "<b>",
        '"',
        "'",
        "a,b",
        "a b",
        "\u202ex",
        "ä",
        "A",
    ):
        for path, field in (("groups", "name"), ("models", "name"), ("routes", "name")):
            sent = {field: name, "target": "https://hooks.example/"} if path == "routes" else {field: name}
            assert stand.refused("POST", f"/api/v1/{path}", json.dumps(sent).encode()) == 422, (path, name)
        asked: dict[str, Any] = {"device": name, "claim": "x", "secret": "x", "csr_pem": "x", "hardware": {}}
        assert stand.refused("POST", "/device/v1/enrol", json.dumps(asked).encode()) in (401, 422)
    assert stand.refused("POST", "/api/v1/keys", b'{"name":"a\\nb","role":"viewer"}') == 422


def test_ids_of_requests_cannot_forge_a_line(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    for given in ("x" * 65, "a b", "a\tb", "%0a", "é", "=1+1"):
        answer = stand.client.post("/api/v1/groups", json={"name": "A"}, headers={b"x-request-id": given.encode()})
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"]), given
    assert (
        stand.client.get("/healthz", headers={"x-request-id": "trace-7.a_b"}).headers["x-request-id"] == "trace-7.a_b"
    )


def test_of_many_who_change_the_same_only_the_first_does(client: httpx.Client) -> None:
    furnish(client)
    seen = client.get("/api/v1/devices/d0").headers["etag"]
    start = threading.Barrier(8)
    found: list[tuple[int, int]] = []

    def change(number: int) -> None:
        with httpx.Client(base_url=client.base_url, headers=client.headers, trust_env=False) as mine:
            start.wait()
            body = {"tags": {"by": str(number)}}
            found.append((mine.patch("/api/v1/devices/d0", json=body, headers={"if-match": seen}).status_code, number))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in found) == [200] + [412] * 7
    winner = next(number for status, number in found if status == 200)
    assert client.get("/api/v1/devices/d0").json()["tags"] == {"by": str(winner)}


def test_of_the_same_request_sent_many_times_at_once_one_is_done(client: httpx.Client) -> None:
    start = threading.Barrier(8)
    found: list[str] = []

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, headers=client.headers, trust_env=False) as mine:
            start.wait()
            found.append(mine.post("/api/v1/claims", json={"uses": 3}, headers={"idempotency-key": "k"}).text)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(client.get("/api/v1/claims").json()["items"]) == 1


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ("bytes=0-0", 206),
        ("bytes=-3", 206),
        ("bytes=0-99999999999999999999999", 206),
        ("bytes=9-", 416),
        ("bytes=99999999999999999999999-", 416),
        ("bytes=5-2", 400),
        ("bytes=-0", 416),
        ("bytes=", 400),
        ("bytes", 400),
        ("lines=0-1", 400),
        ("bytes=\u0661-\u0662", 400),
        ("bytes=" + ",".join(["0-"] * 5000), 200),
        ("bytes=" + ",".join(f"{at}-{at}" for at in range(9)) * 200, 200),
    ],
)
def test_ranges_that_are_abused_cost_no_more_than_the_file(stand: Stand, wanted: str, status: int) -> None:
    """Overlapping ranges would multiply a download (RFC 9110 section 14.2, CVE-2011-3192)."""
    found = stand.client.get("/api/v1/models/digits/bundles").json()["items"][0]["id"]
    manifest = stand.client.get(f"/api/v1/bundles/{found}").json()["manifest"]
    sha256 = manifest["variants"][0]["blobs"]["library"]["sha256"]
    headers = {b"authorization": f"Bearer {stand.device}".encode(), b"range": wanted.encode()}
    answer = stand.client.get(f"/blobs/{sha256}", headers=headers)
    assert answer.status_code == status and len(answer.content) < 1000
    if status >= 400:
        assert set(answer.json()["error"]) == {"code", "message", "hint"}


def test_paths_of_the_disk_stay_unknown(stand: Stand, tmp_path: Path) -> None:
    for path in (
        "/static/../../admin.key",
        "/admin.key",
        "/trust/keys/root.pem",
        "/fleet.db",
    ):
        status, text = stand.ask("GET", quote(path, safe="/%."))
        assert status == 404 and set(json.loads(text)["error"]) == {"code", "message", "hint"}, (path, status, text)

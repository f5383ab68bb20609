"""Requests on a condition: what is known already is not sent, what changed meanwhile is not changed again."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from tests.fleet.conftest import Bench, enrolment_body, make_bundle, new_key

from skerry_fleet import alerts
from skerry_fleet.alert_words import Kind
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import InputError


def enrol(client: httpx.Client, *names: str) -> str:
    token = client.post("/api/v1/claims", json={"uses": len(names)}).json()["token"]
    made = [client.post("/device/v1/enrol", json=enrolment_body(token, name, new_key())).json() for name in names]
    return str(made[-1]["download_token"])


def test_an_answer_that_is_known_is_not_sent_again(client: httpx.Client) -> None:
    enrol(client, "d0")
    for path in ("/api/v1/devices", "/api/v1/devices/d0", "/api/v1/groups", "/openapi.json"):
        first = client.get(path)
        tag = first.headers["etag"]
        for known in (tag, f'"other", W/{tag}', "*"):
            again = client.get(path, headers={"if-none-match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), path
        assert client.get(path, headers={"if-none-match": '"other"'}).content == first.content
    known = client.get("/api/v1/groups").headers["etag"]
    client.post("/api/v1/groups", json={"name": "lab"})
    assert client.get("/api/v1/groups", headers={"if-none-match": known}).status_code == 200


def test_a_device_that_somebody_else_changed_is_not_changed(client: httpx.Client, app: FastAPI) -> None:
    enrol(client, "d0")
    seen = client.get("/api/v1/devices/d0").headers["etag"]
    bench = Bench(app.state.fleet, app.state.fleet.clock)
    bench.beat("d0")
    newer = client.get("/api/v1/devices/d0").headers["etag"]
    assert newer != seen, "it said more of itself"
    north = {"tags": {"site": "north"}}
    changed = client.patch("/api/v1/devices/d0", json=north, headers={"if-match": seen})
    assert changed.status_code == 200, "what a device says of itself stands in nobody's way"
    for method in ("PATCH", "DELETE"):
        body = b'{"tags":{}}' if method == "PATCH" else b""
        late = client.request(method, "/api/v1/devices/d0", content=body, headers={"if-match": seen})
        assert (late.status_code, late.json()["error"]["code"]) == (412, "changed")
    assert client.get("/api/v1/devices/d0").json()["tags"] == {"site": "north"}
    assert client.delete("/api/v1/devices/d0", headers={"if-match": changed.headers["etag"]}).status_code == 200


def test_groups_and_rollouts_are_changed_only_as_they_were_seen(client: httpx.Client) -> None:
    enrol(client, "d0", "d1")
    client.post("/api/v1/groups", json={"name": "lab"})
    seen = {"if-match": client.get("/api/v1/groups/lab").headers["etag"]}
    assert client.post("/api/v1/groups/lab/devices", json={"devices": ["d0"]}, headers=seen).status_code == 200
    assert client.post("/api/v1/groups/lab/devices", json={"devices": ["d1"]}, headers=seen).status_code == 412
    assert client.delete("/api/v1/groups/lab/devices/d0", headers=seen).status_code == 412
    assert client.get("/api/v1/groups/lab").json() == {"name": "lab", "description": "", "devices": 1, "query": None}
    client.post("/api/v1/models", json={"name": "digits"})
    bundle = client.post("/api/v1/models/digits/bundles", content=make_bundle()).json()["id"]
    started = client.post("/api/v1/rollouts", json={"model": "digits", "bundle": bundle}).json()["id"]
    seen = {"if-match": client.get(f"/api/v1/rollouts/{started}").headers["etag"]}
    assert client.post(f"/api/v1/rollouts/{started}/pause", headers=seen).json()["status"] == "paused"
    assert client.post(f"/api/v1/rollouts/{started}/abort", headers=seen).status_code == 412
    assert client.get(f"/api/v1/rollouts/{started}").json()["status"] == "paused"


def test_downloads_go_on_where_the_file_is_still_the_same(client: httpx.Client) -> None:
    client.post("/api/v1/models", json={"name": "digits"})
    client.post("/api/v1/models/digits/bundles", content=make_bundle())
    sha256 = hashlib.sha256(b"library 1").hexdigest()
    path, token = f"/blobs/{sha256}", {"authorization": f"Bearer {enrol(client, 'd0')}"}
    whole = client.get(path, headers=token)
    assert whole.headers["etag"] == f'"{sha256}"' and whole.content == b"library 1"
    rest = {**token, "range": "bytes=3-"}
    same = client.get(path, headers={**rest, "if-range": whole.headers["etag"]})
    assert (same.status_code, same.content, same.headers["content-range"]) == (206, b"rary 1", "bytes 3-8/9")
    other = client.get(path, headers={**rest, "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, b"library 1"), "another file: all of it"
    assert client.get(path, headers={**token, "if-none-match": f'"{sha256}"'}).status_code == 304
    beyond = client.get(path, headers={**token, "range": "bytes=9-"})
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, "no-such-range")
    assert beyond.headers["content-range"] == "bytes */9"
    nonsense = client.get(path, headers={**token, "range": "bytes=x-y"})
    assert (nonsense.status_code, nonsense.json()["error"]["code"]) == (400, "bad-request")


class TestBehindNginx:
    @pytest.fixture
    def config(self, tmp_path: Path, database_url: str) -> FleetConfig:
        return FleetConfig(
            root=tmp_path / "a fleet", broker="embedded", database_url=database_url, accel_prefix="/skerry-files"
        )

    def test_files_are_named_to_it_and_only_to_devices(self, client: httpx.Client, app: FastAPI) -> None:
        client.post("/api/v1/models", json={"name": "digits"})
        file = io.BytesIO(make_bundle())
        client.post("/api/v1/models/digits/bundles", content=file.getvalue())
        token = {"authorization": f"Bearer {enrol(client, 'd0')}"}
        sha256 = hashlib.sha256(b"library 1").hexdigest()
        root: Path = app.state.fleet.config.root
        for path in (f"/blobs/{sha256}", "/tuf/metadata/1.root.json"):
            answer = client.get(path, headers=token)
            named = answer.headers["x-accel-redirect"]
            assert answer.content == b"" and named.startswith("/skerry-files/")
            assert (root / named.removeprefix("/skerry-files/")).is_file()
            assert "x-accel-redirect" not in client.get(path).headers, "an API key is no device"
        assert client.get(f"/blobs/{'0' * 64}", headers=token).status_code == 404

    @pytest.mark.parametrize("prefix", ["files", "/", "/a b", "/files/", "/x?y", "/\n"])
    def test_a_prefix_that_is_no_path_is_refused(self, tmp_path: Path, prefix: str) -> None:
        with pytest.raises(InputError):
            FleetConfig(root=tmp_path, accel_prefix=prefix)


def test_bundles_and_incidents_are_changed_only_as_they_were_seen(client: httpx.Client, app: FastAPI) -> None:
    client.post("/api/v1/models", json={"name": "digits"})
    bundle = client.post("/api/v1/models/digits/bundles?publish=false", content=make_bundle()).json()["id"]
    path = f"/api/v1/bundles/{bundle}"
    draft = {"if-match": client.get(path).headers["etag"]}
    assert client.post(f"{path}/publish", headers=draft).json()["state"] == "published"
    for verb in ("withdraw", "publish"):
        assert client.post(f"{path}/{verb}", headers=draft).status_code == 412
    assert client.get(path).json()["state"] == "published"
    seen = {"if-match": client.get(path).headers["etag"]}
    assert client.post(f"{path}/withdraw", headers=seen).json()["state"] == "withdrawn"

    def alarm(subject: str) -> None:
        with app.state.fleet.database.write() as session:
            now = app.state.fleet.clock()
            alerts.raise_alert(session, "default", now, Kind.UPDATE_FAILED, subject, "it failed")

    alarm("d0")
    incident = f"/api/v1/incidents/{client.get('/api/v1/incidents').json()['items'][0]['id']}"
    one = {"if-match": client.get(incident).headers["etag"]}
    alarm("d1")
    late = client.post(f"{incident}/ack", headers=one)
    assert late.status_code == 412, "an alert that joined meanwhile was not seen"
    assert client.get(incident).json()["state"] == "open"
    two = {"if-match": client.get(incident).headers["etag"]}
    assert client.post(f"{incident}/ack", headers=two).json()["state"] == "acknowledged"

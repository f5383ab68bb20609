"""Tags: set and taken away, of one device and of many, never more or other than may be."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import select
from tests.fleet.conftest import ACTOR, HARDWARE, Bench

from skerry_fleet import devices, swarm, tags
from skerry_fleet.errors import InputError
from skerry_fleet.records import Audit
from skerry_fleet.tags import Change

DATABASES = "both"


@pytest.fixture
def many(client: httpx.Client, app: FastAPI) -> httpx.Client:
    swarm.admit(app.state.fleet.database, "default", 30, HARDWARE, app.state.fleet.clock(), 1)
    return client


def tags_of(client: httpx.Client, number: int) -> dict[str, str]:
    found: dict[str, str] = client.get(f"/api/v1/devices/swarm-{number:06}").json()["tags"]
    return found


def ask(client: httpx.Client, body: dict[str, Any], dry_run: bool = False) -> httpx.Response:
    return client.post("/api/v1/tags", json=body, params={"dry_run": dry_run})


def test_many_at_once_by_query_group_and_name_with_a_look_before(many: httpx.Client, app: FastAPI) -> None:
    some = {"query": "name==swarm-00001*", "set": {"site": "lab", "ring": "1"}}
    assert ask(many, some, dry_run=True).json()["changed"] == 10 and tags_of(many, 10) == {}
    assert ask(many, some).json() == {"devices": 10, "changed": 10, "such_as": [f"swarm-{n:06}" for n in range(10, 20)]}
    assert ask(many, some).json()["changed"] == 0, "twice is once"
    many.post("/api/v1/groups", json={"name": "lab", "query": "tag.site==lab"})
    assert ask(many, {"group": "lab", "set": {"ring": "2"}, "remove": ["site"]}).json()["changed"] == 10
    assert tags_of(many, 10) == {"ring": "2"}
    assert many.get("/api/v1/groups/lab").json()["devices"] == 0, "dynamic groups follow"
    assert ask(many, {"query": "name==*", "set": {"all": "größe"}}).json()["changed"] == 30
    listed = many.get("/api/v1/tags", params={"limit": 1}).json()
    assert listed["items"] == [{"key": "all", "devices": 30, "values": 1}] and listed["next"] == "all"
    rest = many.get("/api/v1/tags", params={"after": "all"}).json()
    assert rest["items"] == [{"key": "ring", "devices": 10, "values": 1}]
    with app.state.fleet.database.read() as session:
        rows = session.exec(select(Audit.object).where(Audit.action == "device.tag")).all()
        assert len(rows) == 21 and rows.count("device/many") == 1


def test_one_device_s_tags_are_not_changed_by_two_who_saw_the_same(many: httpx.Client) -> None:
    seen = many.get("/api/v1/devices/swarm-000001").headers["etag"]
    ask(many, {"devices": ["swarm-000001"], "set": {"a": "1"}})
    late = many.patch("/api/v1/devices/swarm-000001", json={"tags": {"b": "2"}}, headers={"if-match": seen})
    assert (late.status_code, tags_of(many, 1)) == (412, {"a": "1"})


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"set": {"a": "b"}}, 422, "which devices"),
        ({"set": {"a": "b"}, "group": "x", "query": "name==*"}, 422, "which devices"),
        ({"set": {"a": "b"}, "group": "none"}, 404, "no group"),
        ({"set": {"a": "b"}, "devices": ["swarm-000001", "none"]}, 404, "no device"),
        ({"set": {"a": "b"}, "query": "nope==1"}, 422, "no field"),
        ({"set": {"a b": "c"}, "devices": ["swarm-000001"]}, 422, "cannot be a name"),
        ({"set": {"-a": "c"}, "devices": ["swarm-000001"]}, 422, "cannot be a name"),
        ({"set": {"a" * 65: "c"}, "devices": ["swarm-000001"]}, 422, "cannot be a name"),
        ({"set": {"a": "c" * 257}, "devices": ["swarm-000001"]}, 422, "256 printable"),
        ({"set": {"a": "\x1b[2J"}, "devices": ["swarm-000001"]}, 422, "256 printable"),
        ({"set": {"a": 1}, "devices": ["swarm-000001"]}, 422, "set"),
        ({"set": {"a": "b"}, "remove": ["a"], "devices": ["swarm-000001"]}, 422, "set and taken away"),
        ({"set": {f"k{n}": "" for n in range(65)}, "devices": ["swarm-000001"]}, 422, "at most 64"),
    ],
)
def test_what_is_no_tag_changes_nothing(many: httpx.Client, body: dict[str, Any], status: int, said: str) -> None:
    refused = ask(many, body)
    assert (refused.status_code, said in refused.json()["error"]["message"]) == (status, True), refused.text
    assert tags_of(many, 1) == {}


def test_a_device_that_would_have_too_many_is_refused_and_so_are_the_others(many: httpx.Client) -> None:
    ask(many, {"devices": ["swarm-000001"], "set": {f"k{number}": "" for number in range(64)}})
    assert ask(many, {"query": "name==*", "set": {"one": "more"}}).status_code == 422
    assert tags_of(many, 2) == {}
    assert ask(many, {"query": "name==*", "set": {"one": "more"}, "remove": ["k1"]}).json()["changed"] == 30


KEYS = st.sampled_from(["a", "b", "c/d", "e.f"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(KEYS, st.text(max_size=3)), st.dictionaries(KEYS, st.sampled_from("xyz")), st.sets(KEYS))
def test_a_change_sets_and_takes_away_and_twice_is_once(
    before: dict[str, str], put: dict[str, str], drop: set[str]
) -> None:
    if put.keys() & drop:
        with pytest.raises(InputError):
            Change(put, drop)
        return
    after = Change(put, drop).to(before)
    assert after == {key: value for key, value in (before | put).items() if key not in drop}
    assert Change(put, drop).to(after) == after


def test_tags_from_before_there_were_rules_may_stay(bench: Bench) -> None:
    bench.enrol("d0")
    with bench.fleet.rollouts.open() as session:
        row = devices.get(session, "default", "d0")
        row.tags = '{"old key":"x"}'
        session.add(row)
        session.flush()
        tags.replace(session, bench.fleet.rollouts, ACTOR, 0.0, "d0", {"old key": "x", "new": "y"})
        with pytest.raises(InputError):
            tags.replace(session, bench.fleet.rollouts, ACTOR, 0.0, "d0", {"old key": "z"})

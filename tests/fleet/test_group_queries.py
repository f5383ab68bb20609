"""Dynamic groups: whom a query means is a member, to rollouts, mutes and lists alike, and nobody can say otherwise."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import select
from tests.fleet.conftest import ACTOR, Bench, enrolment_body, new_key
from tests.fleet.rolling import DEVICES, show, start

from skerry_contracts.device import Phase
from skerry_fleet import group_queries, groups, tags
from skerry_fleet.records import Audit
from skerry_fleet.tables import Group, GroupMember, RolloutDevice


@pytest.fixture
def ready(bench: Bench) -> Bench:
    bench.enrol(*DEVICES)
    for device in DEVICES:
        bench.beat(device, "")
    return bench


def tag(bench: Bench, device: str, **wanted: str) -> None:
    with bench.fleet.rollouts.open() as session:
        tags.replace(session, bench.fleet.rollouts, ACTOR, bench.clock(), device, wanted)


def define(bench: Bench, name: str, query: str) -> None:
    with bench.fleet.rollouts.open() as session:
        if session.get(Group, ("default", name)) is None:
            groups.create(session, ACTOR, bench.clock(), name)
            session.flush()
        group_queries.define(session, bench.fleet.rollouts, ACTOR, bench.clock(), name, query)


def members(bench: Bench, name: str) -> list[str]:
    with bench.fleet.database.read() as session:
        query = select(GroupMember.device).where(GroupMember.tenant == "default", GroupMember.group == name)
        return sorted(session.exec(query))


def look(bench: Bench) -> None:
    bench.fleet.queries = group_queries.GroupWatch(bench.fleet.database, bench.fleet.rollouts)  # as if it were time
    bench.fleet.tick()


def test_members_follow_tags_at_once_and_what_devices_say_at_the_next_look(ready: Bench) -> None:
    tag(ready, "d1", site="lab")
    define(ready, "lab", "tag.site==lab;online==true")
    assert members(ready, "lab") == ["d1"]
    tag(ready, "d2", site="lab")
    tag(ready, "d1", site="hall")
    assert members(ready, "lab") == ["d2"]
    ready.clock.now += 400
    ready.fleet.tick()  # nobody was heard: all are silent, none online
    look(ready)
    assert members(ready, "lab") == []
    ready.beat("d2", "")
    look(ready)
    assert members(ready, "lab") == ["d2"]
    with ready.fleet.database.read() as session:
        told = [each.action for each in session.exec(select(Audit).where(Audit.object == "group/lab"))]
    assert told == ["group.create", "group.query", *["group.match"] * 5]


def test_a_device_that_begins_to_match_joins_the_rollout_late_and_leaves_it_unless_it_was_offered(ready: Bench) -> None:
    for device in ("d0", "d1", "d2"):
        tag(ready, device, ring="one")
    define(ready, "one", "tag.ring==one")
    bundle = ready.publish("1", 1)
    rollout = start(ready, bundle, canary=1, group="one", soak_s=3600.0)
    assert show(ready, rollout)["devices"] == 3
    tag(ready, "d5", ring="one")
    assert show(ready, rollout)["devices"] == 4
    (offered,) = [device for device in DEVICES if ready.assignment(device) is not None]
    for device in ("d0", "d1", "d2", "d5"):
        tag(ready, device, ring="two")
    assert members(ready, "one") == []
    with ready.fleet.database.read() as session:
        rows = select(RolloutDevice.device).where(RolloutDevice.rollout == rollout, RolloutDevice.active)
        assert list(session.exec(rows)) == [offered], "what is under way on a device is brought to its end"
    ready.progress(offered, Phase.COMMITTED)
    assert show(ready, rollout)["counts"]["soaking"] == 1


def test_the_watch_leaves_alone_what_was_changed_while_it_looked(ready: Bench) -> None:
    define(ready, "all", "name==d*")
    with ready.fleet.database.read() as session:
        found = group_queries.shift(session, "default", "all", "name==x*", ready.clock())
    assert found.leaves == DEVICES
    define(ready, "all", "name==d1")
    with ready.fleet.rollouts.open() as session:  # a device that is gone by now does not come in
        late = group_queries.Shift(("d2", "nobody"), ())
        group_queries.apply(session, ready.fleet.rollouts, ready.clock(), "default", "all", late)
    assert members(ready, "all") == ["d1", "d2"]
    look(ready)
    assert members(ready, "all") == ["d1"]


def test_over_http_it_is_a_group_like_others_but_nobody_puts_devices_in(client: httpx.Client, app: FastAPI) -> None:
    token = client.post("/api/v1/claims", json={"uses": 3}).json()["token"]
    for name in ("a-1", "a-2", "b-1"):
        assert client.post("/device/v1/enrol", json=enrolment_body(token, name, new_key())).status_code == 200
    made = client.post("/api/v1/groups", json={"name": "a", "query": "name==a-*"})
    assert (made.status_code, made.json()["devices"], made.json()["query"]) == (201, 2, "name==a-*")
    assert client.get("/api/v1/groups").json()["items"][0]["query"] == "name==a-*"
    assert [each["device"] for each in client.get("/api/v1/devices?group=a").json()["items"]] == ["a-1", "a-2"]
    asked = client.get("/api/v1/devices", params={"query": "group!=x;name=in=(a-2,b-1)", "limit": 1}).json()
    assert [each["device"] for each in asked["items"]] == ["a-2"] and asked["next"] == "a-2"
    token = client.post("/api/v1/claims", json={}).json()["token"]
    client.post("/device/v1/enrol", json=enrolment_body(token, "a-3", new_key()))
    assert client.get("/api/v1/devices/a-3").json()["groups"] == ["a"]
    seen = client.get("/api/v1/groups/a").headers["etag"]
    assert (
        client.patch("/api/v1/groups/a", json={"query": "name==b-*"}, headers={"if-match": seen}).json()["devices"] == 1
    )
    assert client.patch("/api/v1/groups/a", json={"query": "x"}, headers={"if-match": seen}).status_code == 412
    kept = client.patch("/api/v1/devices/b-1", json={"groups": ["a"]})  # as it was shown
    assert (kept.status_code, kept.json()["groups"]) == (200, ["a"])
    client.post("/api/v1/groups", json={"name": "hands"})
    client.post("/api/v1/groups/hands/devices", json={"devices": ["a-1"]})
    for method, path, body, status, said in (
        ("POST", "/groups/a/devices", {"devices": ["a-1"]}, 409, "a query chooses"),
        ("DELETE", "/groups/a/devices/b-1", None, 409, "a query chooses"),
        ("PATCH", "/devices/a-1", {"groups": ["a", "hands"]}, 409, "a query chooses"),
        ("POST", "/claims", {"group": "a"}, 409, "a query chooses"),
        ("POST", "/groups", {"name": "n", "query": "nane==x"}, 422, "column 1: 'nane' is no field; is name meant?"),
        ("POST", "/groups", {"name": "n", "query": ""}, 422, "it is empty"),
        ("POST", "/groups", {"name": "n", "query": "group==a"}, 422, "has a query itself"),
        ("POST", "/groups", {"name": "n", "query": "group==none"}, 404, "no group"),
        ("PATCH", "/groups/hands", {"query": "name==x"}, 422, "members that people chose"),
        ("PATCH", "/groups/none", {"query": "name==x"}, 404, "no group"),
        ("GET", "/devices?query=cores==x", None, 422, "column 8"),
    ):
        refused = client.request(method, f"/api/v1{path}", json=body)
        assert (refused.status_code, said in refused.json()["error"]["message"]) == (status, True), refused.text
    names = [each["name"] for each in client.get("/api/v1/groups").json()["items"]]
    assert names == ["a", "hands"], "what was refused made nothing"

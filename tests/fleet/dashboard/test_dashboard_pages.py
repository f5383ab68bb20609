"""The pages over HTTP, without a browser and so without script: who sees what, and that no text becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlmodel import func, select
from tests.fleet.conftest import ACTOR
from tests.fleet.dashboard.conftest import HOSTILE, House, rollout, sign_in, token_of, verdict

from skerry_fleet import apikeys, audit, feeds
from skerry_fleet.apikeys import Role
from skerry_fleet.audit import Actor
from skerry_fleet.dashboard import actions, routes
from skerry_fleet.dashboard.actions import safe_path
from skerry_fleet.dashboard.session import COOKIE, LASTS_S, PUBLIC, SessionGuard
from skerry_fleet.records import Audit, DriftHistory

ALL = [each for router in (actions.router, routes.router) for each in router.routes if isinstance(each, APIRoute)]


class Markup(HTMLParser):
    """What a browser would make of a page: its elements, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


def addresses(house: House) -> list[str]:
    bundle = house.bench.assignment(house.bad)
    assert bundle is not None
    return [
        "/ui/", "/ui/devices", f"/ui/devices/{house.bad}", "/ui/models", "/ui/models/digits",
        f"/ui/bundles/{bundle.models[0].bundle}", "/ui/rollouts", f"/ui/rollouts/{house.rollout}",
        f"/ui/rollouts/{house.rollout}/abort", "/ui/drift", "/ui/drift/digits", "/ui/alerts", "/ui/audit",
    ]  # fmt: skip


def test_every_page_is_guarded_and_what_changes_something_needs_an_operator() -> None:
    for route in ALL:
        found = [each.call for each in route.dependant.dependencies if isinstance(each.call, SessionGuard)]
        if route.path in PUBLIC:
            assert not found, route.path
            continue
        assert len(found) == 1, f"{route.path} has no guard"
        if "POST" in (route.methods or ()) and route.path != "/ui/sign-out":
            assert found[0].role.covers(Role.OPERATOR), route.path
        assert not route.include_in_schema, route.path


def test_without_a_session_every_page_leads_to_the_sign_in(house: House) -> None:
    with httpx.Client(base_url=house.url, trust_env=False) as client:
        for route in ALL:
            address = route.path.replace("{", "").replace("}", "").replace(":path", "")
            if route.path in PUBLIC:
                continue
            for cookie in ("", "1.ab.9999999999.00.00"):
                client.headers["cookie"] = f"{COOKIE}={cookie}"
                for method in sorted(route.methods or ()):
                    answer = client.request(method, address)
                    if method == "GET" and not address.endswith("/events"):
                        assert answer.status_code == 303, address
                        assert answer.headers["location"].startswith("/ui/sign-in?next=%2Fui%2F"), address
                    else:
                        assert answer.status_code == 401, (method, address)
        assert client.get("/").headers["location"] == "/ui/"
        assert client.get("/ui").headers["location"] == "/ui/"


def test_a_key_opens_a_session_and_a_wrong_one_is_told(house: House) -> None:
    with httpx.Client(base_url=house.url, trust_env=False) as client:
        for wrong, words in (
            ("hello", "That is not an API key"),
            ("sk1_0_0", "unknown or revoked"),
            ("", "not an API key"),
        ):
            answer = sign_in(client, wrong)
            assert answer.status_code == 401 and words.lower() in answer.text.lower()
            assert COOKIE not in client.cookies
        answer = sign_in(client, f"  {house.keys['viewer']}\n", "/ui/devices?q=a")
        assert (answer.status_code, answer.headers["location"]) == (303, "/ui/devices?q=a")
        cookie = next(each for each in answer.headers.get_list("set-cookie") if each.startswith(COOKIE))
        for word in ("HttpOnly", "SameSite=strict", "Path=/ui", f"Max-Age={LASTS_S}"):
            assert word in cookie
        assert "sk1_" not in cookie and house.keys["viewer"].split("_")[2] not in cookie
        page = client.get("/ui/")
        assert page.status_code == 200 and "viewer &lt;b&gt;of&lt;/b&gt; pages" in page.text
        answer = client.post("/ui/sign-out", data={"token": token_of(page.text)})
        assert answer.headers["location"] == "/ui/sign-in"
        assert client.get("/ui/").status_code == 303
    with house.fleet.database.read() as session:
        assert audit.verify(session, "default").broken_at is None


def test_a_session_ends_with_its_time_and_with_its_key(house: House) -> None:
    with house.visitor("viewer") as client:
        assert client.get("/ui/").status_code == 200
        with house.fleet.database.write() as session:
            apikeys.revoke(session, Actor("default", "test"), house.bench.clock(), house.keys["viewer"].split("_")[1])
        assert client.get("/ui/").status_code == 303
    with house.visitor("operator") as client:
        house.bench.clock.now += LASTS_S
        assert client.get("/ui/").status_code == 303


def test_after_signing_in_nobody_is_led_astray() -> None:
    assert safe_path("/ui/devices?q=a&after=b") == "/ui/devices?q=a&after=b"
    for bad in (
        "https://evil.example/ui/",
        "//evil.example",
        "/\\evil",
        "/ui//evil",
        "/api/v1/keys",
        "/ui/\r\nx: y",
        "",
    ):
        assert safe_path(bad) == "/ui/"


def test_every_page_answers_and_is_fenced(shown: House) -> None:
    with shown.visitor() as client:
        for address in addresses(shown):
            answer = client.get(address)
            assert answer.status_code == 200, (address, answer.text)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
            assert (
                answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
            )
            part = client.get(address, headers={"x-skerry-part": "1"})
            assert "<html" not in part.text and "<h1" not in part.text
        for address, status in (("/ui/nonsense", 404), ("/ui/devices/nobody", 404), ("/ui/rollouts/x", 404),
                                ("/ui/devices?online=maybe", 422), ("/ui/alerts?after=x", 422),
                                ("/ui/rollouts?status=x", 422), ("/ui/bundles/00", 404), ("/ui/drift/none", 404),
                                ("/ui/static/../session.py", 404), ("/ui/static/x.css", 404)):  # fmt: skip
            answer = client.get(address)
            assert answer.status_code == status and "text/html" in answer.headers["content-type"], address
            assert "content-security-policy" in answer.headers


def test_no_text_from_a_device_becomes_markup(shown: House) -> None:
    told = 0
    with shown.visitor() as client:
        for address in [*addresses(shown), f"/ui/audit?object={HOSTILE}", f"/ui/devices?q={HOSTILE[:60]}"]:
            page = client.get(address).text
            found = Markup(page)
            for tag, attributes in found.tags:
                assert not any(name.startswith("on") or name == "style" for name in attributes), (address, tag)
                assert tag != "script" or (attributes.get("src") or "").startswith("/ui/static/"), address
                assert tag != "img" or (attributes.get("src") or "").startswith("data:image/png;base64,"), address
                assert not (attributes.get("href") or "").lower().startswith(("javascript:", "data:")), address
            told += HOSTILE in found.text
            assert "49'" not in page
    assert told >= 7  # device, model, bundle, rollout, drift, alerts, overview: told, in full, as text


def test_lists_go_on_page_by_page(house: House) -> None:
    names = [f"d{number:03}" for number in range(70)]
    house.bench.enrol(*names)
    house.bench.beat("d003", "")
    with house.visitor("viewer") as client:
        first = Markup(client.get("/ui/devices").text)
        onward = next(each["href"] for tag, each in first.tags if each.get("rel") == "next")
        second = Markup(client.get(onward or "").text)
        found = [
            each["id"] for page in (first, second) for tag, each in page.tags if (each.get("id") or "").startswith("d-")
        ]
        assert found == [f"d-{name}" for name in names]
        assert not any(each.get("rel") == "next" for _, each in second.tags)
        some = Markup(client.get("/ui/devices?q=d06").text)
        assert "10 devices shown of 70" in some.text
        assert "fits" in client.get("/ui/devices?q=zzz").text
        assert "1 device shown" in Markup(client.get("/ui/devices?online=true").text).text
        assert "d003" not in client.get("/ui/devices?online=false").text
        assert client.get("/ui/devices?group=none").status_code == 404


def test_an_operator_steers_and_a_viewer_does_not(full: House) -> None:
    path = f"/ui/rollouts/{full.rollout}"
    with full.visitor("viewer") as client:
        page = client.get(path).text
        assert "Abort" not in page and "Samples are data" in client.get("/ui/drift/digits").text
        token = token_of(page)
        assert client.get(f"{path}/abort").status_code == 403
        assert client.post(f"{path}/abort", data={"token": token}).status_code == 403
        assert client.post("/ui/alerts/1/ack", data={"token": token}).status_code == 403
        assert "Acknowledge</button>" not in client.get("/ui/alerts").text
    with full.visitor("operator") as client:
        page = client.get(f"{path}/pause").text
        token = token_of(page)
        for wrong in ({}, {"token": "0" * 64}, {"token": token[:-1]}):
            assert client.post(f"{path}/pause", data=wrong).status_code == 403
            assert client.post("/ui/alerts/1/ack", data=wrong).status_code == 403
            assert client.post("/ui/sign-out", data=wrong).status_code == 403
        assert "running" in client.get(path).text
        answer = client.post(f"{path}/pause", data={"token": token, "reason": "tea"})
        assert (answer.status_code, answer.headers["location"]) == (303, path)
        assert "Resume" in client.get(path).text
        assert client.post(f"{path}/pause", data={"token": token}).status_code == 409
        assert client.post(f"{path}/explode", data={"token": token}).status_code == 404
        assert "not possible any more" in client.get(f"{path}/pause").text
        assert client.post(f"{path}/rollback", data={"token": token, "reason": "bad"}).status_code == 303
        answer = client.post("/ui/alerts/1/ack", data={"token": token, "state": "open"})
        assert answer.headers["location"] == "/ui/alerts?state=open"
        assert "acknowledged" in client.get("/ui/alerts").text
        assert client.post("/ui/alerts/x/ack", data={"token": token}).status_code == 404
        assert "session.begin" in client.get("/ui/audit").text


def test_another_tenant_sees_nothing_of_this_one(shown: House) -> None:
    with shown.fleet.database.write() as session:
        _, key = apikeys.create(session, Actor("rival", "test"), 0.0, shown.fleet.random, "rival", "admin")
    with httpx.Client(base_url=shown.url, trust_env=False) as client:
        sign_in(client, key)
        for address in addresses(shown):
            page = client.get(address)
            assert page.status_code == (404 if address.count("/") > 2 else 200), address
            assert page.status_code == 404 or ("porch" not in page.text and "data-drift" not in page.text), address
        token = token_of(client.get("/ui/").text)
        assert client.post(f"/ui/rollouts/{shown.rollout}/abort", data={"token": token}).status_code == 404
        assert client.post("/ui/alerts/1/ack", data={"token": token}).status_code == 404


def test_the_device_page_says_why(shown: House) -> None:
    with shown.visitor("viewer") as client:
        text = Markup(client.get(f"/ui/devices/{shown.bad}").text).text
    assert f"Rollout {shown.rollout} running was ordered by test for group porch" in text
    assert "In it this device is failed ; its last word was rolled-back (golden)" in text
    assert "So it is to run version 1 , which is the way back to what it ran before" in text
    assert "the device has adopted 1" in text
    assert "It says that it runs version 1 serving : as wanted." in text
    assert "13.4 MB" in text and "0.42 ms" in text


def test_scores_are_remembered_up_to_a_limit(house: House) -> None:
    house.bench.publish("1", 1)
    with house.fleet.database.write() as session:
        for step in range(510):
            record = {"score": step / 1000, "threshold": 0.9}
            feeds.put_drift(session, ACTOR, house.bench.clock(), "digits", "data-drift", False, record)
    verdict(house.bench, "data-drift", 0.95, 0.9)
    verdict(house.bench, "data-drift", 0.95, 0.9)  # put again after a lost answer: no second point
    with house.fleet.database.read() as session:
        assert session.exec(select(func.count()).select_from(DriftHistory)).one() == 500
    with house.visitor("viewer") as client:
        page = client.get("/ui/drift").text
    assert "120 scores, from 0.391 to 0.95" in page and "drifting" in page


def test_a_broken_chain_is_told(house: House) -> None:
    with house.visitor("viewer") as client:
        assert "chain holds" in client.get("/ui/audit").text
        with house.fleet.database.write() as session:
            row = session.get(Audit, ("default", 2))
            assert row is not None
            row.actor = "nobody"
            session.add(row)
        assert "The chain is broken at record 2: was altered." in client.get("/ui/audit").text


def test_changes_are_told_as_they_happen(house: House) -> None:
    with house.visitor("viewer") as client, client.stream("GET", "/ui/events", timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = []
        for line in stream.iter_lines():
            if line == ": skerry":
                house.bench.enrol(*(f"d{number}" for number in range(30)))
                house.bench.publish()
            elif line.startswith("data: "):
                told.append(line)
            if "data: device" in told and "data: bundle" in told:
                break
    assert told.count("data: device") <= 4  # thirty devices, a few words


def test_sessions_outlive_a_restart_and_static_files_are_kept(house: House) -> None:
    with house.visitor("viewer") as client:
        page = client.get("/ui/").text
        style = next(each["href"] for tag, each in Markup(page).tags if tag == "link" and each["rel"] == "stylesheet")
        answer = client.get(style or "")
        assert "immutable" in answer.headers["cache-control"] and answer.headers["content-type"].startswith("text/css")
        routes.install(FastAPI(), house.fleet)  # what a start does: the secret is read, not made anew
        assert client.get("/ui/").status_code == 200


@pytest.mark.parametrize("order", ["approve", "pause", "resume", "abort", "rollback"])
def test_every_order_says_what_it_would_do(shown: House, order: str) -> None:
    with shown.visitor("operator") as client:
        page = client.get(f"/ui/rollouts/{shown.rollout}/{order}").text
    assert ("not possible any more" in page) == (order in ("approve", "resume"))


def test_a_rollout_that_waits_for_approval_is_approved_here(house: House) -> None:
    house.bench.enrol("d0")
    house.bench.beat("d0", "")
    name = rollout(house.bench, house.bench.publish(), approval=True)
    with house.visitor("operator") as client:
        path = f"/ui/rollouts/{name}"
        assert "Approve" in client.get(path).text
        token = token_of(client.get(f"{path}/approve").text)
        client.post(f"{path}/approve", data={"token": token})
        assert "running" in client.get(path).text
    assert house.bench.assignment("d0") is not None

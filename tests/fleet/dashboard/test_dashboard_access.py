"""Who gets in, who may do what, and that no form works from elsewhere."""

from __future__ import annotations

import httpx
from fastapi.routing import APIRoute
from tests.fleet.dashboard.conftest import House, sign_in, token_of
from tests.fleet.dashboard.markup import addresses

from skerry_fleet import apikeys, audit
from skerry_fleet.apikeys import Role
from skerry_fleet.audit import Actor
from skerry_fleet.dashboard import account_pages, actions, alert_pages, routes
from skerry_fleet.dashboard.account_pages import safe_path
from skerry_fleet.dashboard.session import COOKIE, LASTS_S, PUBLIC, SessionGuard

ROOMS = (account_pages.router, actions.router, alert_pages.router, routes.router)
OWN = {"/ui/sign-out", "/ui/account/sign-out", "/ui/account/password"}
"""What everybody may do about themselves."""
ALL = [each for router in ROOMS for each in router.routes if isinstance(each, APIRoute)]


def test_every_page_is_guarded_and_what_changes_something_needs_an_operator() -> None:
    for route in ALL:
        found = [each.call for each in route.dependant.dependencies if isinstance(each.call, SessionGuard)]
        if route.path in PUBLIC:
            assert not found, route.path
            continue
        assert len(found) == 1, f"{route.path} has no guard"
        if "POST" in (route.methods or ()) and route.path not in OWN:
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
        alerts_page = client.get("/ui/alerts").text
        assert "1 alert: device-silent" in alerts_page and "Mute device-silent for 1 h" in alerts_page
        assert client.post("/ui/mutes", data={"kind": "device-silent", "hours": "1"}).status_code == 403  # no token
        muting = {"token": token, "kind": "device-silent", "hours": "1"}
        for wrong in ({"hours": "nan"}, {"hours": "x"}, {"kind": "rain"}, {"kind": ""}):
            assert client.post("/ui/mutes", data={**muting, **wrong}).status_code == 422
        assert client.post("/ui/mutes", data=muting).headers["location"] == "/ui/alerts"
        assert "No messages about device-silent" in client.get("/ui/alerts").text
        assert client.post("/ui/mutes/1/end", data={"token": token}).status_code == 303
        assert "No messages about" not in client.get("/ui/alerts").text
        assert client.post("/ui/incidents/1/ack", data={"token": token}).status_code == 303
        assert client.post("/ui/incidents/7/ack", data={"token": token}).status_code == 404
        assert "Incident 1: " in client.get("/ui/alerts?incident=1").text
        assert "session.begin" in client.get("/ui/audit").text


def test_another_tenant_sees_nothing_of_this_one(shown: House) -> None:
    with shown.fleet.database.write() as session:
        _, key = apikeys.create(session, Actor("rival", "test"), 0.0, shown.fleet.random, "rival", "admin")
    with httpx.Client(base_url=shown.url, trust_env=False) as client:
        sign_in(client, key)
        for address in addresses(shown):
            page = client.get(address)
            assert page.status_code == (404 if address.count("/") > 2 and not address.endswith("/new") else 200), (
                address
            )
            assert page.status_code == 404 or ("porch" not in page.text and "data-drift" not in page.text), address
        token = token_of(client.get("/ui/").text)
        assert client.post(f"/ui/rollouts/{shown.rollout}/abort", data={"token": token}).status_code == 404
        assert client.post("/ui/alerts/1/ack", data={"token": token}).status_code == 404

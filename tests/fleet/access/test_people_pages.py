"""The page of people and keys, by form and in a real browser; and a provider's way back in one."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from tests.fleet.access.oidc_world import ROLES
from tests.fleet.access.providers import CLIENT, provider
from tests.fleet.conftest import Clock, admin
from tests.fleet.dashboard.chromium import Browser, chromium
from tests.fleet.dashboard.conftest import sign_in, token_of

from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig

WORDS = "a tide of many words"


@pytest.fixture
def chief(app: FastAPI, client: httpx.Client) -> Iterator[httpx.Client]:
    """The first admin in a browser without a window."""
    with httpx.Client(base_url=client.base_url, trust_env=False) as page:
        sign_in(page, client.headers["authorization"].removeprefix("Bearer "))
        yield page


def test_an_admin_makes_and_changes_people_and_keys_on_a_page(client: httpx.Client, chief: httpx.Client) -> None:
    token = token_of(chief.get("/ui/people").text)
    made = {"token": token, "name": "anna", "role": "viewer", "password": WORDS}
    assert chief.post("/ui/people", data=made).headers["location"] == "/ui/people"
    again = chief.post("/ui/people", data=made)
    assert again.status_code == 409 and "There is a user anna already" in again.text
    weak = chief.post("/ui/people", data={**made, "name": "bob", "password": "passwordpassword"})
    assert weak.status_code == 422 and "first guesses" in weak.text and "passwordpassword" not in weak.text
    assert chief.post("/ui/people/anna/role", data={"token": token, "role": "operator"}).status_code == 303
    assert chief.post("/ui/people/anna/role", data={"token": token, "role": "god"}).status_code == 422
    assert chief.post("/ui/people/anna/password", data={"token": token, "password": WORDS + "!"}).status_code == 303
    assert chief.post("/ui/people/anna/disable", data={"token": token}).status_code == 303
    page = chief.get("/ui/people").text
    assert "disabled" in page and "Enable" in page
    assert chief.post("/ui/people/anna/enable", data={"token": token}).status_code == 303
    for path in ("anna/explode", "nobody/disable"):
        assert chief.post(f"/ui/people/{path}", data={"token": token}).status_code == 404
    (person,) = client.get("/api/v1/users").json()["items"]
    assert person["role"] == "operator" and person["disabled_ms"] is None
    key = chief.post("/ui/keys", data={"token": token, "name": "robot", "role": "viewer"})
    text = key.text.partition('<code class="once">')[2].partition("<")[0]
    headers = {"authorization": f"Bearer {text}"}
    assert client.get("/api/v1/whoami", headers=headers).json()["name"] == "robot"
    assert text not in chief.get("/ui/people").text
    assert chief.post("/ui/keys", data={"token": token, "name": "", "role": "viewer"}).status_code == 422
    assert chief.post(f"/ui/keys/{text.split('_')[1]}/revoke", data={"token": token}).status_code == 303
    assert client.get("/api/v1/whoami", headers=headers).status_code == 401
    first = next(each["id"] for each in client.get("/api/v1/keys").json()["items"] if each["role"] == "admin")
    last = chief.post(f"/ui/keys/{first}/revoke", data={"token": token})
    assert last.status_code == 409 and "only admin key" in last.text


@pytest.mark.browser
def test_a_person_signs_in_by_keyboard_and_nothing_scrolls_sideways(
    client: httpx.Client, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    body = {"name": "anna", "role": "admin", "password": WORDS}
    client.post("/api/v1/users", json=body)
    with chromium(tmp_path / "profile") as browser:
        browser.look(390, 844)
        browser.go(f"{client.base_url}/ui/devices")
        browser.shoot(tmp_path / "sign-in.png")
        assert browser.run("document.documentElement.scrollWidth") <= 390
        _focus(browser, "name")
        browser.type("anna")
        browser.press("Tab", 9)
        browser.type(WORDS)
        browser.run("window.__old = true")
        browser.press("Enter", 13, "\r")
        browser.arrived()
        assert browser.run("location.pathname") == "/ui/devices"
        for path in ("/ui/account", "/ui/people"):
            browser.go(f"{client.base_url}{path}")
            browser.shoot(tmp_path / f"{path.rpartition('/')[2]}.png", whole=True)
            assert browser.run("document.documentElement.scrollWidth") <= 390, path
        assert browser.run("[...document.querySelectorAll('input:not([type=hidden]),select')].every("
                           "each => each.labels.length || each.ariaLabel || each.ariaHidden)")  # fmt: skip
        assert browser.console == []


def _focus(browser: Browser, wanted: str) -> None:
    for _ in range(12):
        browser.press("Tab", 9)
        if browser.run("document.activeElement.id") == wanted:
            return
    raise AssertionError(f"the keyboard does not reach {wanted}")


@pytest.mark.browser
def test_the_way_back_from_another_site_ends_on_a_page_and_not_at_the_sign_in(
    config: FleetConfig, tmp_path: Path
) -> None:
    """`localhost` and `127.0.0.1` are two sites: a strict cookie is not sent on a redirect from one to the other."""
    with provider() as other:
        other.url = other.url.replace("127.0.0.1", "localhost")
        config = dataclasses.replace(
            config, oidc_issuer=other.url, oidc_client_id=CLIENT, oidc_roles=ROLES, public_url="http://127.0.0.1:8707"
        )
        clock = Clock()
        app = create_app(config, clock, random.Random(1).randbytes, with_broker=False)
        with admin(app) as client, chromium(tmp_path / "profile") as browser:
            now = int(clock())
            other.claims = {"iss": other.url, "aud": CLIENT, "sub": "s", "iat": now, "exp": now + 300}
            other.claims |= {"preferred_username": "anna", "groups": ["ops"]}
            other.back = f"{client.base_url}/ui/sign-in/oidc/callback"
            browser.go(f"{client.base_url}/ui/devices?q=x")
            browser.run("window.__old = true; document.querySelector('a.button.main').click()")
            browser.wait("location.pathname === '/ui/devices' && document.readyState === 'complete'")
            assert browser.run("location.search") == "?q=x"
            assert "anna" in browser.run("document.querySelector('.who').textContent")
            browser.go(f"{client.base_url}/ui/account")
            assert "vouched for by http://localhost" in browser.run("document.body.innerText")

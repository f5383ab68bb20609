"""Sign-in by OpenID Connect, with a provider of another house and with one that the test holds in its hand."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fleet.access.oidc_world import BACK, ROLES, World, refused
from tests.fleet.access.providers import CLIENT
from tests.fleet.conftest import admin

from skerry_fleet import users
from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.dashboard.session import COOKIE
from skerry_fleet.errors import InputError
from skerry_fleet.oidc_people import roles, settings
from skerry_fleet.oidc_words import safe_address


def test_a_person_is_made_at_the_first_sign_in_and_has_the_role_of_the_day(world: World) -> None:
    with world.browser() as page, world.browser() as second:
        assert "Sign in with 127.0.0.1" in page.get("/ui/sign-in").text
        answer = world.sign_in(page)
        assert answer.status_code == 200 and 'content="0;url=/ui/devices"' in answer.text
        (cookie,) = (each for each in answer.headers.get_list("set-cookie") if each.startswith(COOKIE))
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert "operator" in page.get("/ui/account").text
        (form,) = world.provider.forms
        assert form["redirect_uri"] == BACK and form["grant_type"] == "authorization_code"
        (person,) = world.client.get("/api/v1/users").json()["items"]
        assert (person["name"], person["role"], person["has_password"]) == ("anna", "operator", False)
        assert (person["issuer"], person["subject"]) == (world.provider.url, "s-1")
        world.provider.claims = world.claims(groups="bosses", preferred_username="anna-new")
        assert world.sign_in(second).status_code == 200
        assert page.get("/ui/").status_code == 303, "the old role's session has ended"
        assert "admin" in second.get("/ui/account").text
        assert [each["name"] for each in world.client.get("/api/v1/users").json()["items"]] == ["anna"]
        world.provider.claims = world.claims(groups=["cooks"])
        page.cookies.clear()
        refused(world.sign_in(page), page, "None of your groups")
        assert second.get("/ui/").status_code == 303, "and what they had open has ended"
        actions = [each["action"] for each in world.client.get("/api/v1/audit").json()["items"]]
        assert actions.count("user.create") == 1 and "user.change" in actions


def test_people_of_a_provider_have_no_password_and_their_role_is_not_ours(world: World) -> None:
    with world.browser() as page:
        world.sign_in(page)
        patch = world.client.patch
        assert patch("/api/v1/users/anna", json={"role": "admin"}).status_code == 409
        assert patch("/api/v1/users/anna", json={"password": "a tide of many words"}).status_code == 409
        assert "Present password" not in page.get("/ui/account").text
        assert patch("/api/v1/users/anna", json={"disabled": True}).status_code == 200
        assert page.get("/ui/").status_code == 303
        page.cookies.clear()
        refused(world.sign_in(page), page, "This account is disabled")


def test_a_name_never_opens_anothers_account(world: World) -> None:
    body = {"name": "anna", "role": "admin", "password": "a tide of many words"}
    assert world.client.post("/api/v1/users", json=body).status_code == 201
    with world.browser() as page:
        refused(world.sign_in(page), page, "another&#39;s here")
        for name in (None, 5, "", "../x", "a b"):
            world.provider.claims = world.claims(preferred_username=name)
            refused(world.sign_in(page), page, "no name for you")
    assert len(world.client.get("/api/v1/users").json()["items"]) == 1


def test_what_was_not_begun_in_this_browser_is_refused(world: World) -> None:
    with world.browser() as page, world.browser() as other:
        state = world.provider.seen(page.get("/ui/sign-in/oidc").headers["location"])
        back = {"code": "good", "state": state}
        refused(other.get("/ui/sign-in/oidc/callback", params=back), other, "not begun in this browser")
        for params in ({}, {"code": "good"}, {**back, "state": state[:-1] + "x"}, {**back, "state": "é"}):
            page.get("/ui/sign-in/oidc")
            refused(page.get("/ui/sign-in/oidc/callback", params=params), page)
        for answer in ({"code": "stolen"}, {"error": "access_denied"}, {"iss": "https://evil.example"}):
            refused(world.sign_in(page, **answer), page)
        assert "<script>" not in world.sign_in(page, error="<script>alert(1)</script>").text
        world.provider.seen(page.get("/ui/sign-in/oidc").headers["location"])
        cookie = page.cookies["skerry_oidc"]
        page.cookies.set("skerry_oidc", "A" + cookie[1:], path="/ui/sign-in")
        refused(page.get("/ui/sign-in/oidc/callback", params=back), page)
        page.cookies.clear()
        state = world.provider.seen(page.get("/ui/sign-in/oidc").headers["location"])
        world.clock.now += 601
        refused(page.get("/ui/sign-in/oidc/callback", params={"code": "good", "state": state}), page, "too long")
        assert "keys" not in " ".join(world.provider.asked), "nothing of it got as far as a token"


def test_settings_that_cannot_work_are_told_at_the_start(config: FleetConfig, tmp_path: Path) -> None:
    good = dataclasses.replace(
        config,
        oidc_issuer="https://id.example",
        oidc_client_id="x",
        oidc_roles="*=viewer",
        public_url="https://f.example",
    )
    assert settings(good) is not None and settings(config) is None
    bad: tuple[dict[str, Any], ...] = (
        {"oidc_issuer": "http://id.example"},
        {"oidc_issuer": "https://id.example?x=1"},
        {"public_url": ""},
        {"public_url": "http://f.example"},
        {"oidc_client_id": ""},
        {"oidc_roles": ""},
        {"oidc_roles": "ops"},
        {"oidc_roles": "ops=god"},
        {"oidc_secret_file": str(tmp_path / "none")},
    )
    for wrong in bad:
        with pytest.raises(InputError):
            create_app(dataclasses.replace(good, **wrong), time.time, random.randbytes, with_broker=False)
    assert roles("a=b=admin, *=viewer") == [("a=b", "admin"), ("*", "viewer")]
    for address in (
        "https://u:p@x",
        "https://",
        "https://x#y",
        "http://localhost.evil.example",
        "http://[::1",
        "ftp://x",
    ):
        assert not safe_address(address), address
    assert safe_address("http://[::1]:8/x") and safe_address("http://localhost:8")


def test_without_a_provider_there_is_no_such_page(client: httpx.Client) -> None:
    for path in ("/ui/sign-in/oidc", "/ui/sign-in/oidc/callback?code=x&state=y"):
        assert client.get(path).status_code == 404


def test_with_a_provider_of_another_house(config: FleetConfig, tmp_path: Path) -> None:
    """`oidc-provider-mock` is built on Authlib: another implementation, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = json.dumps({"sub": "s-42", "preferred_username": "bella", "groups": ["bosses"]})
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--user-claims", user]
    with (tmp_path / "provider.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        issuer = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "provider.log").read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{issuer}/.well-known/openid-configuration", trust_env=False).status_code == 200:
                    break
            time.sleep(0.1)
        (tmp_path / "secret").write_text("be quiet: & ä\n")
        wanted: dict[str, Any] = {"oidc_issuer": issuer, "oidc_client_id": CLIENT, "oidc_roles": ROLES}
        wanted["oidc_secret_file"] = str(tmp_path / "secret")
        config = dataclasses.replace(config, public_url="http://127.0.0.1:8707", **wanted)
        app = create_app(config, time.time, random.Random(1).randbytes, with_broker=False)
        with admin(app) as client, httpx.Client(base_url=client.base_url, trust_env=False) as page:
            there = page.get("/ui/sign-in/oidc").headers["location"]
            with httpx.Client(trust_env=False) as other:
                form = other.get(there)
                assert form.status_code == 200 and re.search("s-42|bella", form.text)
                sent = other.post(there, data={"sub": "s-42"})
            back = httpx.URL(sent.headers["location"])
            assert str(back).startswith(BACK)
            arrived = page.get(back.raw_path.decode())
            assert arrived.status_code == 200, arrived.text
            assert page.get("/ui/").status_code == 200
            with app.state.fleet.database.read() as session:
                person = users.get(session, "default", "bella")
            assert (person.role, person.subject, person.issuer) == ("admin", "s-42", issuer)
            assert page.get(back.raw_path.decode()).status_code == 401, "a code is good once"
    finally:
        process.terminate()
        process.wait()

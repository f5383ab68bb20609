"""People: made, changed, shut out; signing in with a password, and how guessing goes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from tests.fleet.conftest import Clock
from tests.fleet.dashboard.conftest import token_of

from skerry_fleet import passwords, signin, users
from skerry_fleet.dashboard.session import COOKIE
from skerry_fleet.user_tables import User

WORDS, OTHERS = "a tide of many words", "another lamp for the harbour"


def make(client: httpx.Client, name: str = "anna", role: str = "operator", **more: str) -> dict[str, Any]:
    answer = client.post("/api/v1/users", json={"name": name, "role": role, "password": WORDS, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


@contextlib.contextmanager
def browser(client: httpx.Client) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=client.base_url, trust_env=False) as found:
        yield found


def enter(page: httpx.Client, name: str = "anna", password: str = WORDS) -> httpx.Response:
    token = token_of(page.get("/ui/sign-in").text)
    return page.post("/ui/sign-in", data={"name": name, "password": password, "token": token})


def inside(page: httpx.Client) -> bool:
    return page.get("/ui/").status_code == 200


def row(app: FastAPI, name: str = "anna") -> User:
    with app.state.fleet.database.read() as session:
        return users.get(session, "default", name)


def test_a_person_signs_in_and_acts_in_their_own_name(app: FastAPI, client: httpx.Client) -> None:
    assert "Password" not in client.get("/ui/sign-in").text, "nobody has one yet"
    made = make(client)
    assert "password" not in made and made["has_password"] and made["role"] == "operator"
    assert WORDS not in row(app).password
    with browser(client) as page:
        assert enter(page, " Anna ").status_code == 303
        assert "operator" in page.get("/ui/account").text
        token = token_of(page.get("/ui/").text)
        muted = page.post("/ui/mutes", data={"token": token, "kind": "drift", "hours": "1"})
        assert muted.status_code == 303
        assert page.get("/api/v1/devices").status_code == 401, "a cookie is no key of the API"
    (mute,) = client.get("/api/v1/mutes").json()["items"]
    assert mute["created_by"] == "user:anna"
    told = client.get("/api/v1/audit").json()["items"]
    assert [(each["actor"], each["action"]) for each in told][:3] == [
        ("user:anna", "mute.create"),
        ("user:anna", "session.begin"),
        (told[2]["actor"], "user.create"),
    ]
    assert WORDS not in client.get("/api/v1/audit").text and "argon2" not in client.get("/api/v1/audit").text
    assert client.get("/api/v1/users").json()["items"][0]["seen_ms"] is not None
    assert "argon2" not in client.get("/api/v1/users").text


@pytest.mark.parametrize(
    "change", [{"disabled": True}, {"role": "viewer"}, {"password": OTHERS}, None], ids=lambda each: str(each)
)
def test_whatever_changes_about_a_person_ends_their_sessions_at_once(client: httpx.Client, change: Any) -> None:
    make(client)
    with browser(client) as page, browser(client) as second:
        assert enter(page).status_code == 303 and enter(second).status_code == 303
        if change is None:
            client.post("/api/v1/users/anna/sign-out")
        else:
            assert client.patch("/api/v1/users/anna", json=change).status_code == 200
        assert not inside(page) and not inside(second)
        assert enter(page).status_code == (303 if change in (None, {"role": "viewer"}) else 401)
        if change == {"disabled": True}:
            client.patch("/api/v1/users/anna", json={"disabled": False})
            assert not inside(second), "an old session does not come back"
            assert enter(page).status_code == 303


def test_signing_out_everywhere_and_another_password_of_ones_own(client: httpx.Client) -> None:
    make(client)
    with browser(client) as page, browser(client) as second:
        enter(page), enter(second)
        forged = {"old": WORDS, "new": OTHERS, "again": OTHERS, "token": "0" * 64}
        assert page.post("/ui/account/password", data=forged).status_code == 403
        form = {**forged, "token": token_of(page.get("/ui/account").text)}
        assert page.post("/ui/account/password", data={**form, "old": OTHERS}).status_code == 403
        assert page.post("/ui/account/password", data={**form, "again": WORDS}).status_code == 422
        for bad in ("short", "passwordpassword"):
            assert page.post("/ui/account/password", data={**form, "new": bad, "again": bad}).status_code == 422
        assert inside(second)
        assert page.post("/ui/account/password", data=form).headers["location"] == "/ui/account"
        assert inside(page) and not inside(second)
        assert enter(second).status_code == 401 and enter(second, password=OTHERS).status_code == 303
        token = token_of(page.get("/ui/account").text)
        assert page.post("/ui/account/sign-out", data={"token": token}).headers["location"] == "/ui/sign-in"
        assert not inside(second) and COOKIE not in page.cookies


def test_a_key_signs_out_everywhere_too(client: httpx.Client) -> None:
    key = client.post("/api/v1/keys", json={"name": "eyes", "role": "viewer"}).json()["key"]
    with browser(client) as page, browser(client) as second:
        for each in (page, second):
            token = token_of(each.get("/ui/sign-in").text)
            assert each.post("/ui/sign-in", data={"key": key, "token": token}).status_code == 303
        token = token_of(page.get("/ui/account").text)
        assert page.post("/ui/account/password", data={"token": token}).status_code == 403
        page.post("/ui/account/sign-out", data={"token": token})
        assert not inside(second)
    assert client.get("/api/v1/whoami", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_nothing_tells_a_wrong_name_from_a_wrong_password_or_a_disabled_account(
    app: FastAPI, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(client)
    make(client, "dora")
    client.patch("/api/v1/users/dora", json={"disabled": True})
    work = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, kept: Any, password: Any) -> Any:
        work.append(kept.split("$")[1:4])
        return verify(self, kept, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    said = set()
    with browser(client) as page:
        for name, password in (("anna", OTHERS), ("nobody", WORDS), ("dora", WORDS), ("dora", OTHERS), ("\0", "")):
            answer = enter(page, name, password)
            problem = answer.text.partition('role="alert">')[2].partition("</p>")[0]
            said.add((answer.status_code, problem))
    assert len(said) == 1 and said.pop()[0] == 401
    assert len(work) == 5 and all(each == work[0] for each in work), "each costs one hash of the same parameters"


def test_guessing_is_slowed_by_account_and_by_address_for_names_that_are_not_there_too(
    client: httpx.Client, clock: Clock
) -> None:
    make(client)
    with browser(client) as page:
        for name in ("anna", "nobody"):
            answers = [enter(page, name, OTHERS).status_code for _ in range(signin.ACCOUNT_TRIES + 2)]
            assert answers == [401] * signin.ACCOUNT_TRIES + [429, 429], name
        assert enter(page).status_code == 429, "the right password, too: else a guesser would learn it"
        clock.now += signin.ACCOUNT_AGAIN_S
        assert enter(page).status_code == 303
        clock.now += 3600
        for _ in range(2 * signin.ACCOUNT_TRIES):
            assert enter(page).status_code == 303, "who knows the password never waits"
        tried = [enter(page, f"guess-{number}", OTHERS).status_code for number in range(signin.ADDRESS_TRIES + 1)]
        assert tried == [401] * signin.ADDRESS_TRIES + [429]


def test_the_last_admins_key_stays_though_there_are_people(client: httpx.Client) -> None:
    """People have no way to the API: without a key nobody could ever make another."""
    make(client, "root-of-all", "admin")
    (first,) = (each["id"] for each in client.get("/api/v1/keys").json()["items"])
    assert client.delete(f"/api/v1/keys/{first}").status_code == 409
    assert client.get("/api/v1/whoami").status_code == 200
    client.post("/api/v1/keys", json={"name": "second", "role": "admin"})
    for change in ({"role": "viewer"}, {"disabled": True}):
        assert client.patch("/api/v1/users/root-of-all", json=change).status_code == 200
    assert client.delete(f"/api/v1/keys/{first}").status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "anna"}, 409),
        ({"name": "Anna"}, 422),
        ({"name": ""}, 422),
        ({"name": "../x"}, 422),
        ({"name": "a" * 101}, 422),
        ({"role": "god"}, 422),
        ({"password": "short"}, 422),
        ({"password": "passwordpassword"}, 422),
        ({"password": 5}, 422),
    ],
)
def test_bad_people_are_refused(client: httpx.Client, body: dict[str, Any], status: int) -> None:
    make(client)
    before = client.get("/api/v1/audit").json()
    answer = client.post("/api/v1/users", json={"name": "new", "role": "viewer", "password": WORDS, **body})
    assert answer.status_code == status and WORDS not in answer.text
    patch = {key: value for key, value in body.items() if key != "name"}
    if patch:
        assert client.patch("/api/v1/users/anna", json=patch).status_code == status
    assert client.patch("/api/v1/users/none", json={"role": "viewer"}).status_code == 404
    assert client.get("/api/v1/audit").json() == before


def test_a_password_with_old_parameters_is_kept_anew_at_the_next_sign_in(app: FastAPI, client: httpx.Client) -> None:
    make(client)
    with app.state.fleet.database.write() as session:
        person = users.get(session, "default", "anna")
        person.password = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(passwords.prepared(WORDS))
        session.add(person)
    with browser(client) as page:
        assert enter(page).status_code == 303
        kept = row(app).password
        assert not passwords.outdated(kept) and inside(page)
        assert enter(page).status_code == 303 and row(app).password == kept

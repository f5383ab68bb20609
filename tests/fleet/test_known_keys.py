"""A key that is remembered is forgotten the moment it is revoked, whatever was looked up meanwhile."""

from __future__ import annotations

import httpx
import pytest
from sqlmodel import Session
from tests.fleet.conftest import ACTOR, Bench

from skerry_fleet import apikeys
from skerry_fleet.apikeys import Caller
from skerry_fleet.errors import AuthError


def made(bench: Bench) -> tuple[str, str]:
    with bench.fleet.database.write() as session:
        row, text = apikeys.create(session, ACTOR, 0.0, bench.fleet.random, "program", "viewer")
    return row.id, text


def revoke(bench: Bench, key: str) -> None:
    with bench.fleet.database.write() as session:
        apikeys.revoke(session, ACTOR, 0.0, key)


def test_a_key_is_remembered_until_any_key_changes(bench: Bench) -> None:
    keys = bench.fleet.keys
    (_, text), (other, _) = made(bench), made(bench)
    assert keys.recall(text) is None
    assert keys.authenticate(text) == keys.recall(text) != None  # noqa: E711
    revoke(bench, other)
    assert keys.recall(text) is None
    with pytest.raises(AuthError):
        keys.authenticate(f"{text}0")
    assert keys.recall(f"{text}0") is None  # what is refused is asked every time


def test_what_was_read_before_a_revocation_is_not_remembered_after_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, text = made(bench)
    plain = apikeys.authenticate

    def overtaken(session: Session, shown: str) -> Caller:
        found = plain(session, shown)
        revoke(bench, key)
        return found

    monkeypatch.setattr(apikeys, "authenticate", overtaken)
    bench.fleet.keys.authenticate(text)
    assert bench.fleet.keys.recall(text) is None


def test_a_revoked_key_is_refused_at_its_next_request(client: httpx.Client) -> None:
    made = client.post("/api/v1/keys", json={"name": "program", "role": "viewer"}).json()
    headers = {"authorization": f"Bearer {made['key']}"}
    assert [client.get("/api/v1/whoami", headers=headers).status_code for _ in range(2)] == [200, 200]
    client.delete(f"/api/v1/keys/{made['id']}")
    assert client.get("/api/v1/whoami", headers=headers).status_code == 401

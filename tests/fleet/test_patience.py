"""Clients that wait when told to, ask again when nothing was heard, and make nothing twice thereby."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from tests.fleet.conftest import Clock, make_bundle, serving
from tests.fleet.relay import Relay, relay

from skerry_fleet import cli, patience
from skerry_fleet.app import create_app
from skerry_fleet.client import FleetClient
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import FleetError


@pytest.fixture
def way(app: FastAPI) -> Iterator[Relay]:
    with serving(app) as url, relay(url) as found:
        yield found


def key(app: FastAPI) -> str:
    return str((app.state.fleet.config.root / "admin.key").read_text().strip())


def listed(app: FastAPI, way: Relay, what: str) -> int:
    with httpx.Client(base_url=way.url, headers={"authorization": f"Bearer {key(app)}"}, trust_env=False) as client:
        return len(client.get(f"/api/v1/{what}").json()["items"])


def run(app: FastAPI, url: str, *words: str) -> int:
    return cli.main([*words, "--root", str(app.state.fleet.config.root), "--url", url])


def test_a_lost_answer_is_asked_for_again_and_nothing_is_made_twice(
    app: FastAPI, way: Relay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(app, way.url, "model", "register", "digits")
    (tmp_path / "b.skerry").write_bytes(make_bundle())
    capsys.readouterr()
    for words in (
        ("claim", "create", "--uses", "3"),
        ("key", "create", "robot"),
        ("group", "create", "lab"),
        ("bundle", "upload", str(tmp_path / "b.skerry")),
        ("device", "list"),
    ):
        way.lose = 2
        assert run(app, way.url, *words) == 0, words
        said = capsys.readouterr()
        assert said.out and said.err.count("the connection to the fleet was lost; asking again") == 2, words
    assert way.lost == 10 and [listed(app, way, each) for each in ("claims", "keys", "groups")] == [1, 2, 1]


def test_orders_are_not_given_twice_and_an_end_comes(
    app: FastAPI, way: Relay, capsys: pytest.CaptureFixture[str]
) -> None:
    run(app, way.url, "group", "create", "lab")
    capsys.readouterr()
    way.lose = 1
    assert run(app, way.url, "key", "revoke", "none") == 1
    assert "no fleet at" in capsys.readouterr().err and way.lost == 1, "who knows whether it was carried out"
    way.lose = 100
    assert run(app, way.url, "group", "list") == 1
    assert way.lost == 1 + patience.TRIES


def test_a_busy_fleet_is_waited_for_as_it_says_and_not_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = FleetConfig(root=tmp_path / "fleet", key_per_s=0.5, key_burst=1)
    app = create_app(config, Clock(), random.Random(1).randbytes, with_broker=False)
    with serving(app) as url:
        said, number = "", 0
        while "the fleet is busy (status 429); asking again in" not in said:
            assert run(app, url, "group", "create", f"g{number}") == 0
            said, number = capsys.readouterr().err, number + 1
    config = FleetConfig(root=tmp_path / "slow", key_per_s=0.001, key_burst=1)
    app = create_app(config, Clock(), random.Random(1).randbytes, with_broker=False)
    with serving(app) as url:
        client = FleetClient(url, key(app))
        client.call("GET", "/api/v1/whoami")
        with pytest.raises(FleetError, match="too many requests") as refused:
            client.call("GET", "/api/v1/whoami")
        assert refused.value.status == 429
        client.close()


@pytest.mark.parametrize(
    ("said", "status", "seconds"),
    [("3", 429, 3.0), ("0", 503, 0.0), ("3", 200, None), ("", 429, None), ("-1", 429, None), ("soon", 503, None)],
)
def test_retry_after_is_a_whole_number_of_a_busy_answer(said: str, status: int, seconds: float | None) -> None:
    assert patience.asked_to_wait_s(httpx.Response(status, headers={"retry-after": said})) == seconds


def test_waiting_is_bounded_by_all_pauses_together() -> None:
    slept: list[float] = []
    busy = httpx.Response(503, headers={"retry-after": "50"})
    answer = patience.patiently("POST", "/api/v1/x/order", lambda: busy, say=lambda _: None, sleep=slept.append)
    assert answer is busy and len(slept) == 2 and sum(slept) <= patience.WAIT_S

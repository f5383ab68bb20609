"""Rate limits: buckets that never give more than they hold, and what clients over them are told."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_fleet import limits
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import InputError
from skerry_fleet.limits import Buckets


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from("ab")), max_size=80), st.floats(0.5, 20), st.integers(1, 9))
def test_nobody_gets_more_than_the_rate_and_the_burst(asked: list[tuple[float, str]], rate: float, burst: int) -> None:
    now, got = 0.0, {"a": 0, "b": 0}
    buckets = Buckets(rate, burst, lambda: now)
    for pause_s, name in asked:
        now += pause_s
        wait_s = buckets.take(name)
        got[name] += not wait_s
        assert got[name] <= burst + rate * now + 1e-6
        if wait_s:
            before, now = now, now + wait_s + 1e-9
            assert not buckets.take(name), "after the wait that was told there is a token"
            got[name] += 1
            now = max(now, before)


def test_buckets_are_bounded_and_charges_end_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 3)
    now = 0.0
    buckets = Buckets(1.0, 2, lambda: now)
    for number in range(10):
        assert not buckets.take(f"n{number}")
    assert len(buckets._found) == 3
    for _ in range(100):
        buckets.charge("n9", 50)
    now = 3.0
    assert not buckets.take("n9"), "two below nothing, and three seconds"
    off = Buckets(0.0, 1, lambda: now)
    off.charge("x", 50)
    assert [off.take("x") for _ in range(50)] == [0.0] * 50


class TestOverHttp:
    @pytest.fixture
    def config(self, tmp_path: Path, database_url: str) -> FleetConfig:
        return FleetConfig(
            tmp_path / "fleet",
            broker="embedded",
            database_url=database_url,
            key_per_s=0.001,
            key_burst=5,
            address_per_s=0.001,
            address_burst=60,
        )

    def test_a_key_over_its_limit_waits_and_others_go_on(self, client: httpx.Client) -> None:
        other = client.post("/api/v1/keys", json={"name": "x", "role": "viewer"}).json()["key"]
        statuses = [client.get("/api/v1/whoami").status_code for _ in range(6)]
        assert statuses == [200] * 4 + [429] * 2
        refused = client.post("/api/v1/groups", json={"name": "lab"})
        assert refused.json()["error"]["code"] == "too-many-requests"
        assert 0 < int(refused.headers["retry-after"]) <= 1000
        assert client.get("/healthz").status_code == 200
        answer = client.get("/api/v1/groups", headers={"authorization": f"Bearer {other}"})
        assert answer.json()["items"] == [], "what was refused did nothing"
        metrics = client.get("/metrics", headers={"authorization": f"Bearer {other}"}).text
        assert 'skerry_http_limited_total{by="key"} 3.0' in metrics

    def test_guessing_keys_ends_soon_for_an_address(self, client: httpx.Client) -> None:
        guesses = [
            client.get("/api/v1/whoami", headers={"authorization": f"Bearer sk1_0_{number}"}) for number in range(9)
        ]
        assert [each.status_code for each in guesses] == [401] * 6 + [429] * 3
        assert client.get("/api/v1/whoami").status_code == 429, "the right key as well: nothing is learnt by asking"


@pytest.mark.parametrize("wrong", [{"key_per_s": -1.0}, {"address_per_s": -0.1}, {"key_burst": 0}])
def test_limits_that_are_none_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        FleetConfig(tmp_path, **wrong)  # type: ignore[arg-type]  # one name each


def test_without_limits_nothing_is_refused(app: FastAPI, tmp_path: Path) -> None:
    off = limits.Limits(FleetConfig(tmp_path, key_per_s=0.0, address_per_s=0.0))
    assert all(off.wait_s("/api/v1/devices", "::1", b"Bearer x") == ("", 0.0) for _ in range(20_000))
    app.state.fleet.close()

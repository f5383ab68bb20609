"""Small parts: settings, pages, regressions, events, claims, presence, alerts."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import threading
from pathlib import Path

import pytest
from sqlmodel import select
from tests.fleet.conftest import ACTOR, Bench

from skerry_contracts.device import ModelHealth, ModelState
from skerry_contracts.errors import MismatchError
from skerry_fleet import alerts, apikeys, claims, config, paging
from skerry_fleet.alerts import Kind
from skerry_fleet.config import FleetConfig
from skerry_fleet.database import Event
from skerry_fleet.errors import AuthError, ConflictError, FleetError, InputError, UnavailableError
from skerry_fleet.events import QUEUE, Hub
from skerry_fleet.fleet import open_fleet
from skerry_fleet.records import Alert
from skerry_fleet.regression import Limits, Tally, judge
from skerry_fleet.tables import Claim, DeviceState

HEALTH = ModelHealth("digits", "1", "b" * 64, "v", ModelState.SERVING, 100, 0, 0, 1.0, 2.0, 1, 0.9)


def test_settings_come_from_file_environment_and_flags_in_that_order(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('port = 1\nhost = "a"\ntick_s = 2\n')
    found = config.load(
        tmp_path, {"port": 3, "broker": None}, {"SKERRY_FLEET_HOST": "b", "SKERRY_FLEET_KEY": "x", "HOME": "/"}
    )
    assert (found.port, found.host, found.tick_s, found.broker) == (3, "b", 2.0, "auto")


@pytest.mark.parametrize(
    ("toml", "environment", "text"),
    [
        ("prt = 1", {}, "unknown setting 'prt'"),
        ("port = 'x'", {}, "must be a number"),
        ("port = 1.5", {}, "whole number"),
        ("port = 70000", {}, "0 to 65535"),
        ("host = 1", {}, "must be text"),
        ("x", {}, "not TOML"),
        ("broker = 'nats'", {}, "none of"),
        ("", {"SKERRY_FLEET_TICK_S": "0"}, "greater than 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, toml: str, environment: dict[str, str], text: str) -> None:
    (tmp_path / "fleet.toml").write_text(toml)
    with pytest.raises(InputError, match=text):
        config.load(tmp_path, {}, environment)


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "1e3", "x", "", "9" * 30, "٣"])
def test_limits_of_pages(limit: str) -> None:
    with pytest.raises(InputError):
        paging.page(None, limit)


@pytest.mark.parametrize(
    ("limits", "change", "worse"),
    [
        (Limits(), {"errors": 5}, None),
        (Limits(), {"errors": 20}, "16.7% of predictions fail"),
        (Limits(), {"predictions": 5, "errors": 5}, None),
        (Limits(error_rate=None), {"errors": 500}, None),
        (Limits(latency_factor=1.5), {"latency_p95_ms": 3.1}, "p95 latency 3.1 ms, 2 ms before"),
        (Limits(latency_factor=1.5), {"latency_p95_ms": 2.9}, None),
        (Limits(confidence_drop=0.2), {"mean_confidence": 0.65}, "mean confidence 0.650, 0.900 before"),
        (Limits(confidence_drop=0.2), {"mean_confidence": 0.75}, None),
        (Limits(confidence_drop=0.2), {"mean_confidence": None}, None),
        (Limits(), {"errors": 500, "state": ModelState.STOPPED}, None),
    ],
)
def test_what_counts_as_worse(limits: Limits, change: dict[str, object], worse: str | None) -> None:
    found = judge(limits, HEALTH, Tally(), dataclasses.replace(HEALTH, **change))  # type: ignore[arg-type]
    assert found == worse or (worse is not None and found is not None and found.startswith(worse))
    without = judge(limits, None, Tally(), dataclasses.replace(HEALTH, **change))  # type: ignore[arg-type]
    assert without is None or "predictions" in without


def test_small_heartbeats_add_up() -> None:
    tally, bad = Tally(), dataclasses.replace(HEALTH, predictions=4, errors=2)
    told = [judge(Limits(), HEALTH, tally, bad) for _ in range(4)]
    assert told[:3] == [None] * 3 and told[3] is not None


@pytest.mark.parametrize("wrong", [{"error_rate": 2.0}, {"latency_factor": 0.5}, {"least_predictions": 0}])
def test_limits_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(MismatchError):
        Limits(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_the_last_use_of_a_claim_goes_to_one(bench: Bench) -> None:
    """Many at once: exactly as many get in as the claim has uses."""
    with bench.fleet.database.write() as session:
        made = claims.create(session, ACTOR, bench.clock(), bench.fleet.random, "0" * 64, uses=3)
    outcomes: list[str] = []

    def redeem() -> None:
        try:
            with bench.fleet.database.write() as session:
                row = session.get(Claim, ("default", made["id"]))
                assert row is not None
                claims.redeem(session, row, bench.clock())
            outcomes.append("in")
        except ConflictError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=redeem) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in"] * 3 + ["this claim token is used up"] * 7


def test_claims_expire_and_can_be_revoked(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        made = claims.create(session, ACTOR, bench.clock(), bench.fleet.random, "0" * 64, uses=9, expires_s=10.0)
        row = claims.find(session, "default", made["id"], made["token"].split(".")[2])
        bench.clock.now += 11
        with pytest.raises(ConflictError, match="expired"):
            claims.redeem(session, row, bench.clock())
        bench.clock.now -= 11
        claims.redeem(session, row, bench.clock())
        claims.revoke(session, ACTOR, bench.clock(), made["id"])
        session.flush()
        with pytest.raises(ConflictError, match="revoked"):
            claims.redeem(session, row, bench.clock())
        with pytest.raises(AuthError):
            claims.find(session, "default", made["id"], "x" * 43)
        assert made["token"].split(".")[2] not in str(row)


def test_only_hashes_of_keys_are_kept(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        row, text = apikeys.create(session, ACTOR, 0.0, bench.fleet.random, "x", "viewer")
        assert text.split("_")[2] not in row.model_dump_json()
        session.flush()
        assert apikeys.authenticate(session, text).name == "x"
        for wrong in ("", "x", text + "0", text[:-1], text.replace("sk1", "sk2"), "sk1__", "sk1_" + "0" * 300 + "_0"):
            with pytest.raises(AuthError):
                apikeys.authenticate(session, wrong)


def test_silence_raises_one_alert_and_a_word_resolves_it(bench: Bench) -> None:
    bench.enrol("d0")
    bench.beat("d0", "")

    def states() -> list[tuple[str, int]]:
        with bench.fleet.database.read() as session:
            return [(row.state, row.count) for row in session.exec(select(Alert))]

    bench.clock.now += 100
    bench.fleet.tick()
    assert states() == []
    bench.clock.now += 100
    bench.fleet.tick()
    bench.fleet.tick()
    assert states() == [("open", 1)]
    with bench.fleet.database.read() as session:
        state = session.get(DeviceState, ("default", "d0"))
        assert state is not None and state.silent and not state.online
    bench.beat("d0", "")
    assert states() == [("resolved", 1)]
    bench.clock.now += 200
    bench.fleet.tick()
    assert states() == [("resolved", 1), ("open", 1)]


def test_alerts_are_not_repeated_until_resolved(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        first = alerts.raise_alert(session, "default", 1.0, Kind.DRIFT, "m", "a")
        again = alerts.raise_alert(session, "default", 2.0, Kind.DRIFT, "m", "b")
        assert first is again and (first.count, first.text) == (2, "b")
        assert first.id is not None
        alerts.acknowledge(session, ACTOR, 3.0, first.id, "me")
        assert alerts.raise_alert(session, "default", 4.0, Kind.DRIFT, "m", "c") is first
        assert alerts.resolve(session, "default", 5.0, Kind.DRIFT, "m")
        assert not alerts.resolve(session, "default", 5.0, Kind.DRIFT, "m")
        assert alerts.raise_alert(session, "default", 6.0, Kind.DRIFT, "m", "d") is not first


def test_two_managers_never_share_a_folder(bench: Bench) -> None:
    with pytest.raises(ConflictError, match="another fleet manager"):
        open_fleet(bench.fleet.config, bench.clock, random.Random(1).randbytes)


def test_a_folder_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError):
        open_fleet(FleetConfig(root=tmp_path / "file" / "fleet"), lambda: 0.0, random.Random(1).randbytes)
    with pytest.raises(FleetError):
        open_fleet(
            FleetConfig(root=tmp_path / "a", database_url=f"sqlite:///{tmp_path}/no/such/folder/x.db"),
            lambda: 0.0,
            random.Random(1).randbytes,
        )


def test_a_slow_reader_loses_old_events_and_is_told() -> None:
    async def story() -> list[bytes]:
        hub = Hub(asyncio.get_running_loop())
        stream = hub.stream("default", 5.0)
        assert (await anext(stream)).startswith(b":")
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        hub.publish([Event("default", "device", {"device": f"d{number}"}) for number in range(QUEUE + 3)])
        hub.publish([Event("rival", "device", {"device": "secret"}), Event("default", "assignment", {"x": 1})])
        seen = [await waiting]
        seen += [await anext(stream) for _ in range(QUEUE)]
        hub.close()
        assert [each async for each in stream] == []
        return seen

    seen = asyncio.run(story())
    assert seen[0] == b'event: lost\ndata: {"events":3}\n\n' and seen[1] == b'event: device\ndata: {"device":"d3"}\n\n'
    assert not any(b"secret" in each for each in seen)


def test_repeated_events_are_told_once_with_the_newest_word() -> None:
    async def story() -> list[bytes]:
        hub = Hub(asyncio.get_running_loop())
        stream = hub.stream("default", 5.0)
        seen = [await anext(stream)]
        for number in range(50):
            hub.publish([Event("default", "rollout", {"rollout": "r1", "confirmed": number})])
            await asyncio.sleep(0)
        seen += [await anext(stream), await anext(stream)]
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator has it
        return seen

    _, first, last = asyncio.run(story())
    assert b'"confirmed":0' in first and b'"confirmed":49' in last

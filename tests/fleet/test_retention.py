"""Retention: what is old goes once it is counted by the hour, what is needed stays, on both databases."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from sqlmodel import select
from tests.fleet.conftest import ACTOR, Bench
from tests.fleet.rolling import start

from skerry_contracts.device import Phase
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.tensor import DType, Tensor
from skerry_fleet import alerts, audit, retention, rollups
from skerry_fleet.alerts import Kind
from skerry_fleet.cli import main
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import InputError, MissingError
from skerry_fleet.records import Alert, ProgressRow, SampleRow
from skerry_fleet.rollup_tables import HealthHour, MessageHour

DATABASES = "both"
DAY_S, HOUR_MS = 86_400, 3_600_000


def sample(bench: Bench, device: str) -> None:
    tensor = Tensor("x", DType.FP32, (1,), data=b"\0\0\0\0")
    boot, seq = bench.boot_id(device), bench.next(device)
    fields = ("digits", "1", "b" * 64, "v", Kept.RANDOM, 1.0, (tensor,), (tensor,))
    bench.send(device, "sample", Sample(boot, seq, 0.0, f"{device}/{boot}/{seq}", *fields))


def run(bench: Bench, **options: Any) -> dict[str, int]:
    return dict(retention.run(bench.fleet.database, bench.fleet.config, bench.clock(), **options))


def rows(bench: Bench, kind: type[Any]) -> list[Any]:
    with bench.fleet.database.read() as session:
        return list(session.exec(select(kind)).all())


@pytest.fixture
def aged(bench: Bench) -> Bench:
    """A fleet with messages of two hours a hundred days ago, and of today."""
    bench.enrol("a", "b")
    for device in ("a", "b"):
        bench.beat(device, "")
    start(bench, bench.publish(), canary=2)
    for _ in range(2):
        bench.progress("a", Phase.DOWNLOADING)
        sample(bench, "a")
        sample(bench, "b")
        bench.clock.now += 3600
    bench.beat("a", predictions=7)
    bench.beat("b", predictions=3, mean_confidence=0.5)
    bench.clock.now += 100 * DAY_S
    sample(bench, "a")
    bench.beat("a", predictions=1)
    return bench


def test_old_rows_go_and_their_hours_stay(aged: Bench) -> None:
    sent = {"sample": len(rows(aged, SampleRow)), "progress": len(rows(aged, ProgressRow))}
    assert sent == {"sample": 5, "progress": 2}
    assert {name: count for name, count in run(aged).items() if count} == {"progress": 2, "sample": 4}
    assert len(rows(aged, SampleRow)) == 1 and rows(aged, ProgressRow) == []
    hours = rows(aged, MessageHour)
    counts: dict[str, int] = {}
    for each in hours:
        assert each.hour_ms % HOUR_MS == 0
        counts[each.channel] = counts.get(each.channel, 0) + each.messages
    assert counts == sent and {each.word for each in hours if each.channel == "progress"} == {"downloading ok"}
    before = [each.model_dump() for each in hours]
    assert not any(run(aged).values()) and [each.model_dump() for each in rows(aged, MessageHour)] == before


def test_health_is_summed_by_the_hour_and_a_repetition_counts_once(aged: Bench) -> None:
    with aged.fleet.database.read() as session:
        found = rollups.health(session, "default", "digits", 0)
        with pytest.raises(MissingError):
            rollups.health(session, "other", "digits", 0)
    assert [(each["beats"], each["predictions"]) for each in found] == [(2, 10), (1, 1)]
    assert found[0]["mean_confidence"] == 0.5 and found[1]["mean_confidence"] is None
    assert found[0]["latency_p95_ms"] == 2.0 and found[0]["latency_p50_ms"] == 1.0
    aged.seqs["a"] -= 1
    aged.beat("a", predictions=1)
    assert sum(each.beats for each in rows(aged, HealthHour)) == 3


def test_a_dry_run_counts_and_changes_nothing(aged: Bench) -> None:
    with aged.fleet.database.read() as session:
        found = {each.table: each for each in retention.look(session, aged.fleet.config, aged.clock())}
    assert (found["sample"].rows, found["sample"].old) == (5, 4)
    assert found["audit"].rows > 3 and found["audit"].old == 0
    assert len(rows(aged, SampleRow)) == 5 and rows(aged, MessageHour) == []


def test_progress_stays_until_rollouts_have_taken_it_in(aged: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run(aged)
    monkeypatch.setattr(aged.fleet.rollouts, "observe", lambda *a: None)
    aged.progress("a", Phase.COMMITTED)
    monkeypatch.undo()
    aged.clock.now += 100 * DAY_S
    assert run(aged)["progress"] == 0 and len(rows(aged, ProgressRow)) == 1
    with aged.fleet.rollouts.open() as session:
        aged.fleet.rollouts.observe(session, aged.clock(), (), ())
    assert run(aged)["progress"] == 1


def test_small_transactions_come_to_the_same(aged: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    assert run(aged, batches=2)["sample"] == 2
    assert run(aged, batches=100)["sample"] == 2 and len(rows(aged, SampleRow)) == 1
    assert sum(each.messages for each in rows(aged, MessageHour) if each.channel == "sample") == 5


def test_open_alerts_stay_and_the_audit_chain_holds(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        for subject in ("a", "b"):
            alerts.raise_alert(session, "default", bench.clock(), Kind.UPDATE_FAILED, subject, "x")
            session.flush()
        alerts.resolve(session, "default", bench.clock(), Kind.UPDATE_FAILED, "a")
    bench.clock.now += 400 * DAY_S
    bench.fleet.tick()
    assert [each.subject for each in rows(bench, Alert)] == ["b"]
    with bench.fleet.database.read() as session:
        assert audit.verify(session, ACTOR.tenant).broken_at is None


@pytest.mark.parametrize("days", [-1.0, -0.1])
def test_a_negative_time_is_refused(config: FleetConfig, days: float) -> None:
    with pytest.raises(InputError, match="must not be negative"):
        FleetConfig(root=config.root, keep_samples_days=days)


def test_the_route_asks_for_a_model_and_a_time(client: httpx.Client) -> None:
    assert client.get("/api/v1/models/nothing/health").status_code == 404
    assert client.get("/api/v1/models/nothing/health?hours=0").status_code in (400, 422)


def test_the_command_tells_and_deletes(aged: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    config = aged.fleet.config
    where = ["--root", str(config.root), *(["--database-url", config.database_url] if config.database_url else [])]
    assert main(["retention", *where, "--dry-run", "--json"]) == 0
    told = {each["table"]: each for each in json.loads(capsys.readouterr().out)}
    assert told["sample"]["rows"] == 5 and told["sample"]["setting"] == "keep_samples_days"
    assert main(["retention", *where]) == 1 and "another fleet manager" in capsys.readouterr().err

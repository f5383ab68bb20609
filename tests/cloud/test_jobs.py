from __future__ import annotations

import json
from pathlib import Path

import pytest

from skerry_cloud.config import LabelConfig
from skerry_cloud.database import Database
from skerry_cloud.errors import ConfigError, DataError, NotFoundError, RefusedError
from skerry_cloud.labels.jobs import ABSTAIN, Jobs, State
from skerry_cloud.labels.workforce import Oracle, SimulatedWorkforce


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(database: Database, clock: Clock) -> Jobs:
    return Jobs(database, clock)


def opened(jobs: Jobs, items: int, **settings: object) -> str:
    jobs.create("job", "digits", ["0", "1"], LabelConfig(budget=100, audit=10, **settings))  # type: ignore[arg-type]  # any setting
    jobs.add("job", 0, [(f"cam-1/00000001-0a0b0c0d/{i}", "train") for i in range(items)])
    return "job"


def test_a_job_walks_from_created_to_done(jobs: Jobs) -> None:
    assert jobs.create("job", "digits", ["0", "1"], LabelConfig()).state is State.CREATED
    job = opened(jobs, 2)
    assert jobs.get(job).state is State.OPEN and not jobs.consolidate(job)
    while (item := jobs.lease(job, "ann")) is not None:
        jobs.vote(job, item, "ann", "1")
    assert jobs.consolidate(job)
    assert [label for _, label, _ in jobs.labelled(job)] == ["1", "1"]
    jobs.close(job)
    jobs.close(job)
    assert jobs.get(job).state is State.DONE
    with pytest.raises(RefusedError, match="closed"):
        jobs.vote(job, "cam-1/00000001-0a0b0c0d/0", "bob", "1")


def test_two_workers_never_get_the_same_item_and_a_lease_runs_out(jobs: Jobs, clock: Clock) -> None:
    job = opened(jobs, 2, lease_s=60.0)
    first, second = jobs.lease(job, "ann"), jobs.lease(job, "bob")
    assert first is not None and second is not None and first != second
    assert jobs.lease(job, "ann") == first  # asking again shows the same item
    assert jobs.lease(job, "eve") is None
    clock.now_s += 61
    assert jobs.lease(job, "eve") in (first, second)


def test_disagreement_asks_for_one_vote_more(jobs: Jobs) -> None:
    job = opened(jobs, 6, votes=2, max_votes=3, confidence=0.99)
    item = "cam-1/00000001-0a0b0c0d/0"
    for other in (f"cam-1/00000001-0a0b0c0d/{i}" for i in range(1, 6)):
        for worker in ("ann", "eve"):
            jobs.vote(job, other, worker, "01"[int(other[-1]) % 2])
    jobs.vote(job, item, "ann", "1")
    jobs.vote(job, item, "bob", "0")
    assert not jobs.consolidate(job) and item not in {each for each, _, _ in jobs.labelled(job)}
    assert jobs.lease(job, "ann") is None or jobs.lease(job, "ann") != item
    while (more := jobs.lease(job, "eve")) is not None:
        jobs.vote(job, more, "eve", "1" if more == item else "01"[int(more[-1]) % 2])
    while (more := jobs.lease(job, "bob")) is not None:
        jobs.vote(job, more, "bob", "01"[int(more[-1]) % 2])
    assert jobs.consolidate(job)
    assert {each: label for each, label, _ in jobs.labelled(job)}[item] == "1"
    ledger = jobs.ledger(job)
    assert ledger["votes"] > 12 and ledger["cost"] == pytest.approx(ledger["votes"] * 0.012)


def test_one_worker_alone_is_not_asked_twice(jobs: Jobs) -> None:
    job = opened(jobs, 2, votes=1, max_votes=3)
    while (item := jobs.lease(job, "ann")) is not None:
        jobs.vote(job, item, "ann", "1")
    assert jobs.consolidate(job) and len(jobs.labelled(job)) == 2


def test_an_item_nobody_can_tell_stays_without_a_label(jobs: Jobs) -> None:
    job = opened(jobs, 1)
    jobs.vote(job, "cam-1/00000001-0a0b0c0d/0", "ann", ABSTAIN)
    jobs.vote(job, "cam-1/00000001-0a0b0c0d/0", "bob", ABSTAIN)
    jobs.vote(job, "cam-1/00000001-0a0b0c0d/0", "eve", ABSTAIN)
    assert jobs.consolidate(job) and jobs.labelled(job) == [] and jobs.ledger(job)["settled"] == 1


def test_a_vote_counts_once_and_may_bring_a_new_class(jobs: Jobs) -> None:
    job, item = opened(jobs, 1), "cam-1/00000001-0a0b0c0d/0"
    jobs.vote(job, item, "ann", " nine ")
    jobs.vote(job, item, "ann", "1")
    assert jobs.get(job).classes == ("0", "1", "nine") and jobs.ledger(job)["votes"] == 1
    for label in ("", "x" * 65, "a\nb"):
        with pytest.raises(DataError, match="printable"):
            jobs.vote(job, item, "bob", label)
    with pytest.raises(NotFoundError):
        jobs.vote(job, "cam-1/00000001-0a0b0c0d/7", "bob", "1")
    with pytest.raises(NotFoundError):
        jobs.lease("nothing", "bob")


def test_simulated_workers_err_as_told_and_always_the_same(jobs: Jobs, tmp_path: Path) -> None:
    oracle = tmp_path / "oracle.jsonl"
    names = [f"cam-1/00000001-0a0b0c0d/{i}" for i in range(300)]
    oracle.write_text("".join(json.dumps({"prediction_id": each, "label": "1"}) + "\n" for each in names[:290]))
    settings = LabelConfig(
        workforce="simulated", oracle=str(oracle), budget=400, audit=1, votes=3, max_votes=3, worker_accuracy=0.8
    )
    votes = []
    for job in ("a", "b"):
        jobs.create(job, "digits", ["0", "1", "2"], settings)
        jobs.add(job, 0, [(each, "train") for each in names])
        SimulatedWorkforce(jobs, Oracle(oracle)).work(job)
        assert jobs.consolidate(job)
        votes.append(
            jobs.database.rows("SELECT prediction, worker, label FROM vote WHERE job = ? ORDER BY 1, 2", (job,))
        )
    assert [tuple(each) for each in votes[0]] == [tuple(each) for each in votes[1]]
    said = [each["label"] for each in votes[0] if each["label"] != ABSTAIN]
    assert len(said) == 870 and 0.75 < said.count("1") / len(said) < 0.85
    labels = [label for _, label, _ in jobs.labelled("a")]
    assert len(labels) > 200 and labels.count("1") / len(labels) > 0.85


def test_the_oracle_reads_on_and_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="oracle"):
        Oracle(tmp_path / "none.jsonl").label("x")
    oracle = Oracle(tmp_path)
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text('{"prediction_id": "a", "label": 3}\n{"prediction_id": "b", "la')
    assert oracle.label("a") == "3" and oracle.label("b") is None
    with one.open("a") as file:
        file.write('bel": "4"}\n')
    two.write_text('{"prediction_id": "c", "label": "5"}\n')
    assert oracle.label("b") == "4" and oracle.label("c") == "5"
    two.write_text('{"prediction_id": "c", "label": "5"}\n{"x": 1}\n')
    with pytest.raises(DataError, match="no prediction_id"):
        oracle.label("d")

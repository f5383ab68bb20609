from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.cloud.world import BUNDLE, manifest, sample

from skerry_cloud.config import LabelConfig, MonitorConfig
from skerry_cloud.database import Database
from skerry_cloud.labels.jobs import Jobs
from skerry_cloud.lake.lake import Lake
from skerry_cloud.monitor.model_quality import ModelQuality, upper_bound


@given(st.integers(1, 200), st.floats(0.001, 0.2), st.data())
def test_the_bound_lies_above_the_share_and_falls_with_risk(count: int, risk: float, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count))
    bound = upper_bound(right, count, risk)
    assert right / count <= bound <= 1.0 and upper_bound(right, count, risk / 2) >= bound


def test_the_bound_holds_as_often_as_it_says() -> None:
    right = np.random.default_rng(0).binomial(100, 0.9, 2000)
    below = np.mean([upper_bound(int(each), 100, 0.05) < 0.9 for each in right])
    assert 0.02 < below <= 0.05 + 0.015


def labelled(lake: Lake, database: Database, job: str, first: int, wrong: int, count: int) -> None:
    """Let a device answer class 0, and an audit say that `wrong` of `count` are class 1."""
    answer = np.array([0.9, 0.1], np.float32)
    lake.append_samples([("cam-1", sample(first + i, np.full(64, first + i), answer)) for i in range(count)])
    jobs = Jobs(database, lambda: 1.0)
    jobs.create(job, "digits", ["0", "1"], LabelConfig(budget=1000, audit=count))
    names = [f"cam-1/00000001-0a0b0c0d/{first + i}" for i in range(count)]
    jobs.add(job, 0, [(each, "audit") for each in names])
    for i, each in enumerate(names):
        jobs.vote(job, each, "ann", "1" if i < wrong else "0")
    assert jobs.consolidate(job)


def test_accuracy_is_judged_when_labels_come(lake: Lake, database: Database) -> None:
    monitor = ModelQuality(lake, database, MonitorConfig(false_alarm_rate=0.01, quality_margin=0.02), lambda: 2.0)
    document = manifest()
    assert monitor.look_at_labels("digits", BUNDLE, document, 0.95) is None
    labelled(lake, database, "one", 0, wrong=2, count=40)
    good = monitor.look_at_labels("digits", BUNDLE, document, 0.95)
    assert good is not None and not good.alarm and good.evidence["accuracy"] == 0.95
    assert monitor.look_at_labels("digits", BUNDLE, document, 0.95) is None
    labelled(lake, database, "two", 100, wrong=15, count=40)
    bad = monitor.look_at_labels("digits", BUNDLE, document, 0.95)
    assert bad is not None and bad.alarm and bad.score < bad.threshold and bad.evidence["labelled"] == 80


def test_falling_confidence_is_noticed_and_steady_confidence_is_not(lake: Lake, database: Database) -> None:
    generator = np.random.default_rng(3)
    reference = generator.beta(20, 1, 300)
    monitor = ModelQuality(lake, database, MonitorConfig(window=50, false_alarm_rate=0.005), lambda: 2.0)

    def send(first: int, scores: np.ndarray) -> None:
        pairs = np.stack([scores, 1 - scores], axis=1).astype(np.float32)
        lake.append_samples(
            [("cam-1", sample(first + i, np.full(64, first + i), each)) for i, each in enumerate(pairs)]
        )

    send(0, generator.beta(20, 1, 50))
    steady = monitor.look_at_confidence("digits", BUNDLE, reference)
    assert steady is not None and not steady.alarm
    send(100, generator.beta(8, 2, 50))
    falling = monitor.look_at_confidence("digits", BUNDLE, reference)
    assert falling is not None and falling.alarm
    assert falling.evidence["mean_confidence"] < falling.evidence["reference_mean"]

"""Thresholds: the rate of false alarms is the stated one, and real changes are found in one window."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from tests.cloud.world import BUNDLE, digits, manifest, noisy, sample, sketch

from skerry_cloud.config import MonitorConfig
from skerry_cloud.database import Database
from skerry_cloud.errors import DataError
from skerry_cloud.lake.lake import Lake
from skerry_cloud.monitor import domain, histograms, verdicts
from skerry_cloud.monitor.data_drift import DataDrift
from skerry_contracts.bundle import Baseline
from skerry_contracts.sketch import Histogram

WINDOW = 100


@pytest.fixture(scope="module")
def calibrated() -> domain.DomainTest:
    return domain.calibrate(digits().train_x[:500], WINDOW, 0.01, 299, seed=1)


def draw(x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return x[generator.permutation(len(x))[:WINDOW]]


def test_unshifted_windows_alarm_at_the_stated_rate(calibrated: domain.DomainTest) -> None:
    split, generator = digits(), np.random.default_rng(2)
    x = np.concatenate([split.stream_x, split.unseen_x])
    known = x[np.concatenate([split.stream_y, split.unseen_y]) < 8]
    alarms = sum(calibrated.score(draw(known, generator)) > calibrated.threshold for _ in range(120))
    assert alarms <= 6  # 1.2 expected; more than 6 by chance in one of 1 500 runs


@pytest.mark.parametrize("sigma", [0.05, 0.1])
def test_noise_is_found_in_one_window(calibrated: domain.DomainTest, sigma: float) -> None:
    split, generator = digits(), np.random.default_rng(3)
    known = split.stream_x[split.stream_y < 8]
    windows = [noisy(draw(known, generator), generator, sigma) for _ in range(20)]
    assert all(calibrated.score(each) > calibrated.threshold for each in windows)


def test_new_classes_with_noise_are_found_when_they_fill_half_a_window(calibrated: domain.DomainTest) -> None:
    split, generator = digits(), np.random.default_rng(4)
    known, found = split.stream_x[split.stream_y < 8], 0
    for _ in range(20):
        old, new = draw(known, generator)[: WINDOW // 2], draw(split.stream_x, generator)[WINDOW // 2 :]
        window = np.concatenate([old, noisy(new, generator)])
        found += calibrated.score(window) > calibrated.threshold
    assert found >= 19


def test_new_classes_alone_raise_the_score(calibrated: domain.DomainTest) -> None:
    split, generator = digits(), np.random.default_rng(5)
    scores = [calibrated.score(draw(split.stream_x, generator)) for _ in range(20)]
    assert float(np.mean(scores)) > 0.55


def test_calibration_says_what_it_cannot_do() -> None:
    x = np.random.default_rng(0).normal(size=(30, 4))
    with pytest.raises(DataError, match="too few"):
        domain.calibrate(x, 100, 0.01, 299, 0)
    with pytest.raises(DataError, match="cannot show"):
        domain.calibrate(np.tile(x, (4, 1)), 30, 0.001, 99, 0)


def counted(x: np.ndarray, edges: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(np.bincount(np.digitize(column, edges), minlength=len(edges) + 1).tolist()) for column in x.T]


EDGES = np.linspace(0.05, 0.95, 10)


def baselines() -> list[Baseline]:
    rows = counted(digits().train_x, EDGES)
    return [Baseline(f"input:image:{i}", tuple(EDGES.tolist()), counts) for i, counts in enumerate(rows)]


def merged(x: np.ndarray) -> dict[str, Histogram]:
    return {f"input:image:{i}": Histogram(f"input:image:{i}", counts) for i, counts in enumerate(counted(x, EDGES))}


def test_histograms_alarm_at_most_at_the_stated_rate_and_find_noise() -> None:
    split, generator = digits(), np.random.default_rng(6)
    known = split.stream_x[split.stream_y < 8]
    base, alarms = baselines(), 0
    for seed in range(30):
        rows = known[generator.permutation(len(known))[:250]]
        result = histograms.compare(base, merged(rows), false_alarm_rate=0.01, repeats=499, seed=seed)
        alarms += result.score > result.threshold
    assert alarms <= 2
    shifted = histograms.compare(
        base, merged(noisy(known, generator, 0.05)), false_alarm_rate=0.01, repeats=499, seed=0
    )
    assert shifted.score > shifted.threshold and shifted.divergence_bits[shifted.feature] > 0.05


def test_a_stream_that_repeats_itself_is_no_drift() -> None:
    split, generator = digits(), np.random.default_rng(7)
    known = split.stream_x[split.stream_y < 8]
    rows = known[generator.integers(0, len(known), 20_000)]
    result = histograms.compare(baselines(), merged(rows), false_alarm_rate=0.01, repeats=499, seed=0)
    assert result.score <= result.threshold


def test_histograms_without_common_features_are_refused() -> None:
    with pytest.raises(DataError, match="common"):
        histograms.compare(baselines(), {}, false_alarm_rate=0.01, repeats=99, seed=0)


def test_windows_are_judged_once_in_turn_and_repeats_count_once(lake: Lake, database: Database) -> None:
    split, generator = digits(), np.random.default_rng(8)
    known = split.stream_x[split.stream_y < 8]
    config = MonitorConfig(window=60, false_alarm_rate=0.02, calibration_repeats=99)
    monitor = DataDrift(lake, database, config, lambda: 5.0)
    look = partial(monitor.look_at_samples, "digits", BUNDLE, "d" * 64, split.train_x)
    lake.append_samples([("cam-1", sample(i, known[i % 30])) for i in range(200)])
    assert look() is None  # 200 samples, 30 different
    lake.append_samples([("cam-1", sample(1000 + i, known[30 + i])) for i in range(40)])
    first = look()
    assert first is not None and first.window.count == 60 and not first.alarm
    assert 0.5 < first.threshold < 0.75  # far above it would be no chance, but rows drawn in their order
    assert look() is None
    lake.append_samples([("cam-1", sample(2000 + i, noisy(known[i], generator))) for i in range(60)])
    second = look()
    assert second is not None and second.alarm and second.score > second.threshold
    kept = verdicts.newest(database, model="digits")
    assert [each.alarm for each in kept] == [True, False] and kept[0].window.start_s == 3000.0
    again = DataDrift(lake, database, config, lambda: 5.0).calibrated("d" * 64, split.train_x)
    assert again.threshold == second.threshold  # a restart calibrates to the same


def test_sketches_make_a_verdict(lake: Lake, database: Database) -> None:
    split, generator = digits(), np.random.default_rng(9)
    monitor = DataDrift(lake, database, MonitorConfig(sketch_predictions=200), lambda: 5.0)
    document = manifest(baseline=tuple(baselines()))
    quiet = split.stream_x[split.stream_y < 8][:250]
    lake.append_sketches([("cam-1", sketch(1, {k: v.counts for k, v in merged(quiet).items()}))])
    first = monitor.look_at_sketches("digits", BUNDLE, document)
    assert first is not None and not first.alarm and monitor.look_at_sketches("digits", BUNDLE, document) is None
    loud = noisy(quiet, generator)
    lake.append_sketches([("cam-1", sketch(2, {k: v.counts for k, v in merged(loud).items()}))])
    second = monitor.look_at_sketches("digits", BUNDLE, document)
    assert second is not None and second.alarm and second.feature.startswith("input:image:")

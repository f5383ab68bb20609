"""Sketches of many devices as one: moments, quantiles and frequent labels, through Parquet and compaction."""

from __future__ import annotations

import dataclasses

import numpy as np
from tests.cloud.world import BUNDLE, sketch

from skerry_cloud.lake.compact import compact
from skerry_cloud.lake.lake import Lake
from skerry_cloud.lake.merged import merged_sketch
from skerry_contracts.frequent import RunningFrequent
from skerry_contracts.quantiles import RunningQuantiles, rank_error
from skerry_contracts.sketch import RunningMoments, Sketch


def of(values: np.ndarray, labels: str, seq: int, k: int = 200) -> Sketch:
    quantiles, moments, frequent = RunningQuantiles(k), RunningMoments(), RunningFrequent(8)
    for value in values:
        quantiles.add(float(value))
        moments.add(float(value))
    for label in labels:
        frequent.add(label)
    return dataclasses.replace(
        sketch(seq, {"confidence": (1, len(values) - 1)}),
        moments=(moments.record("confidence"),),
        quantiles=(quantiles.record("confidence"),),
        frequent=(frequent.record("label"),),
    )


def test_devices_and_windows_add_up(lake: Lake) -> None:
    rng = np.random.default_rng(1)
    parts = [rng.normal(i % 3, 1, 1500) for i in range(8)]
    for i, part in enumerate(parts):
        lake.append_sketches([(f"cam-{i % 2}", of(part, "aab" * 10, i))])
    every = np.concatenate(parts)
    for _ in range(2):
        found = merged_sketch(lake, BUNDLE)
        assert found.predictions == len(every) and found.frequent["label"].counters == {"a": 160, "b": 80}
        assert np.isclose(found.moments["confidence"].mean, every.mean())
        low, high = np.quantile(every, [0.9 - rank_error(), 0.9 + rank_error()])
        assert low <= found.quantiles["confidence"].quantile(0.9) <= high
        assert compact(lake, least_segments=4) in (8, 0)
    assert merged_sketch(lake, BUNDLE, found.upto).predictions == 0


def test_sketches_without_them_and_of_other_sizes_stop_nothing(lake: Lake) -> None:
    lake.append_sketches([("cam-1", sketch(1, {"confidence": (1, 2)}))])
    lake.append_sketches([("cam-1", of(np.arange(100.0), "ab", 2)), ("cam-2", of(np.arange(10.0), "ab", 1, k=50))])
    lake.append_sketches([("cam-2", of(np.arange(100.0), "ab", 2))])
    found = merged_sketch(lake, BUNDLE)
    assert found.quantiles["confidence"].count == 200 and found.frequent["label"].count == 6

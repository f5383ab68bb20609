"""What is kept and what is counted: shares, budgets, weights, bins."""

from __future__ import annotations

import dataclasses
import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.world import make_bundle

from skerry_agent.sampler import HourlyBudget, Sampler, Traits, margin_of
from skerry_agent.sketcher import Sketcher
from skerry_agent.watch import probabilities
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.bundle import Baseline
from skerry_contracts.sample import Kept
from skerry_contracts.sketch import RunningMoments, bin_of
from skerry_contracts.tensor import DType, Tensor


def test_the_random_share_is_what_was_asked_and_speaks_for_all() -> None:
    sampler = Sampler(SamplingPolicy(random_share=0.1, uncertain_margin=0.0, bytes_per_hour=10**9), random.Random(1))
    kept = [choice for _ in range(20_000) if (choice := sampler.choose(Traits(0.5), 100, 0.0))]
    assert 1800 < len(kept) < 2200
    assert {choice.kept for choice in kept} == {Kept.RANDOM} and sum(choice.weight for choice in kept) == len(kept) * 10


def test_uncertain_predictions_are_kept_beside_them() -> None:
    sampler = Sampler(SamplingPolicy(random_share=0.0, uncertain_margin=0.2), random.Random(1))
    assert sampler.choose(Traits(0.3), 100, 0.0) is None and sampler.choose(Traits(None), 100, 0.0) is None
    choice = sampler.choose(Traits(0.1), 100, 0.0)
    assert choice is not None and (choice.kept, choice.weight) == (Kept.UNCERTAIN, 1.0)


def test_no_hour_spends_more_than_the_budget_and_weights_stay_unbiased() -> None:
    sampler = Sampler(SamplingPolicy(random_share=0.5, uncertain_margin=1.0, bytes_per_hour=10_000), random.Random(2))
    spent: list[tuple[float, int]] = []
    weight = 0.0
    for i in range(40_000):
        now_s = i * 0.5
        if (choice := sampler.choose(Traits(0.0), 100, now_s)) is not None:
            spent.append((now_s, 100))
            weight += choice.weight if choice.kept == Kept.RANDOM else 0
    for start_s, _ in spent[:: max(1, len(spent) // 50)]:
        assert sum(size for at_s, size in spent if start_s <= at_s < start_s + 3540) <= 10_000
    assert weight == pytest.approx(40_000, rel=0.2)


def test_uncertain_ones_leave_a_quarter_for_random_ones() -> None:
    sampler = Sampler(SamplingPolicy(random_share=0.0, uncertain_margin=1.0, bytes_per_hour=10_000), random.Random(1))
    assert sum(sampler.choose(Traits(0.0), 100, 0.0) is not None for _ in range(1000)) == 75


@given(st.lists(st.tuples(st.floats(0, 500), st.integers(0, 100)), max_size=80))
def test_the_hourly_budget_never_forgets_what_is_younger_than_an_hour(steps: list[tuple[float, int]]) -> None:
    budget, now_s = HourlyBudget(), 0.0
    history: list[tuple[float, int]] = []
    for after_s, size in steps:
        now_s += after_s
        recent = sum(each for at_s, each in history if at_s > now_s - 3540)
        within = sum(each for at_s, each in history if at_s > now_s - 3720)
        assert recent <= budget.spent_bytes(now_s) <= within
        budget.spend(size)
        history.append((now_s, size))


def test_ties_have_no_margin() -> None:
    assert margin_of([0.5, 0.5]) == (0.5, 0.0) and margin_of([1.0]) == (1.0, None)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8))
def test_scores_become_probabilities(scores: list[float]) -> None:
    found = probabilities(scores)
    if not all(0 <= score <= 1 for score in scores):
        assert math.fsum(found) == pytest.approx(1) and all(0 <= each <= 1 for each in found)
    assert found.index(max(found)) == scores.index(max(scores)) or max(found) == pytest.approx(
        found[scores.index(max(scores))]
    )


def image(*values: float) -> Tensor:
    return Tensor("image", DType.FP32, (1, 4), struct.pack("<4f", *values))


@given(st.lists(st.lists(st.floats(-2, 2, width=32), min_size=4, max_size=4), min_size=1, max_size=20))
def test_histograms_count_as_the_contract_says(rows: list[list[float]]) -> None:
    manifest = make_bundle().manifest
    sketcher = Sketcher(manifest)
    for values in rows:
        sketcher.add([image(*values)], confidence=0.7, label=1.0, latency_ms=0.5)
    found = {each.source: each.counts for each in sketcher.histograms()}
    edges = {each.source: each.edges for each in manifest.baseline}
    expected = [0, 0, 0]
    for values in rows:
        expected[bin_of(edges["input:image:0"], values[0])] += 1
    assert found["input:image:0"] == tuple(expected)
    assert all(sum(counts) == len(rows) for counts in found.values())
    assert found["label"] == (0, len(rows)) and found["confidence"] == (0, len(rows), 0)


def test_what_is_no_number_is_counted_as_missing() -> None:
    sketcher = Sketcher(make_bundle().manifest)
    sketcher.add([image(math.nan, math.inf, 0, 0)], confidence=math.nan, label=None, latency_ms=0.1)
    missing = {each.source: each.missing for each in sketcher.histograms()}
    assert missing["input:image:0"] == 1 and missing["input:image:mean"] == 1 and missing["confidence"] == 1


def test_a_baseline_for_what_the_model_does_not_have_counts_nothing() -> None:
    manifest = make_bundle().manifest
    strange = (
        Baseline("input:other:0", (1.0,), (0, 0)),
        Baseline("input:image:99", (1.0,), (0, 0)),
        Baseline("x", (1.0,), (0, 0)),
    )
    sketcher = Sketcher(dataclasses.replace(manifest, baseline=strange))
    sketcher.add([image(1, 2, 3, 4)], confidence=0.5, label=0.0, latency_ms=0.1)
    assert [sum(each.counts) for each in sketcher.histograms()] == [0, 0, 0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_moments_are_those_of_the_textbook(values: list[float]) -> None:
    moments = RunningMoments()
    for value in values:
        moments.add(value)
    found = moments.record("x")
    mean = math.fsum(values) / len(values)
    assert found.mean == pytest.approx(mean, rel=1e-6, abs=1e-6)
    assert found.m2 == pytest.approx(math.fsum((value - mean) ** 2 for value in values), rel=1e-6, abs=1e-3)
    assert (found.least, found.greatest) == (min(values), max(values))

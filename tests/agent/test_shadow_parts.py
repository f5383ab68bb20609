"""A shadow's plain parts: what it may cost, when it pauses, what disagreement is, and numbers that add up."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent.world import make_bundle

from skerry_agent.shadow_budget import CpuPurse, Gate, Readings
from skerry_agent.shadow_compare import MOST, classes, disagrees, unlike
from skerry_agent.shadow_tally import Tally
from skerry_contracts import codec
from skerry_contracts.assignment import target_path
from skerry_contracts.bundle import Manifest, Signature
from skerry_contracts.errors import MismatchError
from skerry_contracts.shadow import BINS, Shadow, ShadowReport, ShadowState, latency_bin, latency_quantile_ms
from skerry_contracts.sketch import Histogram, merge_histograms
from skerry_contracts.tensor import DType, TensorSpec

TERMS = Shadow("s1-00000001", "v2", 2, "b" * 64, target_path("digits", "b" * 64), 100, 2_000_000_000)


def model(
    *outputs: TensorSpec, scores: str | None = None, label: str | None = None, labels: tuple[str, ...] = ()
) -> Manifest:
    signature = Signature((TensorSpec("x", DType.FP32, (1, 4)),), outputs, labels, label, scores)
    return dataclasses.replace(make_bundle().manifest, signature=signature)


def floats(values: object) -> bytes:
    return np.asarray(values, np.float32).tobytes()


@settings(derandomize=True)
@given(
    st.floats(0.01, 1.0),
    st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(0.0, 5.0)), max_size=80),
)
def test_on_the_long_run_no_more_than_the_share_is_spent(share: float, course: list[tuple[float, float]]) -> None:
    """Whatever comes: time used is at most the share of the time passed, and one single run more."""
    purse, now, spent, largest = CpuPurse(share, 0.0), 0.0, 0.0, 0.0
    for wait_s, cost_s in course:
        now += wait_s
        if purse.open(now):
            assert spent <= share * now + 1e-6, "it opens only where something is left"
            purse.spend(cost_s, now)
            spent, largest = spent + cost_s, max(largest, cost_s)
    assert spent <= share * now + largest + 1e-6


@settings(derandomize=True)
@given(st.lists(st.floats(0.0, 100.0), max_size=30), st.floats(0.05, 1.0))
def test_a_debt_ends(costs: list[float], share: float) -> None:
    purse = CpuPurse(share, 0.0)
    for cost in costs:
        purse.spend(cost, 0.0)
    assert purse.open(3601.0), "no debt outlives an hour"


@settings(derandomize=True)
@given(st.lists(st.floats(20.0, 100.0), min_size=2, max_size=40))
def test_heat_closes_the_gate_and_opens_it_only_when_it_is_cooler(course: list[float]) -> None:
    gate, was = Gate(), False
    for temperature in course:
        closed = bool(gate.see(Readings(temperature_c=temperature), TERMS).why)
        assert closed == (temperature >= (65.0 if was else 70.0))
        was = closed


def test_a_gate_waits_for_battery_and_leaves_for_memory_and_updates() -> None:
    gate = Gate()
    assert gate.see(Readings(), TERMS).why == "", "no sensor and no battery stop nothing"
    assert "battery" in gate.see(Readings(battery=0.49), TERMS).why
    assert "battery" in gate.see(Readings(battery=0.52), TERMS).why, "not before it is five points better"
    assert gate.see(Readings(battery=None), TERMS).why == "", "it is being charged"
    scarce = gate.see(Readings(available=0.08, temperature_c=90.0), TERMS)
    assert scarce.leave and "memory" in scarce.why
    assert gate.see(Readings(available=0.12), TERMS).leave
    assert not gate.see(Readings(available=0.16), TERMS).leave
    tried = gate.see(Readings(busy="an update is tried"), TERMS)
    assert tried.leave and tried.why == "an update is tried"
    hot = gate.see(Readings(temperature_c=71.0), TERMS)
    assert hot.why == "71 degrees Celsius, 70 allowed" and not hot.leave


@settings(derandomize=True)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
    st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
)
def test_classifiers_disagree_where_numpy_says_another_best_class(one: list[float], two: list[float]) -> None:
    live = model(TensorSpec("p", DType.FP32, (1, 3)), scores="p", labels=("a", "b", "c"))
    found = disagrees(live, [floats(one)], live, [floats(two)], 0.1)
    assert found == (np.argmax(np.asarray(one, np.float32)) != np.argmax(np.asarray(two, np.float32)))


def test_classes_are_compared_by_name() -> None:
    live = model(TensorSpec("p", DType.FP32, (2, 2)), scores="p", labels=("cat", "dog"))
    other = model(TensorSpec("q", DType.FP32, (2, 2)), scores="q", labels=("dog", "cat"))
    assert not unlike(live, other), "outputs may have other names where both say a class"
    assert not disagrees(live, [floats([[1, 0], [0, 1]])], other, [floats([[0, 1], [1, 0]])], 0.0)
    assert disagrees(live, [floats([[1, 0], [0, 1]])], other, [floats([[0, 1], [0, 1]])], 0.0), "one row is enough"
    label = model(TensorSpec("label", DType.INT64, (1,)), label="label", labels=("cat", "dog"))
    assert classes(label.signature, [struct.pack("<q", 1)]) == ["dog"]
    assert disagrees(live, [floats([[1, 0], [1, 0]])], label, [struct.pack("<q", 0)], 0.0), "another number of rows"
    bare = model(TensorSpec("label", DType.INT64, (1,)), label="label")
    assert classes(bare.signature, [struct.pack("<q", 7)]) == [7.0]


@settings(derandomize=True)
@given(st.integers(1, 3000), st.floats(0.0, 0.5), st.integers(0, 1000))
def test_numbers_disagree_beyond_the_tolerance(size: int, shift: float, seed: int) -> None:
    """Compared with numpy on the same thinned elements; the golden vectors' own tolerance is always allowed."""
    live = model(TensorSpec("y", DType.FP32, (1, size)))
    rng = np.random.default_rng(seed)
    one = rng.normal(size=size).astype(np.float32)
    two = (one * (1 + shift)).astype(np.float32)
    step = -(-size // MOST)
    a, b = one[::step].astype(float), two[::step].astype(float)
    expected = np.linalg.norm(a - b) > 1e-5 * np.sqrt(len(a)) + 0.1 * np.linalg.norm(a)
    if abs(shift - 0.1) > 1e-3:
        assert disagrees(live, [floats(one)], live, [floats(two)], 0.1) == expected
    assert not disagrees(live, [floats(one)], live, [floats(one)], 0.0)
    wrong = two.copy()
    wrong[0] = np.nan
    assert disagrees(live, [floats(one)], live, [floats(wrong)], 100.0), "no number is never near"


def test_models_that_cannot_be_compared_say_why() -> None:
    live = model(TensorSpec("y", DType.FP32, (1, 2)))
    assert "output" in unlike(live, model(TensorSpec("z", DType.FP32, (1, 2))))
    assert "output" in unlike(live, model(TensorSpec("y", DType.FP32, (1, 3))))
    other = dataclasses.replace(live.signature, inputs=(TensorSpec("x", DType.FP32, (1, 5)),))
    assert "inputs" in unlike(live, dataclasses.replace(live, signature=other))


@settings(derandomize=True)
@given(st.lists(st.floats(0.002, 9000.0), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_latency_quantiles_are_within_five_percent(latencies: list[float], share: float) -> None:
    counts = [0] * BINS
    for each in latencies:
        counts[latency_bin(each)] += 1
    exact = sorted(latencies)[max(0, int(np.ceil(share * len(latencies) - 1e-9)) - 1)]
    found = latency_quantile_ms(Histogram("latency_ms", tuple(counts)), share)
    assert found is not None and found == pytest.approx(exact, rel=0.051)
    assert latency_quantile_ms(Histogram("latency_ms", ()), share) is None


def test_a_report_is_a_small_message_and_its_histograms_are_trimmed() -> None:
    tally = Tally("s1-00000001", "digits", "b" * 64, 1.7e9, "a" * 64)
    assert tally.empty
    tally.chosen = 3
    tally.compare(disagrees=True, live_ms=0.5, own_ms=4000.0)
    tally.compare(disagrees=False, live_ms=0.5, own_ms=0.25)
    report = tally.report("00000001-00000000", 4, 1.7e9 - 5, ShadowState.RUNNING)
    assert (report.compared, report.disagreed, report.end_s) == (2, 1, 1.7e9), "a clock set back gives no negative time"
    assert report.live_latency is not None and sum(report.live_latency.counts) == 2
    assert codec.decode(ShadowReport, codec.encode(report)) == report and len(codec.encode(report)) < 2000
    assert report.latency is not None and merge_histograms([report.latency]) == report.latency
    quiet = Tally("s1-00000001", "digits", "b" * 64, 1.7e9).report("00000001-00000000", 5, 1.7e9, ShadowState.WAITING)
    assert quiet.latency is None


@pytest.mark.parametrize(
    "wrong",
    [{"share": 0.0}, {"cpu_share": 1.5}, {"tolerance": -1.0}, {"memory_bytes": 0}, {"report_s": 0}, {"id": "No!"}],
)
def test_terms_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(MismatchError):
        dataclasses.replace(TERMS, **wrong)  # type: ignore[arg-type]

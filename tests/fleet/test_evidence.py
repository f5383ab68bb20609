"""Evidence for harm: an e-process to the last digit, and pairs that chance alone decides."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from skerry_contracts.device import ModelHealth, ModelState
from skerry_contracts.errors import MismatchError
from skerry_fleet import rollout_machine as machine
from skerry_fleet.comparison import Comparison, Gate
from skerry_fleet.evidence import CERTAIN, Measure, Score, combined, e_value
from skerry_fleet.rollout_plan import Plan, Wave
from skerry_fleet.rollout_words import Place, Tick

NEW, OLD = "b" * 64, "a" * 64
COUNTS = st.integers(0, 300)


@given(COUNTS, COUNTS)
@settings(derandomize=True)
def test_a_fair_coin_moves_the_evidence_nowhere_on_average(worse: int, better: int) -> None:
    following = (e_value(worse + 1, better) + e_value(worse, better + 1)) / 2
    assert following == pytest.approx(e_value(worse, better), rel=1e-9)


@given(st.integers(0, 40), st.integers(0, 40))
@settings(derandomize=True, max_examples=40)
def test_it_is_the_mean_bet_over_all_chances_above_one_half(worse: int, better: int) -> None:
    area, _ = quad(lambda q: (2 * q) ** worse * (2 * (1 - q)) ** better, 0.5, 1.0)
    assert e_value(worse, better) == pytest.approx(2 * area, rel=1e-6)


@given(COUNTS, COUNTS)
@settings(derandomize=True)
def test_more_harm_is_more_evidence(worse: int, better: int) -> None:
    assert e_value(worse + 1, better) > e_value(worse, better) > e_value(worse, better + 1) > 0


def test_a_great_fleet_does_not_overflow() -> None:
    assert e_value(25_000, 0) == CERTAIN and 0 < e_value(0, 25_000) < 1e-4
    assert math.isfinite(combined({measure: Score(25_000) for measure in Measure}))


def test_looking_after_every_pair_seldom_condemns_a_fair_coin() -> None:
    alarms = 0
    for seed in range(600):
        chance = random.Random(seed)
        worse = better = 0
        for _ in range(200):
            worse, better = (worse + 1, better) if chance.random() < 0.5 else (worse, better + 1)
            if e_value(worse, better) >= 20:
                alarms += 1
                break
    assert 0 < alarms <= 600 * 0.05


def health(bundle: str, errors: int = 0, latency: float = 2.0, confidence: float | None = 0.9) -> ModelHealth:
    return ModelHealth("m", "1", bundle, "v", ModelState.SERVING, 100 - errors, errors, 0, 1.0, latency, 1, confidence)


def paired(gate: Gate | None = None) -> Comparison:
    comparison = Comparison(gate or Gate())
    comparison.pair("t", health(OLD), "c", health(OLD))
    return comparison


@pytest.mark.parametrize(
    ("mine", "other", "signs"),
    [
        (health(NEW), health(OLD), (0, 0, 0)),
        (health(NEW, errors=5), health(OLD), (1, 0, 0)),
        (health(NEW), health(OLD, errors=5), (-1, 0, 0)),
        (health(NEW, errors=5), health(OLD, errors=5), (0, 0, 0)),  # night fell on both
        (health(NEW, latency=9.0), health(OLD), (0, 1, 0)),
        (health(NEW), health(OLD, latency=9.0), (0, -1, 0)),
        (health(NEW, confidence=0.5), health(OLD), (0, 0, 1)),
        (health(NEW, latency=2.5, confidence=0.88), health(OLD), (0, 0, 0)),  # within the margins
    ],
)
def test_changes_are_compared_at_the_same_time(
    mine: ModelHealth, other: ModelHealth, signs: tuple[int, int, int]
) -> None:
    comparison = paired()
    comparison.hear("t", mine, NEW)
    comparison.hear("c", other, NEW)
    ended = comparison.end("t")
    assert ended is not None and tuple(ended[1][measure] for measure in list(Measure)[1:]) == signs


def test_devices_that_break_count_beside_those_that_differ_a_little() -> None:
    comparison = paired()
    comparison.hear("t", health(NEW, errors=60), NEW)
    comparison.hear("c", health(OLD), NEW)
    ended = comparison.end("t")
    assert ended is not None and ended[1][Measure.FAILING] == ended[1][Measure.ERROR_RATE] == 1
    noisy = {Measure.FAILING: Score(8), Measure.ERROR_RATE: Score(108, 100), **{m: Score() for m in list(Measure)[2:]}}
    assert combined(noisy) > 20 > combined({**noisy, Measure.FAILING: Score(0)})


def test_a_worse_camera_is_no_harm() -> None:
    comparison = Comparison(Gate())
    comparison.pair("t", health(OLD, errors=30, latency=50.0, confidence=0.4), "c", health(OLD))
    comparison.hear("t", health(NEW, errors=30, latency=50.0, confidence=0.4), NEW)
    comparison.hear("c", health(OLD), NEW)
    ended = comparison.end("t")
    assert ended is not None and set(ended[1].values()) == {0}


def test_what_a_device_did_before_it_served_the_bundle_does_not_count() -> None:
    comparison = paired()
    comparison.hear("t", health(OLD, errors=50), NEW)
    comparison.hear("c", health(OLD, errors=50), NEW)  # not begun
    comparison.hear("t", health(NEW), NEW)
    comparison.hear("c", health(OLD), NEW)
    ended = comparison.end("t")
    assert ended is not None and set(ended[1].values()) == {0}


def test_too_little_seen_is_no_pair() -> None:
    comparison = paired(Gate(least_predictions=101))
    comparison.hear("t", health(NEW, errors=50), NEW)
    comparison.hear("c", health(OLD), NEW)
    assert comparison.end("t") is None and comparison.value == 1.0
    assert comparison.end("t") is None


def test_a_control_that_gets_the_bundle_is_none() -> None:
    comparison = paired()
    comparison.hear("t", health(NEW, errors=50), NEW)
    comparison.hear("c", health(OLD), NEW)
    comparison.lose("c")
    assert comparison.end("t") is None


def test_controls_come_from_the_end_of_the_order_and_once_a_stage() -> None:
    plan = Plan(canary=2, waves=(Wave(50), Wave(100)), soak_s=0, exposure_budget=5)
    state = machine.start("r", NEW, plan, [(f"d{i}", i != 3) for i in range(20)], 0.0)
    machine.step(state, Tick(), 0.0)
    comparison = Comparison(Gate())
    order = sorted(state.members.values(), key=lambda member: member.rank)
    first = comparison.candidates(state, 4)
    assert first == [member.device for member in reversed(order) if member.reachable][:4]
    assert not set(first) & set(comparison.candidates(state, 100))
    assert comparison.candidates(state, 1) == []
    state.stage = 1
    assert comparison.candidates(state, 4) == first
    assert all(state.members[device].place is Place.WAITING for device in first)


def test_a_gate_says_what_it_found() -> None:
    comparison = Comparison(Gate(alpha=0.05))
    for index in range(9):
        assert comparison.harm() is None
        comparison.pair(f"t{index}", health(OLD), f"c{index}", health(OLD))
        comparison.hear(f"t{index}", health(NEW, errors=5), NEW)
        comparison.hear(f"c{index}", health(OLD), NEW)
        comparison.end(f"t{index}")
    assert "error rate is worse in 9 pairs and better in 0" in str(comparison.harm())
    assert Comparison(Gate(alpha=0), comparison.scores).harm() is None


@pytest.mark.parametrize(
    "words",
    [
        {"alpha": -0.1},
        {"alpha": 0.6},
        {"error_rate": 1.5},
        {"failing": 2.0},
        {"latency": -1.0},
        {"least_predictions": 0},
    ],
)
def test_an_impossible_gate_is_refused(words: dict[str, float]) -> None:
    with pytest.raises(MismatchError):
        Gate(**words)  # type: ignore[arg-type]

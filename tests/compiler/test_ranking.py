"""Ranking, the Pareto front, who goes on and who ships: properties that hold for any field of candidates."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_compiler import durations, pareto, ranking
from skerry_compiler.errors import CompileError
from skerry_contracts.evidence import Agreement, Candidate, Measurement, Verdict

BASE = Measurement(1.0, 1.0, 60.0, 100.0, 1000)
ENGINES = st.sampled_from(["native", "onnxruntime", "litert"])
PRECISIONS = st.sampled_from(["fp32", "int8"])


@st.composite
def fields(draw: st.DrawFn) -> list[ranking.Timed]:
    """Some candidates that passed, with their times."""
    found = []
    for index in range(draw(st.integers(1, 12))):
        figures = Measurement(1.0, 1.0, draw(st.floats(5, 200)), 10.0, draw(st.integers(1, 10**8)))
        agrees = Agreement(draw(st.floats(0.99, 1)), 0.0, 1.0)
        who = Candidate(f"c{index}", draw(ENGINES), draw(PRECISIONS), Verdict.RUNNER_UP, "", figures, agrees)
        found.append((draw(st.floats(1e-3, 10)), who))
    return found


def ids(ranked: list[ranking.Timed]) -> list[str]:
    return [candidate.id for _, candidate in ranked]


@given(fields(), st.sampled_from(ranking.OBJECTIVES), st.randoms(use_true_random=False))
def test_a_ranking_is_a_permutation_that_does_not_hang_on_the_order(field, objective, random) -> None:  # type: ignore[no-untyped-def]
    ranked = ranking.rank(field, objective)
    assert sorted(ids(ranked)) == sorted(ids(field))
    shuffled = list(field)
    random.shuffle(shuffled)
    assert ids(ranking.rank(shuffled, objective)) == ids(ranked)


@given(fields())
def test_the_winner_is_best_in_what_was_asked(field: list[ranking.Timed]) -> None:
    fastest = min(time for time, _ in field)
    assert ranking.rank(field, "latency")[0][0] <= fastest * (1 + ranking.TIE)
    smallest = min(ranking.figures(each).size_bytes for _, each in field)
    assert ranking.figures(ranking.rank(field, "size")[0][1]).size_bytes == smallest
    leanest = min(round(ranking.figures(each).rss_mb) for _, each in field)
    assert round(ranking.figures(ranking.rank(field, "memory")[0][1]).rss_mb) == leanest


@given(fields())
def test_the_balanced_winner_is_on_the_front_or_tied_with_it(field: list[ranking.Timed]) -> None:
    points = {each.id: (time, ranking.figures(each).rss_mb, ranking.figures(each).size_bytes) for time, each in field}
    front = pareto.front(points)
    winner = ranking.rank(field, "balanced")[0][1].id

    def score(name: str) -> float:
        time, memory, size = points[name]
        return float((max(time, 1e-9) * memory * size) ** (1 / 3))

    assert score(winner) <= min(map(score, front)) * (1 + ranking.TIE) * (1 + 1e-9)


def test_ties_go_to_what_agrees_better_then_to_the_smaller() -> None:
    def entry(name: str, time: float, rss_mb: float, size: int) -> ranking.Timed:
        figures = dataclasses.replace(BASE, rss_mb=rss_mb, size_bytes=size)
        return time, Candidate(name, "e", "fp32", Verdict.RUNNER_UP, "", figures)

    field = [entry("a", 100, 40, 500), entry("b", 102, 50, 100), entry("c", 200, 10, 900), entry("d", 300, 90, 50)]
    assert ids(ranking.rank(field, "latency")) == ["b", "a", "c", "d"]
    assert ids(ranking.rank(field, "memory")) == ["c", "a", "b", "d"]
    assert ids(ranking.rank(field, "size")) == ["d", "b", "a", "c"]
    rough, close = Agreement(0.9897, 0.1, 1.0), Agreement(0.9990, 0.02, 1.0)
    smaller = dataclasses.replace(BASE, size_bytes=10)
    field = [
        (100.0, Candidate("rough", "e", "int8", Verdict.RUNNER_UP, "", smaller, rough)),
        (101.0, Candidate("close", "e", "int8", Verdict.RUNNER_UP, "", BASE, close)),
    ]
    assert ids(ranking.rank(field, "latency")) == ["close", "rough"]


POINTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.tuples(*[st.integers(0, 5)] * 3), min_size=1)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: dict[str, tuple[int, int, int]]) -> None:
    front = pareto.front(points)
    assert front
    for name, point in points.items():
        beaten = any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points.values()
        )
        assert (name in front) is not beaten


@given(fields(), st.integers(1, 6))
def test_the_better_half_and_the_best_of_each_kind_go_on(field: list[ranking.Timed], most: int) -> None:
    ranked = [candidate for _, candidate in ranking.rank(field, "latency")]
    kept = ranking.survivors(ranked, most)
    assert kept == [each.id for each in ranked if each.id in kept]
    assert set(kept) >= {each.id for each in ranked[:most]}
    kinds = {(each.engine, each.precision) for each in ranked}
    assert {(each.engine, each.precision) for each in ranked if each.id in kept} == kinds
    assert len(kept) <= max(most, -(-len(ranked) // 2)) + len(kinds)


@given(fields(), st.integers(0, 10**8), st.integers(0, 10**6))
def test_what_ships_differs_fits_and_begins_with_the_winner(field: list[ranking.Timed], most: int, small: int) -> None:
    ranked = [(each.id, each.engine, each.precision) for _, each in ranking.rank(field, "latency")]
    blobs = {each.id: {each.id: ranking.figures(each).size_bytes, "shared": 7} for _, each in field}
    chosen = ranking.shipping(ranked, blobs, most, small)
    assert chosen[0] == ranked[0][0] and 1 <= len(chosen) <= 3
    kinds = {name: (engine, precision) for name, engine, precision in ranked}
    assert len({kinds[name] for name in chosen}) == len(chosen)
    total = sum({sha256: size for name in chosen for sha256, size in blobs[name].items()}.values())
    assert len(chosen) == 1 or total <= most
    winner = sum(blobs[chosen[0]].values())
    assert all(blobs[name][name] <= max(small, winner) for name in chosen[1:])


@pytest.mark.parametrize("words", ["", "0", "-4", "nan", "inf", "5 days", "1d", "1e3", "86400", "24h", "m", "--"])
def test_what_is_no_time_is_refused_with_a_hint(words: str) -> None:
    with pytest.raises(CompileError) as caught:
        durations.seconds(words)
    assert "90s" in caught.value.hint


@given(st.floats(0.01, 1000))
def test_minutes_are_sixty_seconds(value: float) -> None:
    assert durations.seconds(f"{value:.4f}m") == pytest.approx(durations.seconds(f"{float(f'{value:.4f}') * 60:.6f}"))

"""Sketches add up to the same whatever the order, and to what the numbers themselves say."""

from __future__ import annotations

import statistics
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_contracts.errors import MismatchError
from skerry_contracts.sketch import Histogram, Moments, add_to_moments, bin_of, merge_histograms, merge_moments

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)
counts = st.lists(st.integers(0, 1000), min_size=3, max_size=3).map(tuple)


def moments_of(values: list[float]) -> Moments:
    result = Moments("x", 0, 0.0, 0.0, float("inf"), float("-inf"))
    for value in values:
        result = add_to_moments(result, value)
    return result


@given(numbers, numbers)
def test_moments_add_up(left: list[float], right: list[float]) -> None:
    both = merge_moments(moments_of(left), moments_of(right))
    every = left + right
    assert both.count == len(every)
    assert both.mean == pytest.approx(statistics.fmean(every), abs=1e-6)
    assert both.variance == pytest.approx(statistics.variance(every), rel=1e-6, abs=1e-3)
    assert (both.least, both.greatest) == (min(every), max(every))


@given(st.lists(counts, min_size=1, max_size=6), st.randoms())
def test_histograms_add_up_in_any_order(parts: list[tuple[int, ...]], random: object) -> None:
    made = [Histogram("x", part, 1) for part in parts]
    shuffled = sorted(made, key=lambda part: hash((part.counts, id(random))))
    assert merge_histograms(made) == merge_histograms(shuffled)
    nested = merge_histograms([merge_histograms(made[:1]), *([merge_histograms(made[1:])] if made[1:] else [])])
    assert nested == merge_histograms(made)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(MismatchError):
        merge_histograms([])
    with pytest.raises(MismatchError):
        merge_histograms([Histogram("x", (1, 2)), Histogram("x", (1, 2, 3))])
    with pytest.raises(MismatchError):
        merge_moments(moments_of([1.0]), Moments("y", 1, 0.0, 0.0, 0.0, 0.0))


def test_what_is_no_number_changes_nothing() -> None:
    before = moments_of([1.0, 2.0])
    assert add_to_moments(before, float("nan")) == before


@given(st.floats(-10, 10))
def test_bins_are_half_open(value: float) -> None:
    edges = (-1.0, 0.0, 2.5)
    index = bin_of(edges, value)
    assert index == bisect_right(edges, value)
    assert (index == 0 or edges[index - 1] <= value) and (index == len(edges) or value < edges[index])

"""Quantile sketches: ranks within the stated error of the sorted numbers, whatever is merged with what."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_contracts.errors import MismatchError
from skerry_contracts.quantiles import (
    Quantiles,
    RunningQuantiles,
    capacity,
    merge_quantiles,
    quantile_shift,
    rank_error,
    ranks,
)

numbers = st.lists(st.floats(-1e6, 1e6), max_size=400)
Stream = Callable[[random.Random], float]
STREAMS: dict[str, Stream] = {
    "uniform": lambda rng: rng.random(),
    "heavy": lambda rng: rng.paretovariate(1.1),
    "few": lambda rng: float(rng.randrange(7)),
}


def sketch_of(values: Sequence[float], k: int = 200) -> Quantiles:
    running = RunningQuantiles(k)
    for value in values:
        running.add(value)
    return running.record("x")


def worst_rank(sketch: Quantiles, values: Sequence[float]) -> float:
    points = sorted(set(values))
    true = np.searchsorted(np.sort(values), points, side="right") / len(values)
    return float(np.abs(true - np.array(ranks(sketch, points))).max())


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("order", ["as it comes", "rising", "falling"])
def test_ranks_are_within_the_stated_error(name: str, order: str) -> None:
    rng = random.Random(f"{name} {order}")
    values = [STREAMS[name](rng) for _ in range(20_000)]
    values = values if order == "as it comes" else sorted(values, reverse=order == "falling")
    sketch = sketch_of(values)
    assert worst_rank(sketch, values) <= rank_error()
    assert sum(map(len, sketch.levels)) <= capacity(200, len(sketch.levels)) <= 600
    for share in (0.01, 0.25, 0.5, 0.9, 0.999):
        low, high = np.quantile(values, [max(0, share - 0.0175), min(1, share + 0.0175)], method="nearest")
        assert low <= sketch.quantile(share) <= high
    assert (sketch.quantile(0), sketch.quantile(1)) == (min(values), max(values))


def test_a_smaller_sketch_errs_more_but_as_stated() -> None:
    worst = {}
    for k in (25, 100, 400):
        rng = random.Random(k)
        values = [rng.gauss(0, 1) for _ in range(10_000)]
        worst[k] = worst_rank(sketch_of(values, k), values)
        assert worst[k] <= rank_error(k)
    assert worst[400] < worst[25]


@pytest.mark.parametrize("devices", [2, 40])
def test_merged_devices_are_within_the_error_of_one(devices: int) -> None:
    rng = random.Random(devices)
    streams = [[rng.gauss(device % 3, 1 + device % 2) for _ in range(12_000 // devices)] for device in range(devices)]
    every = [value for stream in streams for value in stream]
    parts = [sketch_of(stream) for stream in streams]
    flat = merge_quantiles(parts)
    nested = parts[0]
    for part in parts[1:]:
        nested = merge_quantiles([nested, part])
    for merged in (flat, nested):
        assert merged.count == len(every) and (merged.least, merged.greatest) == (min(every), max(every))
        assert worst_rank(merged, every) <= rank_error()


@given(numbers, numbers, numbers)
def test_merging_forgets_no_weight_and_no_end(a: list[float], b: list[float], c: list[float]) -> None:
    parts = [sketch_of(each, 8) for each in (a, b, c)]
    every = a + b + c
    left = merge_quantiles([merge_quantiles(parts[:2]), parts[2]])
    right = merge_quantiles([parts[0], merge_quantiles(parts[1:])])
    for merged in (left, right, merge_quantiles(parts)):
        assert merged.count == len(every)
        if every:
            assert (merged.least, merged.greatest) == (min(every), max(every))
            assert worst_rank(merged, every) <= 0.5  # of 8: the guarantee is loose, the walls are not
    assert merge_quantiles(parts) == merge_quantiles(parts[::-1])


@given(numbers)
def test_the_same_stream_gives_the_same_sketch(values: list[float]) -> None:
    assert sketch_of(values, 8) == sketch_of(values, 8)


def test_coins_fall_on_both_sides_evenly() -> None:
    """Else every device would err in the same direction, and a fleet's sum with them."""
    errors = []
    for seed in range(200):
        rng = random.Random(seed)
        values = [rng.random() for _ in range(1000)]
        errors.append(sketch_of(values, 50).rank(0.5) - sum(value <= 0.5 for value in values) / 1000)
    assert abs(float(np.mean(errors))) < 4 * float(np.std(errors)) / 200**0.5


def test_what_is_no_number_is_left_out_and_nothing_seen_is_empty() -> None:
    assert sketch_of([float("nan"), float("inf")]) == Quantiles("x", 0, 0.0, 0.0, ((),))
    assert merge_quantiles([sketch_of([]), sketch_of([2.0])]) == sketch_of([2.0])
    with pytest.raises(MismatchError):
        sketch_of([]).quantile(0.5)


def test_a_shift_is_the_distance_of_the_ranks() -> None:
    low, high = sketch_of([1.0, 2.0, 3.0, 4.0]), sketch_of([3.0, 4.0, 5.0, 6.0])
    assert quantile_shift(low, high) == 0.5 and quantile_shift(low, low) == 0.0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(MismatchError):
        merge_quantiles([])
    with pytest.raises(MismatchError):
        merge_quantiles([sketch_of([1.0], 8), sketch_of([1.0], 9)])
    with pytest.raises(MismatchError, match="add up"):
        Quantiles("x", 5, 0.0, 1.0, ((0.0,), (1.0,)))
    with pytest.raises(MismatchError):
        Quantiles("x", 0, 0.0, 0.0, ((),) * 61)

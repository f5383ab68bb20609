"""Leaks and slowness from numbers alone: what grows for ever is found, what fills its arenas once is not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_agent.leaks import WARM_PREDICTIONS, LeakWatch, SlowWatch

BOUND = 10_000


@given(st.lists(st.integers(0, BOUND), min_size=1, max_size=60), st.integers(0, 10**9))
@settings(derandomize=True, max_examples=200)
def test_whatever_stays_within_the_bound_is_no_leak(sizes: list[int], base: int) -> None:
    watch = LeakWatch(BOUND)
    assert not any(watch.see(1, 100 * at, base + size) for at, size in enumerate(sizes))


@given(st.integers(10, 100_000), st.integers(1, 10_000))
@settings(derandomize=True, max_examples=200)
def test_steady_growth_is_found_before_it_is_twice_the_bound(step: int, each: int) -> None:
    watch, at, grown = LeakWatch(BOUND), 0, 0
    while not grown:
        at += 1
        grown = watch.see(1, each * at, 10**6 + step * at)
        assert at < 10_000
    assert grown > BOUND and grown <= BOUND + step * 4


def test_one_jump_a_cold_start_and_a_new_worker_are_no_leaks() -> None:
    watch = LeakWatch(BOUND)
    assert not any(watch.see(1, 100 * at, 10**6 + (at > 5) * 50_000) for at in range(50)), "one arena"
    watch = LeakWatch(BOUND)
    assert not any(watch.see(1, at, 10**6 + at * 10_000) for at in range(WARM_PREDICTIONS)), "the warm-up"
    watch = LeakWatch(BOUND)
    assert not any(watch.see(at // 5, 100 * at, 10**6 + at % 5 * 9000) for at in range(60)), "restarted meanwhile"
    watch = LeakWatch(BOUND)
    assert not any(watch.see(1, 1000, 10**6 + at * 10_000) for at in range(60)), "nobody asked it for anything"


def test_slowness_counts_from_its_beginning_and_ends_at_once() -> None:
    watch = SlowWatch()
    assert [watch.see(p95, 10.0, now) for p95, now in ((11, 0.0), (12, 30.0), (9, 40.0), (11, 50.0), (11, 51.0))] == [
        0.0, 30.0, 0.0, 0.0, 1.0,
    ]  # fmt: skip

"""The degradation ladder by itself: down for cause, up with patience, and never off either end."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_agent.ladder import CLIMB_S, FALLS, LONGEST_CLIMB_S, NOTHING, STEP_S, Cause, Ladder, Rung

FULL, SMALL, OLD = (
    Rung("b2", "full", 100, "2 (full)"),
    Rung("b2", "small", 10, "2 (small)"),
    Rung("b1", "v", 80, "1 (v)"),
)


def fall(ladder: Ladder, now_s: float, times: int = FALLS) -> bool:
    for _ in range(times):
        ladder.fell(now_s)
    return ladder.step(now_s, hot=False, short=False)


def test_falls_lead_down_rung_by_rung_to_nothing() -> None:
    ladder = Ladder([FULL, SMALL, OLD])
    assert not fall(ladder, 0.0, FALLS - 1) and ladder.rung == FULL
    for rung in (SMALL, OLD, NOTHING):
        assert fall(ladder, 1.0) and ladder.rung == rung
        assert ladder.cause == Cause.FALLS and ladder.degraded
    assert not fall(ladder, 2.0) and ladder.rung == NOTHING


def test_a_fall_now_and_then_is_no_cause() -> None:
    ladder = Ladder([FULL, SMALL])
    for hour in range(100):
        assert not fall(ladder, 3600.0 * hour, 1) and ladder.rung == FULL


def test_heat_and_want_of_memory_lead_only_to_what_is_smaller_and_give_it_time() -> None:
    ladder = Ladder([FULL, SMALL, OLD])
    assert ladder.step(0.0, hot=True, short=False) and ladder.rung == SMALL
    assert str(ladder.cause) == Cause.HEAT
    assert not ladder.step(STEP_S / 2, hot=True, short=False)
    assert ladder.step(STEP_S, hot=False, short=True) and ladder.rung == NOTHING, "the old one is larger"
    assert str(ladder.cause) == Cause.MEMORY


def test_it_climbs_when_the_cause_is_gone_and_waits_longer_after_each_failure() -> None:
    ladder, now_s, waits = Ladder([FULL, SMALL]), 0.0, []
    for _ in range(10):
        assert fall(ladder, now_s) and ladder.rung == SMALL
        begin_s = now_s
        while ladder.rung == SMALL:
            now_s += 30.0
            ladder.step(now_s, hot=False, short=False)
        assert ladder.rung == FULL and ladder.cause is None
        waits.append(now_s - begin_s)
        now_s += 1.0
    assert CLIMB_S <= waits[0] <= CLIMB_S + 60
    assert all(later >= 1.5 * sooner or later >= LONGEST_CLIMB_S for sooner, later in itertools.pairwise(waits))
    assert waits[-1] <= LONGEST_CLIMB_S + 60
    now_s += 10 * LONGEST_CLIMB_S
    assert fall(ladder, now_s)
    assert not ladder.step(now_s + CLIMB_S / 2, hot=False, short=False)
    assert ladder.step(now_s + CLIMB_S + 60, hot=False, short=False) or ladder.step(
        now_s + 2 * CLIMB_S + 60, hot=False, short=False
    ), "after a long time well, the first wait is short again"


@given(st.lists(st.tuples(st.floats(0, 400), st.booleans(), st.booleans(), st.integers(0, 6)), max_size=80))
@settings(derandomize=True, max_examples=200)
def test_whatever_happens_it_stands_on_a_rung_and_comes_back_at_last(
    course: list[tuple[float, bool, bool, int]],
) -> None:
    ladder, now_s = Ladder([FULL, SMALL, OLD]), 0.0
    for passed_s, hot, short, falls in course:
        now_s += passed_s
        before = ladder.rung
        for _ in range(falls):
            ladder.fell(now_s)
        moved = ladder.step(now_s, hot=hot, short=short)
        assert ladder.rung in (FULL, SMALL, OLD, NOTHING) and moved == (ladder.rung != before)
        assert ladder.degraded == (ladder.rung != FULL) == (ladder.cause is not None)
    for _ in range(4 * int(LONGEST_CLIMB_S / 600)):
        now_s += 600.0
        ladder.step(now_s, hot=False, short=False)
    assert ladder.rung == FULL

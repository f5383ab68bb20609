"""As many connections as there may be: who gives way to whom."""

from __future__ import annotations

import dataclasses
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_agent.crowd import IDLE_S, gives_way

NOW_S = 1000.0


@dataclasses.dataclass(eq=False)
class Held:
    client: str
    idle_since_s: float | None


HELD = st.lists(
    st.builds(Held, st.sampled_from("abc"), st.one_of(st.none(), st.floats(0, NOW_S, allow_nan=False))), max_size=8
)


@given(HELD, st.sampled_from("abcd"))
@settings(derandomize=True, max_examples=400)
def test_only_who_has_more_or_does_nothing_gives_way(guests: list[Held], newcomer: str) -> None:
    held = Counter(each.client for each in guests)
    found = gives_way(guests, newcomer, NOW_S)
    greedy = [each for each in guests if held[each.client] > held[newcomer] + 1]
    if greedy:
        assert found in greedy and found is not None and held[found.client] == max(held.values())
        theirs = [each.idle_since_s for each in guests if each.client == found.client and each.idle_since_s is not None]
        assert found.idle_since_s == min(theirs, default=None), "one at work ended, and an idle one stayed"
        return
    idle = [each.idle_since_s for each in guests if each.idle_since_s is not None]
    if idle and min(idle) < NOW_S - IDLE_S:
        assert found is not None and found.idle_since_s == min(idle)
    else:
        assert found is None


@given(st.integers(2, 40), st.integers(1, 60))
@settings(derandomize=True, max_examples=60)
def test_a_program_that_connects_without_end_leaves_the_others_their_share(places: int, modest: int) -> None:
    guests: list[Held] = []
    for client in ["greedy"] * (places + 20) + ["modest"] * modest + ["greedy"] * 30:
        if len(guests) >= places:
            other = gives_way(guests, client, NOW_S)
            if other is None:
                continue
            guests.remove(other)
        guests.append(Held(client, None))
    held = Counter(each.client for each in guests)
    assert len(guests) == places
    assert held["modest"] >= min(modest, (places - 1) // 2), held

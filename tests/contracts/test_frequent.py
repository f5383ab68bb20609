"""Summaries of labels: never too high, too low by a known amount at most, whatever is merged with what."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_contracts.errors import MismatchError
from skerry_contracts.frequent import Frequent, RunningFrequent, merge_frequent

labels = st.lists(st.sampled_from("abcdefghij"), max_size=120)


def summary_of(stream: Sequence[str], capacity: int = 3) -> Frequent:
    running = RunningFrequent(capacity)
    for label in stream:
        running.add(label)
    return running.record("label")


def holds(found: Frequent, stream: Sequence[str]) -> None:
    assert found.count == len(stream) and found.short * (found.capacity + 1) <= len(stream)
    for label, count in Counter(stream).items():
        assert found.counters.get(label, 0) <= count <= found.most(label)


@given(labels, labels, labels)
def test_counters_hold_their_promise_however_merged(a: list[str], b: list[str], c: list[str]) -> None:
    parts = [summary_of(each) for each in (a, b, c)]
    for part, stream in zip(parts, (a, b, c), strict=True):
        holds(part, stream)
    holds(merge_frequent(parts), a + b + c)
    holds(merge_frequent([merge_frequent(parts[:2]), parts[2]]), a + b + c)
    holds(merge_frequent([parts[0], merge_frequent(parts[1:])]), a + b + c)
    assert merge_frequent(parts) == merge_frequent(parts[::-1])


def test_the_frequent_ones_of_many_are_found() -> None:
    rng = random.Random(3)
    stream = [f"rare-{rng.randrange(5000)}" if rng.random() < 0.5 else f"often-{rng.randrange(4)}" for _ in range(8000)]
    found = summary_of(stream, 32)
    holds(found, stream)
    assert {f"often-{i}" for i in range(4)} <= set(found.counters)


def test_few_labels_are_counted_exactly() -> None:
    assert summary_of("abacab").counters == {"a": 3, "b": 2, "c": 1} and summary_of("abacab").short == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(MismatchError):
        merge_frequent([])
    with pytest.raises(MismatchError):
        merge_frequent([summary_of("a", 2), summary_of("a", 3)])
    for wrong in ({"a": 0}, {"a": 9}, {"a": 1, "b": 1, "c": 1}):
        with pytest.raises(MismatchError):
            Frequent("label", 5, 2, wrong)

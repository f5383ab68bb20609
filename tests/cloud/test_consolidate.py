from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skerry_cloud.labels.consolidate import dawid_skene

LETTERS = st.sampled_from("abc")


def crowd(votes_per_item: int, seed: int) -> tuple[list[tuple[str, str, str]], dict[str, str]]:
    """25 workers, a fifth of them spammers, on 1200 items of ten classes (reference/cloud.md 3.2)."""
    generator = np.random.default_rng(seed)
    skill = np.where(np.arange(25) < 5, 0.1, generator.uniform(0.65, 0.97, 25))
    truth = {f"i{i}": str(generator.integers(10)) for i in range(1200)}
    votes = []
    for item, label in truth.items():
        for worker in generator.permutation(25)[:votes_per_item]:
            right = generator.random() < skill[worker]
            votes.append((item, f"w{worker}", label if right else str(generator.integers(10))))
    return votes, truth


def majority(votes: list[tuple[str, str, str]]) -> dict[str, str]:
    counts: dict[str, dict[str, int]] = {}
    for item, _, label in votes:
        counts.setdefault(item, {}).setdefault(label, 0)
        counts[item][label] += 1
    return {item: max(sorted(each), key=each.__getitem__) for item, each in counts.items()}


def test_it_beats_the_majority_by_knowing_its_workers() -> None:
    gains = []
    for seed in range(5):
        votes, truth = crowd(3, seed)
        result, plain = dawid_skene(votes), majority(votes)
        ours = np.mean([result.labels[item] == label for item, label in truth.items()])
        theirs = np.mean([plain[item] == label for item, label in truth.items()])
        gains.append(ours - theirs)
        spammers = [result.reliability[f"w{i}"] for i in range(5)]
        assert max(spammers) < min(result.reliability[f"w{i}"] for i in range(5, 25))
    assert np.mean(gains) > 0.02


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("uvw"), LETTERS), max_size=30, unique_by=lambda v: v[:2])
)
def test_any_votes_give_a_label_somebody_said(votes: list[tuple[str, str, str]]) -> None:
    result = dawid_skene(votes)
    assert set(result.labels) == {item for item, _, _ in votes}
    for item, label in result.labels.items():
        assert any(label == said for name, _, said in votes if name == item)
        assert 0.0 < result.confidence[item] <= 1.0
    shuffled = dawid_skene(votes[::-1])
    assert shuffled.labels == result.labels


def test_a_lone_workers_rare_labels_are_no_slips() -> None:
    votes = [(f"i{i}", "ann", "a" if i else "b") for i in range(50)]
    assert dawid_skene(votes).labels == {f"i{i}": "a" if i else "b" for i in range(50)}


def test_unanimous_votes_are_sure() -> None:
    result = dawid_skene([(item, worker, label) for item, label in (("x", "a"), ("y", "b")) for worker in "uvw"])
    assert result.labels == {"x": "a", "y": "b"} and min(result.confidence.values()) > 0.99

"""Who wins: candidates that passed the gates in the order of the objective, and who of them ships beside the winner."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from skerry_contracts.evidence import Candidate, Measurement

OBJECTIVES = ("latency", "memory", "size", "balanced")
TIE = 0.03  # latencies closer than this are one: what agrees better wins, then the smaller

Timed = tuple[float, Candidate]  # time of one inference as a share of the original's, and who


def rank(passed: Sequence[Timed], objective: str) -> list[Timed]:
    """Return candidates that passed, best first: by the objective, ties by agreement, size, then name.

    balanced: by the geometric mean of latency, memory and size, so that a tenth less of any weighs the same.
    """
    if objective == "memory":
        return sorted(passed, key=lambda each: (round(figures(each[1]).rss_mb), each[0], each[1].id))
    if objective == "size":
        return sorted(passed, key=lambda each: (figures(each[1]).size_bytes, each[0], each[1].id))
    score: Callable[[Timed], float] = _balanced if objective == "balanced" else lambda each: each[0]
    waiting, ordered = sorted(passed, key=lambda each: (score(each), each[1].id)), []
    while waiting:
        tied = [each for each in waiting if score(each) <= score(waiting[0]) * (1 + TIE)]
        best = min(tied, key=lambda each: (-_agreement(each[1]), figures(each[1]).size_bytes, each[1].id))
        ordered.append(best)
        waiting.remove(best)
    return ordered


def figures(candidate: Candidate) -> Measurement:
    """Return what was measured; everything that is ranked was."""
    assert candidate.measurement is not None
    return candidate.measurement


def leads(candidates: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return the first id of each pair of engine and precision, in order; takes (id, engine, precision)."""
    first: dict[tuple[str, str], str] = {}
    for name, engine, precision in candidates:
        first.setdefault((engine, precision), name)
    return list(first.values())


def survivors(ranked: Sequence[Candidate], most: int) -> list[str]:
    """Return who goes on to the next heat: the better half, and the best of each engine and precision, so that the
    runners-up are known as well as the winner (successive halving: Jamieson and Talwalkar 2016).
    """
    half = {each.id for each in ranked[: max(most, -(-len(ranked) // 2))]}
    kept = half | set(leads([(each.id, each.engine, each.precision) for each in ranked]))
    return [each.id for each in ranked if each.id in kept]


def shipping(
    ranked: Sequence[tuple[str, str, str]], blobs: Mapping[str, Mapping[str, int]], most_bytes: int, small_bytes: int
) -> list[str]:
    """Return the ids that ship: the winner and the two best runners-up that differ from all before in engine or
    precision.

    Args:
        ranked: (id, engine, precision), best first.
        blobs: each candidate's blobs by digest, with their bytes; blobs that are shared cost nothing more.
        most_bytes: what all together may take: every device downloads them.
        small_bytes: a runner-up may always take this much, and else as much as the winner.
    """
    chosen: list[str] = []
    known: dict[str, int] = {}
    kinds: set[tuple[str, str]] = set()
    for name, engine, precision in ranked:
        more = {sha256: size for sha256, size in blobs[name].items() if sha256 not in known}
        first = not chosen
        bound = math.inf if first else max(small_bytes, sum(blobs[chosen[0]].values()))
        fits = sum(more.values()) <= bound and sum(known.values()) + sum(more.values()) <= most_bytes
        if first or ((engine, precision) not in kinds and fits):
            chosen.append(name)
            kinds.add((engine, precision))
            known |= more
        if len(chosen) == 3:
            break
    return chosen


def _balanced(each: Timed) -> float:
    found = figures(each[1])
    return float((max(each[0], 1e-9) * max(found.rss_mb, 1e-3) * max(found.size_bytes, 1)) ** (1 / 3))


def _agreement(candidate: Candidate) -> float:
    """Return the worst cosine in thousandths: finer differences are not worth a byte."""
    return round(candidate.agreement.cosine, 3) if candidate.agreement else 0.0

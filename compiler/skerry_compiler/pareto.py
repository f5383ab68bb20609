"""The Pareto front: what nothing else beats in every figure at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skerry_contracts.evidence import Candidate, Measurement, Verdict

PASSED = (Verdict.CHOSEN, Verdict.RUNNER_UP)


def front(points: Mapping[str, Sequence[float]]) -> frozenset[str]:
    """Return the names of the points that no other point dominates: none is at most as large in every figure and
    smaller in one. Smaller is better; equal points are all on the front.
    """
    return frozenset(
        name for name, point in points.items() if not any(dominates(other, point) for other in points.values())
    )


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether `one` is nowhere worse than `other` and somewhere better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def figures(measurement: Measurement) -> tuple[float, float, int]:
    """Return latency in microseconds to two digits, memory in whole megabytes and size: finer differences are noise."""
    latency = measurement.cpu_ms if measurement.cpu_ms is not None else measurement.latency_p50_ms
    return float(f"{latency * 1e3:.2g}"), float(round(measurement.rss_mb)), measurement.size_bytes


def drawn(plain: Mapping[str, float]) -> tuple[float, float]:
    """Return what a plot of latency against memory shows, as coarse as `figures`; takes a measurement as plain data."""
    return float(f"{(plain.get('cpu_ms') or plain['latency_p50_ms']) * 1e3:.2g}"), float(round(plain["rss_mb"]))


def of(candidates: Sequence[Candidate]) -> frozenset[str]:
    """Return the ids of the measured candidates on the front of latency, memory and size; only those that passed the
    gates count.
    """
    points = {
        each.id: figures(each.measurement)
        for each in candidates
        if each.verdict in PASSED and each.measurement is not None
    }
    return front(points)

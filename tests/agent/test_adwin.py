"""The drift alarm's window: known changes are found soon, still streams stay quiet, memory stays small."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_agent.adwin import ROW, Adwin, Change

STILL: dict[str, Callable[[random.Random], float]] = {
    "gauss": lambda rng: rng.gauss(0.5, 0.1),
    "bernoulli": lambda rng: float(rng.random() < 0.1),
    "constant": lambda rng: 0.7,
    "skewed": lambda rng: 1 - rng.expovariate(20),
}


def run(values: list[float], delta: float = 1e-4) -> list[tuple[int, Change]]:
    window, found = Adwin(delta), []
    for i, value in enumerate(values):
        if (change := window.add(value)) is not None:
            found.append((i, change))
    return found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("shift", "late"), [(0.1, 900), (0.25, 250), (-0.4, 160)])
def test_a_known_change_is_found_within_the_band(seed: int, shift: float, late: int) -> None:
    rng = random.Random(seed)
    values = [min(max(rng.gauss(0.6 + shift * (i >= 3000), 0.15), 0), 1) for i in range(5000)]
    found = run(values)
    assert found and 3000 <= found[0][0] < 3000 + late
    assert found[0][1].before == pytest.approx(0.6, abs=0.05)
    assert found[-1][1].after == pytest.approx(0.6 + shift, abs=0.08)


def test_a_slow_change_is_found_too() -> None:
    rng = random.Random(9)
    assert run([min(max(rng.gauss(0.5 + 0.3 * min(1, i / 8000), 0.1), 0), 1) for i in range(9000)])


@pytest.mark.parametrize("kind", STILL)
def test_still_streams_raise_no_alarm(kind: str) -> None:
    alarms = 0
    for seed in range(10):
        rng = random.Random(f"{kind} {seed}")
        alarms += len(run([STILL[kind](rng) for _ in range(20_000)]))
    assert alarms == 0  # of 6 000 checks each


def test_memory_is_bounded_and_the_window_is_the_whole_stream() -> None:
    rng, window = random.Random(1), Adwin(1e-4)
    for _ in range(50_000):
        window.add(rng.random())
    assert window.count == 50_000 and window.mean == pytest.approx(0.5, abs=0.01)
    assert sum(map(len, window._rows)) <= ROW * 16


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=300))
def test_anything_may_come(values: list[float]) -> None:
    window = Adwin(0.1)
    for value in values:
        change = window.add(value)
        assert change is None or (0 <= change.before <= 1 and 0 <= change.after <= 1.0000001 and change.count > 0)
    assert window.count <= len(values)

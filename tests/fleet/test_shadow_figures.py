"""How sure a shadow's agreement is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_fleet import shadow_figures as figures


@settings(derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 1)), max_size=20))
def test_the_interval_holds_the_rate_and_more_devices_narrow_it(parts: list[tuple[int, float]]) -> None:
    counts = [(total, int(total * share)) for total, share in parts]
    found = figures.interval(counts)
    if not sum(total for total, _ in counts):
        assert found is None
        return
    assert found is not None and 0 <= found["low"] <= found["rate"] <= found["high"] <= 1 and found["effect"] >= 1
    again = figures.interval(counts * 4)
    assert again is not None and again["rate"] == pytest.approx(found["rate"])
    if len([1 for total, _ in counts if total]) > 1:
        assert again["high"] - again["low"] <= found["high"] - found["low"] + 1e-9


def test_the_interval_covers_the_truth_where_devices_differ() -> None:
    """Devices whose own rates vary: the plain interval would miss far too often."""
    rng = np.random.default_rng(7)
    hits = plain_hits = 0
    for _ in range(400):
        rates = rng.beta(18, 2, size=12)
        parts = [(400, 400 - int(rng.binomial(400, rate))) for rate in rates]
        found = figures.interval(parts)
        plain = figures.interval([(sum(total for total, _ in parts), sum(other for _, other in parts))])
        assert found is not None and plain is not None
        hits += found["low"] <= 0.9 <= found["high"]
        plain_hits += plain["low"] <= 0.9 <= plain["high"]
    assert hits / 400 > 0.88 and plain_hits / 400 < 0.5

"""Trials with real workers: the fastest variant that keeps its promises is chosen, whatever the bundle's order."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.serving_parts import Parts, bundle, compiled, put

from skerry_agent.records import Measured
from skerry_agent.runtime import Runtime
from skerry_agent.trial import TIE, TrialError, hold, ordered
from skerry_contracts.bundle import Contract, Manifest, Variant
from skerry_contracts.device import Reason

SLOW = """
#include <stdint.h>
const uint32_t skerry_abi = 1;
const uint64_t skerry_sizes[] = {1, 1, 16, 16};
int32_t skerry_run(const void *const *inputs, void *const *outputs) {
  const float *x = inputs[0];
  float *y = outputs[0];
  for (volatile int i = 0; i < WORK; i++) ;
  for (int i = 0; i < 4; i++) y[i] = FACTOR * x[i];
  return 0;
}
"""


def variant(parts: Parts, name: str, *, work: int = 0, factor: int = 2) -> Variant:
    """Return a variant that takes its time, or multiplies by something else than it should."""
    library = put(parts.folder, compiled(parts.folder, SLOW, WORK=work, FACTOR=factor))
    return dataclasses.replace(parts.variant, id=name, blobs={"library": library})


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    yield bundle(tmp_path, compiled(tmp_path))


def choose(parts: Parts, variants: list[Variant], **promises: float) -> tuple[Measured, str]:
    """Return what a trial found, and which variant its slot then runs."""
    manifest: Manifest = dataclasses.replace(parts.manifest, variants=tuple(variants), contract=Contract(**promises))  # type: ignore[arg-type]

    async def play() -> tuple[Measured, str]:
        runtime = Runtime()
        try:
            measured = await hold(runtime, "toy", parts.folder, manifest, "b" * 64, variants)
            slot = runtime.slot("toy")
            assert slot is not None
            return measured, slot.variant.id
        except TrialError:
            assert runtime.slot("toy") is None
            raise
        finally:
            await runtime.close()

    return asyncio.run(play())


def test_the_fastest_is_chosen_even_if_it_stands_last(parts: Parts) -> None:
    found, runs = choose(parts, [variant(parts, "slow", work=3_000_000), variant(parts, "fast")])
    assert found.variant == runs == "fast" and found.golden_passed == 2


def test_the_fastest_is_started_again_if_it_stands_first(parts: Parts) -> None:
    found, runs = choose(parts, [variant(parts, "fast"), variant(parts, "slow", work=3_000_000)])
    assert found.variant == runs == "fast"


def test_a_fast_variant_that_answers_wrongly_is_passed_over(parts: Parts) -> None:
    found, runs = choose(parts, [variant(parts, "wrong", factor=3), variant(parts, "slow", work=1_000_000)])
    assert found.variant == runs == "slow"


def test_a_variant_that_does_not_load_is_passed_over(parts: Parts) -> None:
    broken = dataclasses.replace(parts.variant, id="broken", blobs={"library": put(parts.folder, b"no library")})
    found, runs = choose(parts, [broken, variant(parts, "good"), variant(parts, "wrong", factor=3)])
    assert found.variant == runs == "good"


def test_none_that_keeps_the_contract_is_a_failure_with_its_reason(parts: Parts) -> None:
    with pytest.raises(TrialError) as caught:
        choose(parts, [variant(parts, "slow", work=3_000_000)], latency_p95_ms=0.01)
    assert caught.value.reason == Reason.CONTRACT and "slow: " in str(caught.value)
    with pytest.raises(TrialError) as caught:
        choose(parts, [variant(parts, "wrong", factor=3)])
    assert caught.value.reason == Reason.GOLDEN


@given(st.lists(st.floats(0.001, 100.0), min_size=1, max_size=5))
def test_the_order_is_total_and_starts_with_the_first_near_the_fastest(medians: list[float]) -> None:
    passed = [Measured(f"v{i}", 1, median, median, 1) for i, median in enumerate(medians)]
    found = ordered(passed)
    assert sorted(each.variant for each in found) == [each.variant for each in passed]
    near = [each for each in passed if each.latency_p50_ms <= min(medians) * TIE]
    assert found[0] is near[0]

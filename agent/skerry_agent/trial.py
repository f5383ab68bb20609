"""A bundle's trial: every variant this hardware can run is loaded, asked the golden vectors and timed; the fastest that
keeps its promises is chosen.

What was fastest where the bundle was compiled need not be here: another cache, another core, another neighbour. Where
two are as good as equal the bundle's own order decides, so that devices of one kind choose alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skerry_agent.errors import AgentError, WorkerError
from skerry_agent.golden import GoldenResult
from skerry_agent.records import Measured
from skerry_agent.runtime import Runtime
from skerry_contracts.bundle import Contract, Manifest, Variant
from skerry_contracts.device import Reason

RUNS = 50
MOST = 3  # variants measured: a bundle carries few, and a trial must end in time
TIE = 1.05


class TrialError(AgentError):
    """No variant passed; `reason` and the words are those of the last."""

    def __init__(self, message: str, *, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


async def hold(
    runtime: Runtime, slot: str, blobs: Path, manifest: Manifest, bundle: str, variants: Sequence[Variant]
) -> Measured:
    """Return what the chosen variant measured; its worker is left running in the slot.

    Raises:
        TrialError: none of them passed; nothing is left in the slot.
    """
    reason, words = Reason.LOAD, "no variant"
    passed: list[Measured] = []
    running = ""
    for variant in variants[:MOST]:
        await runtime.stop(slot)  # one candidate at a time: the device must not need the memory of two
        running = ""
        try:
            await runtime.start(slot, blobs, variant, manifest, bundle=bundle)
            result = await runtime.golden(slot, manifest, blobs, runs=RUNS)
        except WorkerError as error:
            reason, words = error.reason, f"{variant.id}: {error}"
            continue
        running = variant.id
        broken = _broken(result, manifest.contract)
        if broken is None:
            passed.append(
                Measured(variant.id, result.passed, result.latency_p50_ms, result.latency_p95_ms, result.rss_bytes)
            )
        else:
            reason, words = broken[0], f"{variant.id}: {broken[1]}"
    for each in ordered(passed):
        if each.variant == running:
            return each
        variant = next(one for one in variants if one.id == each.variant)
        await runtime.stop(slot)
        try:
            await runtime.start(slot, blobs, variant, manifest, bundle=bundle)
        except WorkerError as error:
            reason, words, running = error.reason, f"{variant.id}: {error}", ""
            continue
        return each
    await runtime.stop(slot)
    raise TrialError(words, reason=reason)


def ordered(passed: Sequence[Measured]) -> list[Measured]:
    """Return variants that passed, the best first: the first of those within a twentieth of the fastest median."""
    waiting, found = list(passed), []
    while waiting:
        fastest = min(each.latency_p50_ms for each in waiting)
        best = next(each for each in waiting if each.latency_p50_ms <= fastest * TIE)
        found.append(best)
        waiting.remove(best)
    return found


def _broken(result: GoldenResult, contract: Contract) -> tuple[Reason, str] | None:
    """Return which promise a trial broke, and how; None where it kept all.

    The median is held against the promised 95th percentile: a busy device delays single inferences, a slow variant
    all of them.
    """
    if not result.ok:
        return Reason.GOLDEN, f"{result.passed} of {result.count} golden vectors: {'; '.join(result.failures)[:200]}"
    if contract.latency_p95_ms is not None and result.latency_p50_ms > contract.latency_p95_ms:
        return Reason.CONTRACT, f"{result.latency_p50_ms:.3f} ms median, promised p95 {contract.latency_p95_ms:.3f} ms"
    if contract.memory_bytes is not None and result.rss_bytes > contract.memory_bytes:
        return Reason.CONTRACT, f"{result.rss_bytes} bytes of memory, promised {contract.memory_bytes}"
    return None

"""Every candidate runs beside the original, in rounds; gates decide who may ship, the objective who wins.

Gates: never slower than the original in its default runtime; answers within the budget of its precision; inside the
target's limits.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from skerry_compiler import agreement, data
from skerry_compiler.errors import ToolError
from skerry_compiler.measure import Process, baseline_command, probe_command
from skerry_contracts import codec
from skerry_contracts.bundle import Signature, Variant
from skerry_contracts.evidence import Agreement, Candidate, Measurement, Verdict
from skerry_targets.profile import Budget

OBJECTIVES = ("latency", "memory", "size")
ROUNDS = 8
MIN_ROUNDS = 3
FLOAT_COSINE, FLOAT_RANGE_SHARE, FLOAT_TOP1 = 0.9999, 1e-4, 0.999
INT8_COSINE, INT8_TOP1 = 0.99, 1.0
ACCURACY_BUDGET = 0.01  # share of rows that a candidate may get wrong beyond the original
TIE = 0.03  # latencies closer than this are one: what agrees better wins, then the smaller
MAX_JSON_FLOAT = 1e30

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A candidate as the tournament sees it: a variant whose blobs lie in the folder, and its bytes on disk."""

    variant: Variant
    size_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Verdicts in the order of rank, the original's figures, its answers on the evaluation rows."""

    candidates: tuple[Candidate, ...]
    ranked: tuple[str, ...]
    original: Measurement
    original_accuracy: float | None
    expected: agreement.Outputs
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """Where a tournament happens: blobs, manifest of all candidates, and the rows lie in `folder`."""

    folder: Path
    original: Path
    original_bytes: int
    signature: Signature
    rows: data.Rows
    budget: Budget
    objective: str
    time_s: float


def play(field: Field, entries: Sequence[Entry], say: Say) -> Outcome:
    """Measure every entry beside the original and return the verdicts.

    Raises:
        ToolError: the original itself does not run.
    """
    write_field(field, [entry.variant for entry in entries])
    folder = field.folder
    rows = folder / "rows"
    command = baseline_command(field.original, folder / "signature.json", rows, folder / "original.out")
    original = Process(command, "the original")
    running: dict[str, Process] = {}
    failed: dict[str, str] = {}
    try:
        for entry in entries:
            name = entry.variant.id
            try:
                running[name] = Process(probe_command(folder, name, rows, folder / f"{name}.out"), name)
            except ToolError as error:
                failed[name] = str(error)
        rounds = _rounds(original, running, failed, field.time_s, say)
        _finish(original, running, failed)
    finally:
        for process in (original, *running.values()):
            process.stop()
    notes = [f"{rounds} rounds, each candidate beside the original on one thread; times are of the processor"]
    return _judge(field, entries, original, running, failed, notes)


def write_field(field: Field, variants: Sequence[Variant]) -> None:
    """Write what measuring processes read: the variants with the signature, and the rows."""
    signature = codec.to_plain(field.signature)
    manifest = {"variants": [codec.to_plain(each) for each in variants], "signature": signature}
    (field.folder / "manifest.json").write_text(json.dumps(manifest))
    (field.folder / "signature.json").write_text(json.dumps(signature))
    (field.folder / "rows").write_bytes(field.rows.to_bytes())


def _rounds(original: Process, running: dict[str, Process], failed: dict[str, str], time_s: float, say: Say) -> int:
    """Run interleaved rounds until there are enough or the time is up; return how many."""
    deadline = time.monotonic() + time_s
    done = 0
    for step in range(ROUNDS + 1):
        if step > MIN_ROUNDS and time.monotonic() > deadline:
            break
        for process in (original, *running.values()):
            if process.name in failed:
                continue
            try:
                process.warm() if step == 0 else process.round()
            except ToolError as error:
                if process is original:
                    raise
                failed[process.name] = str(error)
        done = step
        say(f"round {step} of {ROUNDS}")
    return done


def _finish(original: Process, running: dict[str, Process], failed: dict[str, str]) -> None:
    original.finish()
    for name, process in running.items():
        if name in failed:
            continue
        try:
            process.finish()
        except ToolError as error:
            failed[name] = str(error)


def _judge(
    field: Field,
    entries: Sequence[Entry],
    original: Process,
    running: dict[str, Process],
    failed: dict[str, str],
    notes: list[str],
) -> Outcome:
    signature, count = field.signature, len(field.rows)
    expected = data.outputs_of((field.folder / "original.out").read_bytes(), signature.outputs, count)
    base = agreement.accuracy(signature, expected, field.rows.labels)
    judged: list[tuple[float, Candidate]] = []
    for entry in entries:
        variant = entry.variant
        about = (variant.id, variant.engine, variant.precision)
        if variant.id in failed:
            judged.append((0.0, Candidate(*about, Verdict.FAILED, failed[variant.id])))
            continue
        process = running[variant.id]
        found = data.outputs_of((field.folder / f"{variant.id}.out").read_bytes(), signature.outputs, count)
        agrees = agreement.compare(signature, expected, found, field.rows.labels)
        figures = process.samples.measurement(process.peak_rss_bytes, process.cold_start_ms, entry.size_bytes)
        limits = Limits(field.budget, original.samples.best_ns, agreement.range_of(signature, expected), base)
        verdict, reason = gate(variant.precision, process.samples.best_ns, figures, agrees, limits)
        agrees = dataclasses.replace(agrees, max_abs=min(agrees.max_abs, MAX_JSON_FLOAT))
        judged.append((process.samples.best_ns, Candidate(*about, verdict, reason, figures, agrees)))
    figures = original.samples.measurement(original.peak_rss_bytes, original.cold_start_ms, field.original_bytes)
    passed = rank([each for each in judged if each[1].verdict is Verdict.RUNNER_UP], field.objective)
    ranked = tuple(candidate.id for _, candidate in passed)
    speed = {candidate.id: original.samples.best_ns / ns for ns, candidate in judged if ns}
    final = tuple(_final(candidate, ranked, speed) for _, candidate in judged)
    return Outcome(final, ranked, figures, base, expected, tuple(notes))


def _final(candidate: Candidate, ranked: tuple[str, ...], speed: dict[str, float]) -> Candidate:
    if candidate.verdict is not Verdict.RUNNER_UP:
        return candidate
    place = ranked.index(candidate.id)
    verdict = Verdict.CHOSEN if place == 0 else Verdict.RUNNER_UP
    return dataclasses.replace(
        candidate, verdict=verdict, reason=f"{speed[candidate.id]:.2f} times as fast as the original"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate is held to: the target's budget, the original's time, range of values and accuracy."""

    budget: Budget
    original_ns: float
    value_range: float
    accuracy: float | None


def gate(
    precision: str, best_ns: float, figures: Measurement, agrees: Agreement, limits: Limits
) -> tuple[Verdict, str]:
    """Return whether a candidate may ship (RUNNER_UP) or what keeps it, with the reason in words."""
    wrong = _inaccurate(precision, agrees, limits)
    if wrong:
        return Verdict.INACCURATE, wrong
    if figures.size_bytes > limits.budget.artifact_bytes:
        return Verdict.TOO_LARGE, f"{figures.size_bytes} bytes, the target allows {limits.budget.artifact_bytes}"
    if figures.rss_mb * 1e6 > limits.budget.memory_bytes:
        return (
            Verdict.TOO_LARGE,
            f"{figures.rss_mb:.0f} MB of memory, the target allows {limits.budget.memory_bytes / 1e6:.0f}",
        )
    if best_ns > limits.original_ns:
        return Verdict.SLOWER, f"{limits.original_ns / best_ns:.2f} times as fast as the original"
    return Verdict.RUNNER_UP, ""


def _inaccurate(precision: str, agrees: Agreement, limits: Limits) -> str | None:
    if limits.accuracy is not None and agrees.accuracy is not None:
        lost = limits.accuracy - agrees.accuracy
        if lost > ACCURACY_BUDGET:
            return f"accuracy {agrees.accuracy:.4f}, the original's is {limits.accuracy:.4f}"
    if precision == "fp32":
        off = agrees.max_abs / limits.value_range
        if agrees.cosine < FLOAT_COSINE or off > FLOAT_RANGE_SHARE or agrees.top1 < FLOAT_TOP1:
            return f"off by {off:.2g} of the range, {agrees.top1:.1%} same classes, worst cosine {agrees.cosine:.5f}"
        return None
    if agrees.cosine < INT8_COSINE and agrees.top1 < INT8_TOP1:
        return f"worst cosine {agrees.cosine:.4f} (at least {INT8_COSINE}), {agrees.top1:.1%} same classes"
    return None


def rank(passed: Sequence[tuple[float, Candidate]], objective: str) -> list[tuple[float, Candidate]]:
    """Return candidates that passed, best first: by the objective, ties by agreement, size, then name."""

    def figures(candidate: Candidate) -> Measurement:
        assert candidate.measurement is not None
        return candidate.measurement

    if objective == "memory":
        return sorted(passed, key=lambda each: (round(figures(each[1]).rss_mb), each[0], each[1].id))
    if objective == "size":
        return sorted(passed, key=lambda each: (figures(each[1]).size_bytes, each[0], each[1].id))
    waiting, ordered = sorted(passed, key=lambda each: (each[0], each[1].id)), []
    while waiting:
        tied = [each for each in waiting if each[0] <= waiting[0][0] * (1 + TIE)]
        best = min(tied, key=lambda each: (-_agreement(each[1]), figures(each[1]).size_bytes, each[1].id))
        ordered.append(best)
        waiting.remove(best)
    return ordered


def _agreement(candidate: Candidate) -> float:
    """Return the worst cosine in thousandths: finer differences are not worth a byte."""
    return round(candidate.agreement.cosine, 3) if candidate.agreement else 0.0

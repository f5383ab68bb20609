"""The tournament: many candidates, little time. Every heat runs beside the original; the better half goes on to a
longer one (successive halving: Jamieson and Talwalkar, "Non-stochastic best arm identification", 2016), the best of
each engine and precision always. Gates decide who may ship, the objective who wins.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from skerry_compiler import agreement, data, gates, heats, ranking, verdicts
from skerry_compiler.engines.candidate import GIVEN
from skerry_compiler.errors import ToolError
from skerry_compiler.heats import Heat, Plan, Say, Timing
from skerry_compiler.measure import Patience, Process, baseline_command, probe_command
from skerry_compiler.verdicts import Answers
from skerry_contracts import codec
from skerry_contracts.bundle import Signature, Variant
from skerry_contracts.evidence import Candidate, Measurement, Verdict
from skerry_targets.profile import Budget

ROUNDS = 8
TRIAL_ROUNDS = 2
MIN_ROUNDS = 3
FINALISTS = heats.GROUP
TRIAL_SHARE = 0.6  # of the budget: the rest is the final's
TRIAL_DOUBT = 1.25  # a trial's few rounds are noisy: only what is this much slower is out
ALL_ROWS_S, FEW_ROWS_S = 5.0, 0.5  # for the original's answers; what is slow is compared on fewer rows
MIN_ROWS, MIN_FEW_ROWS = 16, 8


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A candidate as the tournament sees it: a variant whose blobs lie in the folder, and its bytes on disk."""

    variant: Variant
    size_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Verdicts in the order of the entries, who passed the final (best first), the original's figures and answers."""

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
    deadline: float
    threads: int = 1


@dataclasses.dataclass(slots=True)
class Play:
    """A tournament under way: the last verdict on each candidate, the best speed so far, and the rows in use."""

    field: Field
    entries: dict[str, Entry]
    patience: Patience
    count: int
    few: int
    verdicts: dict[str, Candidate] = dataclasses.field(default_factory=dict)
    shares: dict[str, float] = dataclasses.field(default_factory=dict)
    original: Timing | None = None
    expected: agreement.Outputs = ()
    noisy: agreement.Outputs | None = None
    rounds: int = 0


def play(field: Field, entries: Sequence[Entry], say: Say) -> Outcome:
    """Measure every entry beside the original and return the verdicts.

    Raises:
        ToolError: the original itself does not run.
    """
    write_field(field, [entry.variant for entry in entries])
    state = _pilot(field, {entry.variant.id: entry for entry in entries})
    waiting = _in_order(entries)
    begun = time.monotonic()
    trial_end = begun + (field.deadline - begun) * TRIAL_SHARE
    rounds, stage = TRIAL_ROUNDS, 1
    while len(waiting) > FINALISTS:
        _heat(state, waiting, (rounds, rounds, trial_end), say, f"heat {stage} of {len(waiting)}")
        passed = _passed(state, waiting)
        kept = ranking.survivors([candidate for _, candidate in passed], FINALISTS)
        rounds, stage, shrunk = rounds * 2, stage + 1, len(kept) < len(waiting)
        waiting = kept
        if not shrunk or rounds > ROUNDS or time.monotonic() > trial_end:
            break
    ranked = _final(state, waiting, say)
    return _outcome(state, entries, ranked)


def write_field(field: Field, variants: Sequence[Variant]) -> None:
    """Write what measuring processes read: the variants with the signature."""
    signature = codec.to_plain(field.signature)
    manifest = {"variants": [codec.to_plain(each) for each in variants], "signature": signature}
    (field.folder / "manifest.json").write_text(json.dumps(manifest))
    (field.folder / "signature.json").write_text(json.dumps(signature))


def _pilot(field: Field, entries: dict[str, Entry]) -> Play:
    """Run the original alone to learn its speed: from it follow how many rows are compared and how long to wait."""
    (field.folder / "rows").write_bytes(field.rows.head(1).to_bytes())
    process = Process(_original(field), "the original", threads=field.threads)
    try:
        process.warm()
        process.round()
        process.finish()
    finally:
        process.stop()
    each_s = process.samples.best_ns / 1e9
    count = max(MIN_ROWS, min(len(field.rows), int(ALL_ROWS_S / each_s)))
    few = max(MIN_FEW_ROWS, min(count, int(FEW_ROWS_S / each_s)))
    slow = 30 * each_s  # a candidate this much slower than the original hangs, as far as anyone cares
    patience = Patience(20 + 10 * process.cold_start_ms / 1e3 + slow, 10 + 10 * slow, 30 + count * slow)
    return Play(field, entries, patience, min(count, len(field.rows)), min(few, len(field.rows)))


def _original(field: Field) -> list[str]:
    folder = field.folder
    return baseline_command(
        field.original, folder / "signature.json", folder / "rows", folder / "original.out", field.threads
    )


def _in_order(entries: Sequence[Entry]) -> list[str]:
    """Return the ids with the first of each engine and precision in front: whatever the time, those are measured."""
    about = [(each.variant.id, each.variant.engine, each.variant.precision) for each in entries]
    first = ranking.leads(about)
    return [*first, *(name for name, _, _ in about if name not in first)]


def _heat(state: Play, names: Sequence[str], bounds: tuple[int, int, float], say: Say, stage: str) -> Heat:
    """Measure candidates and judge them; `bounds` are most rounds, least rounds, deadline."""
    final = bounds[0] == ROUNDS
    field, count = state.field, state.count if final else state.few
    folder = field.folder
    rows = folder / "rows"
    rows.write_bytes(field.rows.head(count).to_bytes())
    commands = {name: probe_command(folder, name, rows, folder / f"{name}.out") for name in names}
    most, least, deadline = bounds
    stage += _best(state)
    plan = Plan(_original(field), commands, state.patience, most, least, deadline, field.threads)
    heat = heats.run(names, plan, lambda words: say(f"{stage}: {words}"))
    assert heat.original is not None
    state.original, state.rounds = heat.original, heat.rounds
    content = (folder / "original.out").read_bytes()
    state.expected = data.outputs_of(content, field.signature.outputs, count)
    if final and state.noisy is None and any(state.entries[name].variant.precision != "fp32" for name in names):
        state.noisy = _noisy(state, count)
    _judge(state, heat, names, count, final=final)
    return heat


def _noisy(state: Play, count: int) -> agreement.Outputs | None:
    """Return the original's answers where the rows' floats are moved by one byte's step (does it keep to its own?);
    None where it refuses such rows.
    """
    field, folder = state.field, state.field.folder
    rows, answers = folder / "noisy.rows", folder / "noisy.out"
    rows.write_bytes(data.Rows(gates.noise(field.rows.head(count).tensors)).to_bytes())
    try:
        process = Process(
            baseline_command(field.original, folder / "signature.json", rows, answers), "the original", state.patience
        )
        try:
            process.finish()
        finally:
            process.stop()
    except ToolError:
        return None
    return data.outputs_of(answers.read_bytes(), field.signature.outputs, count)


def _best(state: Play) -> str:
    passed = _passed(state, list(state.verdicts))
    if not passed:
        return ""
    name = min(passed)[1].id if state.field.objective == "latency" else passed[0][1].id
    return f", best {name} {1 / state.shares[name]:.1f}x"


def _judge(state: Play, heat: Heat, names: Sequence[str], count: int, *, final: bool) -> None:
    field, original = state.field, heat.original
    signature, rows = field.signature, field.rows.head(count)
    assert original is not None
    noisy = state.noisy if final else None
    answers = Answers(signature, state.expected, rows.labels, noisy, rows.made_up)
    doubt = 1.0 if final else TRIAL_DOUBT
    labelled = rows.labels is not None and not final  # a few rows do not settle what the labels of all decide
    for name in names:
        variant = state.entries[name].variant
        about = (name, variant.engine, variant.precision)
        if name in heat.failed:
            state.verdicts[name] = Candidate(*about, Verdict.FAILED, heat.failed[name].removeprefix(f"{name}: "))
            continue
        if name not in heat.timings:
            words = "not measured: the time was up; a larger --budget measures it"
            state.verdicts.setdefault(name, Candidate(*about, Verdict.UNMEASURED, words))
            continue
        timing = heat.timings[name]
        found = data.outputs_of((field.folder / f"{name}.out").read_bytes(), signature.outputs, count)
        figures = timing.samples.measurement(
            timing.peak_rss_bytes, timing.cold_start_ms, state.entries[name].size_bytes
        )
        refusal = None if labelled else answers.refusal(variant.precision, found, own=name == GIVEN)
        verdict, reason = verdicts.gate(timing.share / doubt, figures, refusal, field.budget)
        state.shares[name] = timing.share
        state.verdicts[name] = Candidate(
            *about, verdict, reason, figures, answers.compare(found), speed=round(1 / timing.share, 4)
        )


def _passed(state: Play, names: Sequence[str]) -> list[ranking.Timed]:
    """Return those of these that no gate keeps, best first; times are shares of the original's."""
    passed = [
        (state.shares[name], state.verdicts[name])
        for name in names
        if name in state.shares and state.verdicts[name].verdict is Verdict.RUNNER_UP
    ]
    return ranking.rank(passed, state.field.objective)


def _final(state: Play, finalists: Sequence[str], say: Say) -> tuple[str, ...]:
    """Run the final on all rows; if its gates keep every finalist, those who came next have theirs."""
    names = list(finalists)
    while names:
        bounds = (ROUNDS, MIN_ROUNDS, state.field.deadline)
        heat = _heat(state, names, bounds, say, f"final of {len(names)}")
        passed = _passed(state, list(heat.timings))
        if passed:
            return tuple(candidate.id for _, candidate in passed)
        known = set(names)
        finalists = [*finalists, *names]
        names = [each.id for _, each in _passed(state, list(state.verdicts)) if each.id not in known][:FINALISTS]
    return ()


def _outcome(state: Play, entries: Sequence[Entry], ranked: tuple[str, ...]) -> Outcome:
    field, original = state.field, state.original
    assert original is not None
    rows = field.rows.head(len(state.expected[0]))
    base = agreement.accuracy(field.signature, state.expected, rows.labels)
    figures = original.samples.measurement(original.peak_rss_bytes, original.cold_start_ms, field.original_bytes)
    final = tuple(_worded(state, state.verdicts[entry.variant.id], ranked) for entry in entries)
    notes = [f"{state.rounds} rounds, each candidate beside the original {_judged(field.threads)}"]
    if len(rows) < len(field.rows):
        notes.append(f"answers were compared on the first {len(rows)} of {len(field.rows)} rows: the original is slow")
    return Outcome(final, ranked, figures, base, state.expected, tuple(notes))


def _judged(threads: int) -> str:
    """Return on what the rounds ran and by which time they were judged."""
    cores = len(os.sched_getaffinity(0))
    if threads == 1:
        return "on one thread; times are of the processor"
    few = f" ({cores}, as many cores as there are here)" if cores < threads else ""
    return f"on up to {threads} threads each{few}; times are by the clock"


def _worded(state: Play, candidate: Candidate, ranked: tuple[str, ...]) -> Candidate:
    """Return a candidate that passed with its place in words."""
    if candidate.verdict is not Verdict.RUNNER_UP:
        return candidate
    words = f"{1 / state.shares[candidate.id]:.2f} times as fast as the original"
    if candidate.id not in ranked:
        return dataclasses.replace(candidate, reason=f"{words}; overtaken before the final")
    verdict = Verdict.CHOSEN if candidate.id == ranked[0] else Verdict.RUNNER_UP
    return dataclasses.replace(candidate, verdict=verdict, reason=words)

"""Candidates for browsers, measured in one: what a browser on this machine answers and takes is what the bundle's users
get, so that there the tournament need not go by a static order.

The original's default runtime in a browser is onnxruntime-web with the model as it is. Where that is not installed,
candidates on it stay unmeasured, and generated code is timed alone.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

from skerry_compiler import data, foreign, ranking
from skerry_compiler.engines import candidate
from skerry_compiler.engines.onnxruntime import PLAIN
from skerry_compiler.errors import CompileError, ToolError
from skerry_compiler.verdicts import Answers
from skerry_compiler.web import check, package, standalone
from skerry_contracts.evidence import Candidate, Verdict

Say = Callable[[str], None]

BROWSER = "browser"
ROUNDS = 2  # the quieter one counts
NEAR = 2.0  # times the fastest: a second round changes nothing for the others
# Verdicts that do without a measurement: those that passed, and bytes whose speed was not known.
_OPEN = (Verdict.CHOSEN, Verdict.RUNNER_UP, Verdict.UNMEASURED)


def play(field: foreign.Field, built: Sequence[candidate.Built], deadline: float, say: Say) -> foreign.Outcome:
    """Rank candidates for a target that this machine cannot run; those for browsers by what one here measures.

    Args:
        field: what they are judged by.
        built: they.
        deadline: of time.monotonic: what has not begun by then stays unmeasured.
        say: told of each.

    Raises:
        LimitError, CompileError: none fits, or none is left.
    """
    outcome = foreign.play(field, built)
    command = check.browser()
    if field.profile.abi.os != BROWSER or command is None:
        return outcome
    by_id = {each.variant.id: each for each in built}
    waiting = [each for each in outcome.candidates if each.verdict in _OPEN and _measurable(by_id.get(each.id))]
    waiting.sort(key=lambda each: (each.id not in outcome.ranked, each.id != PLAIN))
    seen: dict[str, check.Seen | str] = {}
    for number in range(ROUNDS):
        for each in _near(waiting, seen):
            if time.monotonic() < deadline:
                say(f"measuring {len(waiting)} candidates in the browser, round {number + 1}: now {each.id}")
                seen[each.id] = _quieter(seen.get(each.id), _seen(field, outcome, by_id[each.id]))
    return _ranked(field, outcome, {name: each for name, each in seen.items() if each != ""})


def _near(waiting: Sequence[Candidate], seen: Mapping[str, check.Seen | str]) -> list[Candidate]:
    """Return whom a round measures: all at first, then the original and those that may still be the fastest."""
    times = {name: each.run_ms for name, each in seen.items() if isinstance(each, check.Seen)}
    if not times:
        return list(waiting) if not seen else []
    most = NEAR * min(times.values())
    return [each for each in waiting if times.get(each.id, math.inf) <= most or (each.id == PLAIN and PLAIN in times)]


def _measurable(built: candidate.Built | None) -> bool:
    return built is not None and (built.variant.engine == package.NATIVE or set(built.blobs) == {"model"})


def _seen(field: foreign.Field, outcome: foreign.Outcome, built: candidate.Built) -> check.Seen | str:
    """Return what a browser makes of a candidate, why it does not run there, or "" where nothing here can tell."""
    rows, one = _few(field), field.rows.head(1).to_bytes()
    answer = data.Rows(tuple(each[:1] for each in outcome.expected)).to_bytes()
    try:
        made = standalone.made(field.profile.id, field.signature, built.variant, built.blobs, one, answer)
        return check.check(made, rows.to_bytes(), demo=False)
    except ToolError:
        return ""
    except CompileError as error:
        return str(error)


def _few(field: foreign.Field) -> data.Rows:
    row_bytes = sum(spec.size_bytes for spec in field.signature.inputs)
    return field.rows.head(max(1, min(foreign.PARITY_ROWS, foreign.PARITY_BYTES // max(1, row_bytes))))


def _quieter(one: check.Seen | str | None, two: check.Seen | str) -> check.Seen | str:
    return one if isinstance(one, check.Seen) and isinstance(two, check.Seen) and one.run_ms <= two.run_ms else two


def _ranked(field: foreign.Field, outcome: foreign.Outcome, seen: dict[str, check.Seen | str]) -> foreign.Outcome:
    times = {name: each.run_ms for name, each in seen.items() if isinstance(each, check.Seen)}
    judged = [
        _judged(field, outcome, each, seen[each.id], times) if each.id in seen else each for each in outcome.candidates
    ]
    passed = [each for each in judged if each.verdict in (Verdict.CHOSEN, Verdict.RUNNER_UP)]
    if not times or not passed:
        return outcome
    order = {name: at for at, name in enumerate(outcome.ranked)}
    passed.sort(key=lambda each: (times.get(each.id, math.inf), order.get(each.id, len(order))))
    best = [
        each for each in passed if times.get(each.id, math.inf) <= times.get(passed[0].id, math.inf) * (1 + ranking.TIE)
    ]
    first = min(best, key=lambda each: order.get(each.id, len(order)))
    ranked = (first.id, *(each.id for each in passed if each.id != first.id))
    final = tuple(
        dataclasses.replace(each, verdict=Verdict.CHOSEN if each.id == first.id else Verdict.RUNNER_UP)
        if each.id in ranked
        else each
        for each in judged
    )
    browser = next(each.browser for each in seen.values() if isinstance(each, check.Seen))
    what = f" and onnxruntime-web {package.runtime_version()}" if PLAIN in times else ""
    note = f"measured in {browser}{what} on this machine: one inference of the quieter of {ROUNDS} rounds"
    accuracy = first.agreement.accuracy if first.agreement else None
    notes = (note, *(each for each in outcome.notes if "ranked by static order" not in each))
    return dataclasses.replace(
        outcome, candidates=final, ranked=ranked, executed_on=browser, accuracy=accuracy, notes=notes
    )


def _judged(
    field: foreign.Field, outcome: foreign.Outcome, each: Candidate, seen: check.Seen | str, times: dict[str, float]
) -> Candidate:
    """Return whether a candidate may ship (RUNNER_UP), or what keeps it."""
    if isinstance(seen, str):
        return dataclasses.replace(each, verdict=Verdict.FAILED, reason=seen)
    rows = _few(field)
    try:
        found = data.outputs_of(seen.answers, field.signature.outputs, len(rows))
    except CompileError as error:
        return dataclasses.replace(each, verdict=Verdict.FAILED, reason=f"in the browser: {error}")
    answers = Answers(
        field.signature, tuple(one[: len(rows)] for one in outcome.expected), rows.labels, made_up=rows.made_up
    )
    each = dataclasses.replace(each, agreement=answers.compare(found))
    wrong = answers.refusal(each.precision, found, own=each.id == candidate.GIVEN)
    if wrong:
        return dataclasses.replace(each, verdict=Verdict.INACCURATE, reason=f"in {seen.browser}: {wrong}")
    original = times.get(PLAIN)
    speed = None if original is None else float(f"{original / seen.run_ms:.3g}")
    share = "" if speed is None else f", {speed:g} times the speed of the original there"
    slow = original is not None and seen.run_ms > original * (1 + ranking.TIE)
    reason = f"{seen.run_ms:.3g} ms in the browser{share}, loaded in {seen.load_ms:.0f} ms"
    return dataclasses.replace(each, verdict=Verdict.SLOWER if slow else Verdict.RUNNER_UP, reason=reason, speed=speed)

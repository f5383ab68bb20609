"""Verdicts on what a board measured: the gates of a tournament, on figures of rounds that ran side by side there."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from skerry_compiler import agreement, data, foreign, ranking, tournament, verdicts
from skerry_compiler.engines.candidate import GIVEN, Built
from skerry_compiler.engines.litert import PLAIN as LITERT_PLAIN
from skerry_compiler.engines.onnxruntime import PLAIN as ORT_PLAIN
from skerry_compiler.errors import CompileError, DataError
from skerry_compiler.verdicts import Answers
from skerry_contracts.bundle import Signature
from skerry_contracts.evidence import Board, Candidate, Measurement, Verdict
from skerry_contracts.measuring import MeasuredCandidate, Outcome
from skerry_targets.profile import Profile

DEVICE = "device"
ORIGINALS = frozenset({ORT_PLAIN, LITERT_PLAIN})  # run the model as it is
_WORDS = {
    Outcome.CRASHED: "crashed on the board",
    Outcome.HUNG: "hung on the board",
    Outcome.NO_LOAD: "does not load on the board",
    Outcome.NO_NUMBER: "gave no numbers on the board",
    Outcome.UNFIT: "does not fit the board",
    Outcome.TOO_LARGE: "too large for the board",
    Outcome.UNREACHED: "not measured",
}
_VERDICTS = {Outcome.TOO_LARGE: Verdict.TOO_LARGE, Outcome.UNREACHED: Verdict.UNMEASURED}
_NO_ANSWERS = "a row of answers is too large to be sent from a board: nothing proves them"


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """What verdicts are measured by: the rows with the original's answers, and the target's limits."""

    signature: Signature
    rows: data.Rows
    expected: agreement.Outputs
    profile: Profile
    objective: str


def judge(
    field: Field,
    sent: Sequence[Built],
    found: Mapping[str, MeasuredCandidate],
    left_out: Mapping[tuple[str, str, str], str],
    board: Board,
) -> foreign.Outcome:
    """Return the outcome of a measuring: every candidate with its verdict, those that passed in order.

    Args:
        field: see there.
        sent: what was sent, the yardstick first.
        found: what the board reported, by candidate.
        left_out: those that were not sent (id, engine, precision), and why.
        board: where it was.

    Raises:
        CompileError: nothing at all was measured.
    """
    measured = [each for each in found.values() if each.outcome is Outcome.MEASURED and each.p50_ns]
    if not measured:
        said = "; ".join(f"{each.id}: {_WORDS.get(each.outcome, each.outcome)}" for each in found.values())[:400]
        hint = "skerry agent status on the board says what it is at; a larger --budget gives it more time"
        raise CompileError(f"{board.device} measured nothing: {said or 'no report came'}", hint=hint)
    shares = {each.id: _share(each) for each in measured}
    judged = {each.variant.id: _verdict(field, each, found.get(each.variant.id), shares, board) for each in sent}
    passed = [(shares[each.id], each) for each in judged.values() if each.verdict is Verdict.RUNNER_UP]
    ranked = tuple(each.id for _, each in ranking.rank(passed, field.objective))
    candidates = tuple(_placed(each, ranked, board) for each in judged.values())
    rest = tuple(Candidate(*each, Verdict.UNMEASURED, why) for each, why in left_out.items())
    original = next((each.measurement for each in candidates if each.id == board.reference), None)
    assert original is not None, "the yardstick is among those that were measured"
    base = agreement.accuracy(field.signature, field.expected, field.rows.labels)
    everyone = (*candidates, *rest)
    outcome = tournament.Outcome(everyone, ranked, original, base, field.expected, _notes(board))
    first = original if board.reference in ORIGINALS else None
    made = foreign.from_tournament(outcome, field.profile)
    return dataclasses.replace(made, executed_on=DEVICE, board=board, original=first)


def _share(found: MeasuredCandidate) -> float:
    """Return the time as a share of the yardstick's: the median over rounds, each of both side by side."""
    pairs = zip(found.p50_ns, found.against_p50_ns, strict=False)
    ratios = [own / other for own, other in pairs if own > 0 and other > 0]
    return statistics.median(ratios) if ratios else 1.0


def _verdict(
    field: Field, built: Built, found: MeasuredCandidate | None, shares: Mapping[str, float], board: Board
) -> Candidate:
    variant = built.variant
    about = (variant.id, variant.engine, variant.precision)
    if found is None:
        return Candidate(*about, Verdict.UNMEASURED, f"{board.device} said nothing of it")
    if found.id not in shares:
        words = _WORDS.get(found.outcome, str(found.outcome))
        verdict = _VERDICTS.get(found.outcome, Verdict.FAILED)
        return Candidate(*about, verdict, f"{words}: {found.detail}" if found.detail else words)
    share, agrees = shares[found.id], None
    figures = Measurement(
        found.latency_p50_ms, found.latency_p95_ms, round(found.rss_bytes / 1e6, 3), found.load_ms, built.size_bytes
    )
    speed = round(1 / share, 4)
    try:
        outputs = _outputs(field, found)
    except DataError as error:
        return Candidate(*about, Verdict.INACCURATE, str(error), figures, speed=speed)
    if outputs is None:
        return Candidate(*about, Verdict.UNMEASURED, _NO_ANSWERS, figures, speed=speed)
    count = len(outputs[0])
    rows = field.rows.head(count)
    answers = Answers(
        field.signature, tuple(each[:count] for each in field.expected), rows.labels, made_up=rows.made_up
    )
    agrees = answers.compare(outputs)
    refusal = answers.refusal(variant.precision, outputs, own=variant.id == GIVEN)
    # Where the original does not run on the board, nothing is slower than it.
    gated = share if board.reference in ORIGINALS else 1.0
    verdict, reason = verdicts.gate(gated, figures, refusal, field.profile.budget)
    return Candidate(*about, verdict, reason, figures, agrees, speed=speed)


def _outputs(field: Field, found: MeasuredCandidate) -> agreement.Outputs | None:
    """Return a board's answers; None where it sent none.

    Raises:
        DataError: they are not what a row of answers is, or no numbers where the original has some.
    """
    if found.answers is None or not found.rows:
        return None
    if found.rows > len(field.rows):
        raise DataError(f"{found.rows} rows of answers to {len(field.rows)} rows of inputs")
    outputs = data.outputs_of(found.answers, field.signature.outputs, found.rows)
    for own, other in zip(outputs, field.expected, strict=True):
        if own.dtype.kind == "f" and bool(np.any(~np.isfinite(own) & np.isfinite(other[: found.rows]))):
            raise DataError("answers from the board are no numbers where the original's are")
    return outputs


def _placed(candidate: Candidate, ranked: tuple[str, ...], board: Board) -> Candidate:
    """Return a candidate that passed with its place in words."""
    if candidate.verdict is not Verdict.RUNNER_UP or candidate.speed is None:
        return candidate
    than = "the original" if board.reference in ORIGINALS else board.reference
    words = f"{candidate.speed:.2f} times as fast as {than}"
    verdict = Verdict.CHOSEN if candidate.id == ranked[0] else Verdict.RUNNER_UP
    return dataclasses.replace(candidate, verdict=verdict, reason=words)


def _notes(board: Board) -> tuple[str, ...]:
    what = f"{board.profile}, {board.cpu}"
    where = f"measured on {board.device} ({what}), agent {board.agent_version}, lease {board.lease}"
    than = f"each candidate beside {board.reference}, round by round; times are by the clock"
    if board.reference in ORIGINALS:
        than += "; it is the model as it is, in its default runtime"
    else:
        than += "; the model as it is does not run there, so nothing is compared with it"
    return (where, than, *board.notes)

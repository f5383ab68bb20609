"""Targets that this machine cannot run at speed: candidates are ranked by a static order, and say that they are
unmeasured.

Where the profile's emulator is installed, generated code is run in it and compared with the original: right answers,
no speed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from skerry_compiler import agreement, data, emulate, tournament
from skerry_compiler.engines import candidate
from skerry_compiler.errors import CompileError
from skerry_compiler.measure import Process, baseline_command
from skerry_contracts import codec
from skerry_contracts.bundle import Signature, Variant
from skerry_contracts.evidence import Agreement, Candidate, Measurement, Verdict
from skerry_targets.profile import Profile

HOST, NOWHERE = "host", "nowhere"
PARITY_ROWS = 512
PARITY_BYTES = 4 << 20
_LEFT_OUT = "8 bits are not chosen unmeasured: on some processors they are slower than floats"


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the candidates, wherever they ran; `ranked` is never empty."""

    candidates: tuple[Candidate, ...]
    ranked: tuple[str, ...]
    expected: agreement.Outputs
    executed_on: str
    original: Measurement | None
    original_accuracy: float | None
    accuracy: float | None
    notes: tuple[str, ...]


def from_tournament(outcome: tournament.Outcome) -> Outcome:
    """Return a tournament's outcome; where nobody passed, the original ships through the C interface, and this is
    said.
    """
    ranked, candidates, notes = outcome.ranked, outcome.candidates, outcome.notes
    if not ranked:
        usable = [each.id for each in candidates if each.measurement is not None and each.precision == "fp32"]
        if not usable:
            raise CompileError(f"no candidate runs: {'; '.join(each.reason for each in candidates)[:300]}")
        chosen = "ort-plain" if "ort-plain" in usable else usable[0]
        ranked = (chosen,)
        notes = (*notes, "no candidate passed the gates: the original ships, run through its engine's C interface")
        candidates = tuple(
            dataclasses.replace(each, verdict=Verdict.CHOSEN, reason=f"the original; {each.reason}")
            if each.id == chosen
            else each
            for each in candidates
        )
    accuracy = next((each.agreement.accuracy for each in candidates if each.id == ranked[0] and each.agreement), None)
    return Outcome(
        candidates, ranked, outcome.expected, HOST, outcome.original, outcome.original_accuracy, accuracy, notes
    )


def play(
    profile: Profile,
    signature: Signature,
    original: Path,
    rows: data.Rows,
    folder: Path,
    built: Sequence[tuple[candidate.Draft, Variant, int]],
) -> Outcome:
    """Rank candidates for a target that this machine cannot run.

    Raises:
        CompileError: none is left.
    """
    expected = original_outputs(original, signature, rows, folder)
    base = agreement.accuracy(signature, expected, rows.labels)
    emulated = emulate.available(profile)
    judged: list[tuple[int, Candidate]] = []
    for draft, variant, size in built:
        about = (variant.id, variant.engine, variant.precision)
        if size > profile.budget.artifact_bytes:
            reason = f"{size} bytes, the target allows {profile.budget.artifact_bytes}"
            judged.append((draft.order, Candidate(*about, Verdict.TOO_LARGE, reason)))
        elif variant.precision != "fp32":
            judged.append((draft.order, Candidate(*about, Verdict.UNMEASURED, _LEFT_OUT)))
        elif emulated and draft.c_text is not None:
            judged.append((draft.order, _emulated(profile, signature, rows, expected, draft)))
        else:
            judged.append((draft.order, Candidate(*about, Verdict.RUNNER_UP, "unmeasured: compiled, not run")))
    passed = sorted((each for each in judged if each[1].verdict is Verdict.RUNNER_UP), key=lambda each: each[0])
    if not passed:
        raise CompileError(f"no candidate for {profile.id}: {'; '.join(each.reason for _, each in judged)[:300]}")
    ranked = tuple(each.id for _, each in passed)
    final = tuple(
        dataclasses.replace(each, verdict=Verdict.CHOSEN) if each.id == ranked[0] else each for _, each in judged
    )
    on = profile.emulator.command if emulated else NOWHERE
    note = f"this machine cannot run {profile.id} at speed: ranked by static order, unmeasured"
    chosen = next(each for each in final if each.id == ranked[0])
    accuracy = chosen.agreement.accuracy if chosen.agreement else None
    return Outcome(final, ranked, expected, on, None, base, accuracy, (note,))


def _emulated(
    profile: Profile, signature: Signature, rows: data.Rows, expected: agreement.Outputs, draft: candidate.Draft
) -> Candidate:
    about = (draft.id, draft.engine, draft.precision)
    row_bytes = sum(spec.size_bytes for spec in signature.inputs)
    few = rows.head(max(1, min(PARITY_ROWS, PARITY_BYTES // max(1, row_bytes))))
    assert draft.c_text is not None
    try:
        content = emulate.outputs(draft.c_text, profile, signature, few.to_bytes())
        found = data.outputs_of(content, signature.outputs, len(few))
    except CompileError as error:
        return Candidate(*about, Verdict.FAILED, f"in the emulator: {error}")
    agrees = agreement.compare(signature, tuple(each[: len(few)] for each in expected), found, few.labels)
    if _differs(agrees, agreement.range_of(signature, expected)):
        return Candidate(*about, Verdict.INACCURATE, f"in the emulator: off by {agrees.max_abs:.2g}", None, agrees)
    return Candidate(*about, Verdict.RUNNER_UP, "unmeasured: right answers in the emulator", None, agrees)


def _differs(agrees: Agreement, value_range: float) -> bool:
    off = agrees.max_abs / value_range
    return (
        agrees.cosine < tournament.FLOAT_COSINE
        or off > tournament.FLOAT_RANGE_SHARE
        or agrees.top1 < tournament.FLOAT_TOP1
    )


def original_outputs(original: Path, signature: Signature, rows: data.Rows, folder: Path) -> agreement.Outputs:
    """Return the original's answers in its default runtime, from a process of its own.

    Raises:
        ToolError: it does not run.
    """
    spec, inputs, results = folder / "signature.json", folder / "original.rows", folder / "original.answers"
    spec.write_text(json.dumps(codec.to_plain(signature)))
    inputs.write_bytes(rows.to_bytes())
    process = Process(baseline_command(original, spec, inputs, results), "the original")
    process.finish()
    return data.outputs_of(results.read_bytes(), signature.outputs, len(rows))

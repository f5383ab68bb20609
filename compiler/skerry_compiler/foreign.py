"""Targets that this machine cannot run at speed: candidates are ranked by a static order, and say that they are
unmeasured.

Where the profile's emulator is installed, generated code is run in it and compared with the original: right answers,
no speed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

from skerry_compiler import agreement, data, tournament, verdicts
from skerry_compiler.emulators import catalogue as emulators
from skerry_compiler.engines import candidate
from skerry_compiler.engines.onnxruntime import PLAIN
from skerry_compiler.errors import CompileError
from skerry_compiler.measure import Process, baseline_command
from skerry_compiler.verdicts import Answers
from skerry_contracts import codec
from skerry_contracts.bundle import Signature
from skerry_contracts.evidence import Candidate, Measurement, Verdict
from skerry_targets.profile import Profile

HOST, NOWHERE = "host", "nowhere"
PARITY_ROWS = 512
PARITY_BYTES = 4 << 20
# On such processors 8 bits are known to be faster than floats; on others they are not chosen unmeasured.
DOT_PRODUCTS = frozenset({"asimddp", "i8mm", "avx512_vnni", "avx_vnni"})
_SLOW = "unmeasured: without dot-product instructions 8 bits may be slower than floats"
_UNCHECKED = "unmeasured: nothing here can check the answers of 8 bits"


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
    warnings: tuple[str, ...] = ()


def from_tournament(outcome: tournament.Outcome) -> Outcome:
    """Return a tournament's outcome; where nobody passed, the original ships through the C interface, and this is
    said.
    """
    ranked, candidates, notes = outcome.ranked, outcome.candidates, outcome.notes
    warnings: tuple[str, ...] = ()
    if not ranked:
        usable = [each for each in candidates if each.measurement is not None and each.precision == "fp32"]
        if not usable:
            raise CompileError(
                f"no candidate runs: {'; '.join(f'{each.id}: {each.reason}' for each in candidates)[:400]}",
                hint="does the model run in ONNX Runtime on this machine?",
            )
        chosen = stand_in(usable)
        ranked = (chosen,)
        warnings = (f"no candidate passed the gates: the original ships, run as {chosen}",)
        candidates = tuple(
            dataclasses.replace(each, verdict=Verdict.CHOSEN, reason=f"the original; {each.reason}")
            if each.id == chosen
            else each
            for each in candidates
        )
    accuracy = next((each.agreement.accuracy for each in candidates if each.id == ranked[0] and each.agreement), None)
    return Outcome(
        candidates,
        ranked,
        outcome.expected,
        HOST,
        outcome.original,
        outcome.original_accuracy,
        accuracy,
        notes,
        warnings,
    )


def stand_in(usable: Sequence[Candidate]) -> str:
    """Return which float candidate runs the original where none passed: of those whose answers hold, the fastest; else
    the model as it is.
    """
    exact = {
        each.id: each.measurement.cpu_ms or math.inf
        for each in usable
        if each.verdict is Verdict.SLOWER and each.measurement is not None
    }
    if exact:
        return min(exact, key=lambda name: exact[name])
    names = [each.id for each in usable]
    return PLAIN if PLAIN in names else names[0]


def play(
    profile: Profile,
    signature: Signature,
    original: Path,
    rows: data.Rows,
    folder: Path,
    built: Sequence[candidate.Built],
) -> Outcome:
    """Rank candidates for a target that this machine cannot run.

    Raises:
        CompileError: none is left.
    """
    expected = original_outputs(original, signature, rows, folder)
    base = agreement.accuracy(signature, expected, rows.labels)
    emulated = emulators.available(profile)
    judged: list[tuple[candidate.Draft, Candidate]] = []
    for each in built:
        draft, variant = each.draft, each.variant
        about = (variant.id, variant.engine, variant.precision)
        checked = emulated and draft.c_text is not None
        large = verdicts.too_large(each.size_bytes, profile.budget)
        if large:
            judged.append((draft, Candidate(*about, Verdict.TOO_LARGE, large)))
        elif variant.precision == "int8" and not DOT_PRODUCTS & set(profile.cpu.features):
            judged.append((draft, Candidate(*about, Verdict.UNMEASURED, _SLOW)))
        elif variant.precision != "fp32" and not checked:
            judged.append((draft, Candidate(*about, Verdict.UNMEASURED, _UNCHECKED)))
        elif checked:
            judged.append((draft, _emulated(profile, signature, rows, expected, each)))
        else:
            judged.append((draft, Candidate(*about, Verdict.RUNNER_UP, "unmeasured: compiled, not run")))
    passed = [each for each in judged if each[1].verdict is Verdict.RUNNER_UP]
    passed.sort(key=lambda each: _static(each[0]))
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


def _static(draft: candidate.Draft) -> tuple[float, int]:
    """Return the place in the static order: the cost model's cycles, then the engine's own order."""
    return (math.inf if draft.estimate_cycles is None else draft.estimate_cycles, draft.order)


def _emulated(
    profile: Profile,
    signature: Signature,
    rows: data.Rows,
    expected: agreement.Outputs,
    built: candidate.Built,
) -> Candidate:
    draft = built.draft
    about = (draft.id, draft.engine, draft.precision)
    row_bytes = sum(spec.size_bytes for spec in signature.inputs)
    few = rows.head(max(1, min(PARITY_ROWS, PARITY_BYTES // max(1, row_bytes))))
    try:
        content = emulators.outputs(built.blobs["library"], profile, signature, few.to_bytes())
        found = data.outputs_of(content, signature.outputs, len(few))
    except CompileError as error:
        return Candidate(*about, Verdict.FAILED, f"in the emulator: {error}")
    answers = Answers(signature, tuple(each[: len(few)] for each in expected), few.labels, made_up=rows.made_up)
    agrees = answers.compare(found)
    wrong = answers.refusal(draft.precision, found, own=draft.id == candidate.GIVEN)
    if wrong:
        return Candidate(*about, Verdict.INACCURATE, f"in the emulator: {wrong}", None, agrees)
    return Candidate(*about, Verdict.RUNNER_UP, "unmeasured: right answers in the emulator", None, agrees)


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

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
from skerry_compiler.errors import CompileError, LimitError
from skerry_compiler.firmware import footprint as footprints
from skerry_compiler.firmware.footprint import Footprint
from skerry_compiler.measure import Process, baseline_command
from skerry_compiler.verdicts import Answers
from skerry_contracts import codec
from skerry_contracts.bundle import Signature
from skerry_contracts.evidence import Board, Candidate, Measurement, Verdict
from skerry_targets import nearest
from skerry_targets.profile import Profile

HOST, NOWHERE = "host", "nowhere"
PARITY_ROWS = 512
PARITY_BYTES = 4 << 20
# On such processors 8 bits are known to be faster than floats; on others they are not chosen unmeasured, but where size
# decides, which needs no measuring, or where floats do not fit.
DOT_PRODUCTS = frozenset({"asimddp", "i8mm", "avx512_vnni", "avx_vnni", "mve", "mve.fp"})
SIZES = ("size", "memory")
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
    board: Board | None = None


def from_tournament(outcome: tournament.Outcome, profile: Profile) -> Outcome:
    """Return a tournament's outcome; where nobody passed, the original ships through the C interface, and this is
    said.

    Raises:
        LimitError: nothing that runs fits the board.
        CompileError: nothing runs.
    """
    ranked, candidates, notes = outcome.ranked, outcome.candidates, outcome.notes
    warnings: tuple[str, ...] = ()
    if not ranked:
        usable = [each for each in candidates if each.measurement is not None and each.precision == "fp32"]
        large = [each for each in usable if each.verdict is Verdict.TOO_LARGE]
        if usable and len(large) == len(usable):
            raise _no_room(large, profile)
        usable = [each for each in usable if each not in large]
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


def _no_room(large: Sequence[Candidate], profile: Profile) -> LimitError:
    """Return the error for a board with room for none of the candidates that were measured."""
    said = "; ".join(f"{each.id}: {each.reason}" for each in large)[:400]
    taken = [(each.size_bytes, int(each.rss_mb * 1e6)) for each in (one.measurement for one in large) if each]
    return LimitError(f"no candidate fits {profile.id}: {said}", hint=nearest.with_room(profile, *min(taken)))


def stand_in(usable: Sequence[Candidate]) -> str:
    """Return which float candidate runs the original where none passed: of those whose answers hold, the fastest; else
    the model as it is.
    """
    exact = {
        each.id: each.measurement.cpu_ms or each.measurement.latency_p50_ms or math.inf
        for each in usable
        if each.verdict is Verdict.SLOWER and each.measurement is not None
    }
    if exact:
        return min(exact, key=lambda name: exact[name])
    names = [each.id for each in usable]
    return PLAIN if PLAIN in names else names[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """What candidates for a target that this machine cannot run are judged by; `folder` is for files."""

    profile: Profile
    signature: Signature
    original: Path
    rows: data.Rows
    folder: Path
    objective: str = "latency"


def play(field: Field, built: Sequence[candidate.Built]) -> Outcome:
    """Rank candidates for a target that this machine cannot run.

    Raises:
        LimitError: none fits the board.
        CompileError: none is left.
    """
    profile, rows, signature = field.profile, field.rows, field.signature
    expected = original_outputs(field.original, signature, rows, field.folder)
    base = agreement.accuracy(signature, expected, rows.labels)
    emulated = emulators.available(profile)
    taken = [_taken(field, each) for each in built]
    judged = [_judged(field, expected, *pair) for pair in zip(built, taken, strict=True)]
    if not any(each.verdict is Verdict.RUNNER_UP for each in judged):  # rather slow than none
        small = dataclasses.replace(field, objective=SIZES[0])
        judged = [
            _judged(small, expected, *pair) if each.reason == _SLOW else each
            for each, pair in zip(judged, zip(built, taken, strict=True), strict=True)
        ]
    passed = [at for at, each in enumerate(judged) if each.verdict is Verdict.RUNNER_UP]
    passed.sort(key=lambda at: (_sized(field, taken[at]), *static(built[at].draft)))
    if not passed:
        raise _none(field, judged, taken)
    ranked = tuple(judged[at].id for at in passed)
    final = tuple(
        dataclasses.replace(each, verdict=Verdict.CHOSEN) if each.id == ranked[0] else each for each in judged
    )
    on = profile.emulator.command if emulated else NOWHERE
    note = f"this machine cannot run {profile.id} at speed: ranked by static order, unmeasured"
    chosen = final[passed[0]]
    accuracy = chosen.agreement.accuracy if chosen.agreement else None
    return Outcome(final, ranked, expected, on, None, base, accuracy, (note,))


def _none(field: Field, judged: Sequence[Candidate], taken: Sequence[Footprint]) -> CompileError:
    """Return the error for a target that none of the candidates is left for."""
    said = "; ".join(dict.fromkeys(each.reason for each in judged))[:400]
    message = f"no candidate for {field.profile.id}: {said}"
    large = [each for each, verdict in zip(taken, judged, strict=True) if verdict.verdict is Verdict.TOO_LARGE]
    if not large:
        return CompileError(message)
    least = min(large, key=lambda each: (each.flash_bytes, each.ram_bytes))
    return LimitError(message, hint=nearest.with_room(field.profile, least.flash_bytes, least.ram_bytes))


def _taken(field: Field, built: candidate.Built) -> Footprint:
    """Return what a candidate takes of a board: files, or, where there is no system, flash and memory as linked."""
    if field.profile.abi.os == "none":
        return footprints.footprint(built.blobs["library"], field.profile, field.signature)
    return Footprint(built.size_bytes, built.draft.memory_bytes, {}, {})


def _judged(field: Field, expected: agreement.Outputs, built: candidate.Built, taken: Footprint) -> Candidate:
    """Return whether a candidate may ship (RUNNER_UP), or what keeps it."""
    profile, draft, variant = field.profile, built.draft, built.variant
    about = (variant.id, variant.engine, variant.precision)
    if profile.abi.os == "none":
        large = footprints.too_large(taken, profile, field.original)
    else:
        large = verdicts.too_large(taken.flash_bytes, profile.budget)
    if large:
        return Candidate(*about, Verdict.TOO_LARGE, large)
    checked = emulators.available(profile) and draft.c_text is not None
    pays = DOT_PRODUCTS & set(profile.cpu.features) or profile.abi.float_abi == "soft" or field.objective in SIZES
    if variant.precision == "int8" and not pays:
        return Candidate(*about, Verdict.UNMEASURED, _SLOW)
    if variant.precision != "fp32" and not checked:
        return Candidate(*about, Verdict.UNMEASURED, _UNCHECKED)
    if checked:
        return _emulated(profile, field.signature, field.rows, expected, built)
    return Candidate(*about, Verdict.RUNNER_UP, "unmeasured: compiled, not run")


def _sized(field: Field, taken: Footprint) -> int:
    """Return what of a candidate's size decides: its flash or files, its memory, or nothing."""
    return {"size": taken.flash_bytes, "memory": taken.ram_bytes}.get(field.objective, 0)


def static(draft: candidate.Draft) -> tuple[float, int]:
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
    except LimitError as error:  # of the emulator, not of the board
        verdict = Verdict.RUNNER_UP if draft.precision == "fp32" else Verdict.UNMEASURED
        return Candidate(*about, verdict, f"unmeasured: {error}")
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

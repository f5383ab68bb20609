"""A whole compile: prepare in the sandbox, build, measure, choose, pack. `compile_model` is what `skerry compile`
calls.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_compiler import (
    building,
    data,
    files,
    foreign,
    golden,
    histograms,
    pack,
    places,
    ranking,
    sandbox,
)
from skerry_compiler.engines.candidate import Built, Draft, Failure
from skerry_compiler.errors import CompileError, UnsupportedError
from skerry_compiler.prepared import Prepared
from skerry_compiler.request import Request
from skerry_contracts import codec
from skerry_contracts.bundle import Baseline, Manifest, Predicates, Signature
from skerry_contracts.evidence import Candidate, Evidence, Unsupported, Verdict
from skerry_targets import profile as profiles
from skerry_targets.profile import Profile

EVALUATION_ROWS = 512
MAX_SAID = 2000  # letters of why nothing could be built
SYNTHETIC_ROWS = 64
RUNNER_UP_BYTES = 1 << 20  # a runner-up may take this much, or as much as the winner: every device downloads it
BUILDING_SHARE = 0.5  # of the budget: the rest is for measuring
OWN_RUNTIME = ("onnx", "tflite")  # forms whose files a default runtime opens as they are

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """A bundle: the manifest's bytes, its blobs by digest, and the evidence."""

    manifest: Manifest
    manifest_bytes: bytes
    blobs: dict[str, bytes]
    evidence: Evidence | None


def compile_model(request: Request, now_s: float, say: Say) -> Result:
    """Compile a model and return the bundle.

    Args:
        request: what and how.
        now_s: the time that the evidence bears; no part of the bundle's id.
        say: called with a few words whenever a step begins.

    Raises:
        CompileError: refused; nothing was written.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        say("reading the model")
        prepared = prepare(request, folder, wanted=request.like, say=say)
        rows, calibration, notes = read_rows(request, prepared.signature)
        histogram: tuple[Baseline, ...] = ()
        if calibration is not None:
            say("asking the original for its answers")
            answers = foreign.original_outputs(prepared.original, prepared.signature, calibration, folder)
            data.refuse_nan(answers, prepared.signature.outputs, "the calibration data")
            histogram = histograms.baseline(prepared.signature, calibration, answers)
        begun = time.monotonic()
        deadline = begun + BUILDING_SHARE * request.time_s
        built, failures = building.build_all(prepared.drafts, request.profile, deadline, say)
        failures += [_failed(each) for each in prepared.failures]
        if not built:
            raise _none_built(failures, request)
        for content in (content for each in built for content in each.blobs.values()):
            (folder / codec.digest(content)).write_bytes(content)
        place = places.Place(request, prepared, rows, folder, begun + request.time_s)
        outcome = places.outcome(place, built, say)
        say("packing")
    return _packed(request, prepared, rows, (histogram, built, failures), outcome, notes, now_s)


def _failed(each: Failure) -> Candidate:
    return Candidate(
        each.id, each.engine, each.precision, Verdict.FAILED, each.reason, unsupported=each.unsupported or None
    )


def _none_built(failures: list[Candidate], request: Request) -> CompileError:
    """Return the error for a model that no engine takes."""
    said = "; ".join(f"{each.id}: {each.reason}" for each in failures)[:MAX_SAID] or "no engine has a form for it"
    hint = "let other engines compete: --engines" if request.engines is not None else ""
    kind = UnsupportedError if all(each.verdict is Verdict.FAILED for each in failures) else CompileError
    return kind(f"no candidate could be built: {said}", hint=hint)


def _packed(
    request: Request,
    prepared: Prepared,
    rows: data.Rows,
    made: tuple[tuple[Baseline, ...], list[Built], list[Candidate]],
    outcome: foreign.Outcome,
    notes: list[str],
    now_s: float,
) -> Result:
    """Return the bundle of an outcome."""
    histogram, built, failures = made
    shipped = shipped_of(outcome.ranked[: 1 if request.scales else None], built, request.profile)
    compared = rows.head(len(outcome.expected[0]))
    low = any(each.variant.precision != "fp32" for each in shipped)
    vectors = golden.choose(prepared.signature, compared, outcome.expected, int8=low)
    parts = pack.Parts(prepared.signature, prepared.form, vectors.golden, histogram, outcome.accuracy)
    manifest = pack.manifest(request, parts, shipped)
    content = codec.encode(manifest)
    evidence = Evidence(
        bundle=codec.digest(content),
        target=request.profile.id,
        executed_on=outcome.executed_on,
        host=places.where(outcome),
        created_s=int(now_s),
        original=outcome.original,
        original_accuracy=outcome.original_accuracy,
        candidates=(*told(outcome.candidates, shipped), *failures),
        notes=(*outcome.warnings, *notes, *prepared.notes, *outcome.notes),
        ships_original=bool(outcome.warnings),
        objective=request.objective,
        rows=len(compared),
        operators=prepared.operators,
        board=outcome.board,
    )
    blobs = {codec.digest(each): each for each in (vectors.inputs, vectors.outputs)}
    for variant in shipped:
        blobs |= {codec.digest(each): each for each in variant.blobs.values()}
    return Result(manifest, content, blobs, evidence)


def prepare(
    request: Request,
    folder: Path,
    *,
    drafts: bool = True,
    wanted: frozenset[str] | None = None,
    say: Say = lambda words: None,
) -> Prepared:
    """Read the model in the sandbox and return what it answers.

    Args:
        request: what is asked.
        folder: where the sandbox leaves its files.
        drafts: without, only the signature and the original.
        wanted: the candidates that a recipe names; None drafts all.
        say: told what the sandbox is at.

    Raises:
        CompileError: see `skerry_compiler.prepare`.
    """
    if not request.source.is_file():
        raise CompileError(f"no file {request.source}", hint="name a model file; docs/compiler.md lists the kinds")
    job: dict[str, Any] = {
        "source": str(request.source.resolve()),
        "profile": codec.to_plain(request.profile),
        "calibration": None if request.calibration is None else str(request.calibration.resolve()),
        "trust_pickle": request.trust_pickle,
        "input_name": request.input_name,
        "shapes": request.shapes,
        "drafts": drafts,
        "wanted": None if wanted is None else sorted(wanted),
        "time_s": request.time_s,
        "engines": profiles.chosen_engines(request.profile, request.engines),
        "retrain": request.retrain is not None and wanted is None,
        "threads": request.threads,
        "scales": None if request.scales is None else str(request.scales.resolve()),
    }
    limits = sandbox.limits_for(request.time_s)
    answer = sandbox.call("skerry_compiler.prepare", job, folder, limits, "reading the model", say)
    made, failures = [], []
    for each in answer.get("candidates", []):
        if "failure" in each:
            named = codec.from_plain(tuple[Unsupported, ...], each["failure"].pop("unsupported"))
            failures.append(Failure(**each["failure"], unsupported=named))
            continue
        plain = each["draft"]
        contents = {role: Path(path).read_bytes() for role, path in plain["files"].items()}
        made.append(Draft(**{**plain, "files": contents, "requires": codec.from_plain(Predicates, plain["requires"])}))
    original = request.source if answer["format"] in OWN_RUNTIME else Path(answer["original"])
    signature = codec.from_plain(Signature, answer["signature"])
    if answer.get("handover") and request.retrain is not None:
        files.write_handover(request.retrain, answer["handover"], folder / sandbox.HANDOVER)
    notes = tuple(answer.get("notes", ()))
    drafted = tuple(each for each in made if wanted is None or each.id in wanted)
    return Prepared(signature, answer["format"], original, drafted, tuple(failures), answer["operators"], notes)


def read_rows(request: Request, signature: Signature) -> tuple[data.Rows, data.Rows | None, list[str]]:
    """Return the rows to compare on, the calibration rows, and notes about them.

    Raises:
        DataError: a file does not fit the model.
    """
    calibration = evaluation = None
    if request.calibration is not None:
        calibration = data.inputs_of(data.read_npz(request.calibration), signature.inputs, request.calibration.name)
    if request.evaluation is not None:
        evaluation = data.inputs_of(data.read_npz(request.evaluation), signature.inputs, request.evaluation.name)
        return evaluation.head(EVALUATION_ROWS), calibration, []
    if calibration is not None:
        notes = ["no evaluation data: answers were compared on the calibration rows"]
        return calibration.head(EVALUATION_ROWS), calibration, notes
    notes = ["no data: answers were compared on made-up rows; give --evaluation for a verdict that means something"]
    return data.synthetic(signature.inputs, SYNTHETIC_ROWS), None, notes


def shipped_of(ranked: tuple[str, ...], built: list[Built], profile: Profile) -> list[Built]:
    """Return what goes into the bundle, best first: see `skerry_compiler.ranking.shipping`. A device may then choose by
    measuring, or fall back where the winner's engine fails.
    """
    by_id = {each.variant.id: each for each in built}
    about = [(name, by_id[name].variant.engine, by_id[name].variant.precision) for name in ranked]
    blobs = {name: {blob.sha256: blob.size_bytes for blob in by_id[name].variant.blobs.values()} for name in ranked}
    return [by_id[name] for name in ranking.shipping(about, blobs, profile.budget.artifact_bytes, RUNNER_UP_BYTES)]


def told(candidates: tuple[Candidate, ...], shipped: list[Built]) -> tuple[Candidate, ...]:
    """Return the verdicts, those of the runners-up that ship saying so."""
    names = {each.variant.id for each in shipped}
    return tuple(
        dataclasses.replace(each, reason=f"{each.reason}; ships too")
        if each.id in names and each.verdict is Verdict.RUNNER_UP
        else each
        for each in candidates
    )

"""A whole compile: prepare in the sandbox, build, measure, choose, pack. `compile_model` is what `skerry compile`
calls.
"""

from __future__ import annotations

import dataclasses
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_compiler import data, emulate, foreign, golden, histograms, pack, sandbox, tournament
from skerry_compiler.engines.candidate import Built, Draft, Failure, megabytes
from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.engines.network import library
from skerry_compiler.errors import CompileError, LimitError
from skerry_compiler.request import Request
from skerry_contracts import codec
from skerry_contracts.bundle import Baseline, Manifest, Predicates, Signature, Variant
from skerry_contracts.container import Container
from skerry_contracts.evidence import Candidate, Evidence, Verdict
from skerry_targets import fit, host
from skerry_targets.profile import Profile

EVALUATION_ROWS = 512
SYNTHETIC_ROWS = 64
RUNNER_UP_BYTES = 1 << 20  # a runner-up ships only if it is small: every device downloads it
OWN_RUNTIME = ("onnx", "tflite")  # forms whose files a default runtime opens as they are

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """A bundle: the manifest's bytes, its blobs by digest, and the evidence."""

    manifest: Manifest
    manifest_bytes: bytes
    blobs: dict[str, bytes]
    evidence: Evidence | None


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """What came out of the sandbox. `failures` could not be drafted."""

    signature: Signature
    form: str
    original: Path
    drafts: tuple[Draft, ...]
    failures: tuple[Failure, ...]


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
        prepared = prepare(request, folder)
        rows, calibration, notes = read_rows(request, prepared.signature)
        histogram: tuple[Baseline, ...] = ()
        if calibration is not None:
            answers = foreign.original_outputs(prepared.original, prepared.signature, calibration, folder)
            data.refuse_nan(answers, prepared.signature.outputs, "the calibration data")
            histogram = histograms.baseline(prepared.signature, calibration, answers)
        built, failures = build_all(prepared, request.profile, say)
        for each in built:
            for content in each.blobs.values():
                (folder / codec.digest(content)).write_bytes(content)
        place = Place(request, prepared, rows, folder)
        outcome = measured(place, built, say) if runs_here(request.profile) else unmeasured(place, built, say)
        say("packing")
    shipped = ship(outcome.ranked, built)
    int8 = any(each.variant.precision == "int8" for each in shipped)
    vectors = golden.choose(prepared.signature, rows, outcome.expected, int8=int8)
    parts = pack.Parts(prepared.signature, prepared.form, vectors.golden, histogram, outcome.accuracy)
    manifest = pack.manifest(request, parts, shipped)
    content = codec.encode(manifest)
    evidence = Evidence(
        bundle=codec.digest(content),
        target=request.profile.id,
        executed_on=outcome.executed_on,
        host=f"{platform.machine()} {host.cpu_info().name}",
        created_s=int(now_s),
        original=outcome.original,
        original_accuracy=outcome.original_accuracy,
        candidates=(*outcome.candidates, *failures),
        notes=(*notes, *outcome.notes),
    )
    blobs = {codec.digest(each): each for each in (vectors.inputs, vectors.outputs)}
    for variant in shipped:
        blobs |= {codec.digest(each): each for each in variant.blobs.values()}
    return Result(manifest, content, blobs, evidence)


def runs_here(profile: Profile) -> bool:
    """Return whether this machine can run what is compiled for a profile."""
    facts = host.hardware({}, "")
    return not fit.missing(fit.predicates(profile), facts)


def rebuild(request: Request, recipe: Container, say: Say) -> Result:
    """Make a bundle again from its recipe: the same model, data and tools give the same bytes, without measuring.

    Raises:
        CompileError: the model, the data or a tool is not what the recipe names.
    """
    found = recipe.manifest
    pack.check_sources(request, found.recipe)
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        say("reading the model")
        prepared = prepare(request, Path(name))
    wanted = dataclasses.replace(
        prepared, drafts=tuple(each for each in prepared.drafts if each.id in found.recipe.candidates)
    )
    built, _ = build_all(wanted, request.profile, say)
    manifest = pack.rebuilt(found, built)
    blobs = {each.sha256: recipe.read_blob(each.sha256) for each in (found.golden.inputs, found.golden.outputs)}
    for each in built:
        blobs |= {codec.digest(content): content for content in each.blobs.values()}
    evidence = codec.decode(Evidence, recipe.evidence) if recipe.evidence is not None else None
    return Result(manifest, codec.encode(manifest), blobs, evidence)


def prepare(request: Request, folder: Path, *, drafts: bool = True) -> Prepared:
    """Read the model in the sandbox and return what it answers; without drafts, only the signature and the original.

    Raises:
        CompileError: see `skerry_compiler.prepare`.
    """
    if not request.source.is_file():
        raise CompileError(f"no file {request.source}", hint="name an .onnx, .skops, .joblib or .pkl file")
    job: dict[str, Any] = {
        "source": str(request.source.resolve()),
        "profile": codec.to_plain(request.profile),
        "calibration": None if request.calibration is None else str(request.calibration.resolve()),
        "trust_pickle": request.trust_pickle,
        "input_name": request.input_name,
        "shapes": request.shapes,
        "drafts": drafts,
    }
    answer = sandbox.call("skerry_compiler.prepare", job, folder, sandbox.Limits(), "reading the model")
    made, failures = [], []
    for each in answer.get("candidates", []):
        if "failure" in each:
            failures.append(Failure(**each["failure"]))
            continue
        plain = each["draft"]
        files = {role: Path(path).read_bytes() for role, path in plain["files"].items()}
        made.append(Draft(**{**plain, "files": files, "requires": codec.from_plain(Predicates, plain["requires"])}))
    original = request.source if answer["format"] in OWN_RUNTIME else Path(answer["original"])
    signature = codec.from_plain(Signature, answer["signature"])
    return Prepared(signature, answer["format"], original, tuple(made), tuple(failures))


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


def build_all(prepared: Prepared, profile: Profile, say: Say) -> tuple[list[Built], list[Candidate]]:
    """Compile the drafts that are still C, and return every variant and the verdicts of those that could not be
    made.
    """
    built: list[Built] = []
    failures = [
        Candidate(each.id, each.engine, each.precision, Verdict.FAILED, each.reason) for each in prepared.failures
    ]
    machine = Machine.of(profile)
    for draft in prepared.drafts:
        say(f"building {draft.id}")
        try:
            built.append(finish(draft, machine))
        except LimitError as error:
            failures.append(Candidate(draft.id, draft.engine, draft.precision, Verdict.FAILED, str(error)))
    return built, failures


def finish(draft: Draft, machine: Machine) -> Built:
    """Return a draft as a variant, its C compiled.

    Raises:
        ToolError, LimitError: the C compiler failed.
    """
    blobs, memory = dict(draft.files), draft.memory_bytes
    if draft.c_text is not None:
        weights = blobs.pop("weights", None)  # part of the library, not a file of its own
        if weights is None:
            blobs["library"] = build.shared_library(draft.c_text, machine)
        else:
            blobs["library"] = library.shared_library(draft.c_text, weights, machine)
        memory = max(memory, megabytes(len(blobs["library"])))
    records = {role: golden.blob(content) for role, content in blobs.items()}
    variant = Variant(draft.id, draft.engine, draft.precision, records, draft.requires, memory, draft.options)
    return Built(draft, variant, blobs)


def ship(ranked: tuple[str, ...], built: list[Built]) -> list[Built]:
    """Return what goes into the bundle: the winner, and one small runner-up of each other engine.

    A device may then choose by measuring, or fall back where the winner's engine fails. Candidates of one engine are
    often as fast as each other, so the runner-up is the engine's plainest, not the luckiest: the bundle does not
    change from run to run.
    """
    by_id = {each.variant.id: each for each in built}
    chosen = [by_id[ranked[0]]]
    others = sorted((by_id[name] for name in ranked[1:]), key=lambda each: each.draft.order)
    for each in others:
        engines = {one.variant.engine for one in chosen}
        if each.variant.engine not in engines and each.size_bytes <= RUNNER_UP_BYTES:
            chosen.append(each)
    return chosen


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where and on what a compile is measured."""

    request: Request
    prepared: Prepared
    rows: data.Rows
    folder: Path


def measured(place: Place, built: list[Built], say: Say) -> foreign.Outcome:
    """Play the tournament on this machine."""
    request, prepared = place.request, place.prepared
    field = tournament.Field(
        folder=place.folder,
        original=prepared.original,
        original_bytes=request.source.stat().st_size,
        signature=prepared.signature,
        rows=place.rows,
        budget=request.profile.budget,
        objective=request.objective,
        time_s=request.time_s,
    )
    entries = [tournament.Entry(each.variant, each.size_bytes) for each in built]
    say(f"measuring {len(entries)} candidates")
    return foreign.from_tournament(tournament.play(field, entries, say))


def unmeasured(place: Place, built: list[Built], say: Say) -> foreign.Outcome:
    """Rank by static order; check answers in the emulator where there is one."""
    say("checking answers in the emulator" if emulate.available(place.request.profile) else "ranking by static order")
    drafts = [(each.draft, each.variant, each.size_bytes) for each in built]
    return foreign.play(
        place.request.profile, place.prepared.signature, place.prepared.original, place.rows, place.folder, drafts
    )

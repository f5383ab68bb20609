"""What accuracy repair offers to a compile: byte candidates found by search, or drafted again from their names."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto

from skerry_compiler.engines import onnxruntime
from skerry_compiler.engines.candidate import FROZEN, Draft
from skerry_compiler.engines.catalogue import Material
from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine as Processor
from skerry_compiler.engines.network import engine
from skerry_compiler.engines.network.calibrate import Feed
from skerry_compiler.engines.network.cost import machine_of
from skerry_compiler.engines.network.generate import generate
from skerry_compiler.errors import CompileError, LimitError, ToolError, UnsupportedError
from skerry_compiler.repair import frozen, handover
from skerry_compiler.repair.layers import KINDS
from skerry_compiler.repair.recipe import Recipe, parse
from skerry_compiler.repair.search import TIE, Search, Speeds, Trial, countdown
from skerry_compiler.repair.workshop import MAX_ROWS, Workshop
from skerry_contracts.bundle import Signature
from skerry_targets import fit, host
from skerry_targets.profile import Profile

TIME_SHARE = 0.4  # of the budget, beside the reading of the model
PROBES = (0, 2, 8)  # first layers in float32 whose speed is measured; others are estimated from these
PROBE_S = 0.5
PROBE_SHARE = 0.2  # of the time: no further placement is built for its speed after that
PROBE_LEAST_S = 4.0  # of time for all: with less, speeds are guessed
PROBE_TIMEOUT_S = 60
FIRST_ORDER = 2  # where nothing can be measured: after float32
MIN_ROWS = 2

Say = Callable[[str], None]


@dataclasses.dataclass(slots=True)
class Offers:
    """Drafts, best first; what was tried in words; the hand-over for retraining where it was asked for."""

    drafts: list[Draft] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    handover: handover.Handover | None = None


def offers(given: Material, signature: Signature, say: Say, *, retrain: bool = False) -> Offers:
    """Return the byte candidates of a model: those that `given.wanted` names, or what a search finds.

    Nothing without calibration rows, for models that the network engine does not take, and for networks without
    layers; the notes say so where bytes would have been possible. `retrain` asks for a hand-over too, and has the
    search made even where bytes are no faster.

    Raises:
        CompileError: a hand-over was asked for, and there is none.
    """
    found = _offers(given, signature, say, retrain=retrain)
    if retrain and found.handover is None:
        why = found.notes[-1].removeprefix("repair: ") if found.notes else "no layer of it could be put into bytes"
        hint = "give --calibration with a few dozen rows of real inputs"
        raise CompileError(f"no hand-over for retraining: {why}", hint=hint)
    return found


def _offers(given: Material, signature: Signature, say: Say, *, retrain: bool) -> Offers:
    names = None if given.wanted is None else sorted(name for name in given.wanted if parse(name) or name == FROZEN)
    rows = rows_of(given)
    if "native" not in given.engines or names == [] or not _has_layers(given.model):
        return Offers()
    if len(rows) < MIN_ROWS:
        return Offers(notes=[f"repair: 8 bits need at least {MIN_ROWS} calibration rows; {len(rows)} were given"])
    left = countdown(TIME_SHARE * given.time_s)
    try:
        say("repair: what every tensor holds")
        workshop = Workshop(given.model, rows)
        if len(workshop.fixed) == len(workshop.order):
            return Offers()
        if given.scales is not None:
            return _frozen(given, workshop, given.scales)
        if names is not None:
            wanted = [recipe for name in names if (recipe := parse(name)) is not None]
            return Offers(drafted(workshop, wanted, given.profile, given.threads))
        return _searched(given, signature, workshop, left, say, retrain=retrain)
    except UnsupportedError as error:
        return Offers(notes=[f"repair: the network engine does not take this model: {error}"])
    except onnxruntime.failures() as error:
        if names is not None:
            raise ToolError(f"repair: {_line(error)}") from error
        return Offers(notes=[f"repair: given up, ONNX Runtime failed: {_line(error)}"])


def _frozen(given: Material, workshop: Workshop, path: Path) -> Offers:
    """Return the candidate in given scales, and nothing else: what was searched for once is not searched for again."""
    scales = frozen.read(path)
    made = frozen.drafted(workshop, scales, given.profile, given.threads, FIRST_ORDER)
    return Offers([made], [f"repair: in the scales of an earlier release, by its recipe {scales.recipe.name}"])


def _has_layers(model: ModelProto) -> bool:
    nodes = model.graph.node
    return any(node.op_type in KINDS for node in nodes) and all(node.domain in ("", "ai.onnx") for node in nodes)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def rows_of(given: Material) -> list[Feed]:
    """Return the calibration rows one by one, each with a batch of one."""
    count = min((len(each) for each in given.feeds.values()), default=0)
    return [{name: each[i : i + 1] for name, each in given.feeds.items()} for i in range(min(count, MAX_ROWS))]


def drafted(workshop: Workshop, recipes: Sequence[Recipe], profile: Profile, threads: int = 1) -> list[Draft]:
    """Return the drafts of some recipes, without those that come out the same as one before."""
    made: list[Draft] = []
    known: set[tuple[str, bytes]] = set()
    for order, recipe in enumerate(recipes):
        source = workshop.source(recipe, machine_of(profile, threads))
        if (source.c, source.weights) not in known:
            known.add((source.c, source.weights))
            made.append(engine.draft(recipe.name, "int8", source, profile, FIRST_ORDER + order))
    return made


def _searched(
    given: Material, signature: Signature, workshop: Workshop, left: Callable[[], float], say: Say, *, retrain: bool
) -> Offers:
    found = Offers()
    speeds = Speeds()
    if left() >= PROBE_LEAST_S and not fit.missing(fit.predicates(given.profile), host.hardware({}, "")):
        say("repair: which placements are fast")
        speeds = measured(workshop, given, left())
        if min(speeds.byte_ns.values()) >= speeds.float_ns * (1 - TIE):
            found.notes.append("repair: no placement of bytes is faster than float32 on this machine")
            if not retrain:
                return found
    search = Search(workshop, signature, speeds, left, say)
    picked = search.run()
    found.drafts = drafted(workshop, [trial.recipe for trial in picked], given.profile, given.threads)
    found.notes += told(search, picked, finished=left() > 0)
    if retrain and search.trials:
        say("repair: what each layer costs")
        found.handover = handover.made(search)
    return found


def told(search: Search, picked: Sequence[Trial], *, finished: bool) -> list[str]:
    """Return in words what was tried and gained."""
    if not search.trials:
        return ["repair: there is no layer that could be put into bytes"]
    plain = search.trials[0]
    best = max(search.trials, key=lambda trial: (trial.judgement.cosine, trial.recipe.name))
    words = [
        f"repair: {len(search.trials)} recipes tried by cross-validation on calibration rows"
        + ("" if finished else " until the time was up")
        + f"; worst cosine {plain.judgement.cosine:.4f} as {plain.recipe.name}, {best.judgement.cosine:.4f} as "
        + best.recipe.name
    ]
    if not plain.judgement.conditioned:
        words.append(
            "repair: ill-conditioned: one byte's step of noise on the input moves the original itself below the "
            "cosine that is asked for, so labels or classes decide"
        )
    near = min(picked, key=lambda trial: trial.judgement.used, default=None)
    if near is not None and near.judgement.refusal:
        words.append(
            f"repair: none passed on calibration rows; nearest is {near.recipe.name}: {near.judgement.refusal}"
        )
    return words


def measured(workshop: Workshop, given: Material, time_s: float) -> Speeds:
    """Return measured speeds of a few placements; a constant guess where they cannot be had."""
    machine, processor = machine_of(given.profile), Processor.of(given.profile)
    skips = [skip for skip in PROBES if skip < len(workshop.order)]
    sources = [generate(workshop.plain, machine)]
    sources += [workshop.source(Recipe("minmax", skip=skip), machine) for skip in skips]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        paths = []
        for number, source in enumerate(sources):
            if number > 1 and time.monotonic() - begun > time_s * PROBE_SHARE:
                break
            path = Path(folder) / f"{number}.so"
            try:
                path.write_bytes(build.artifact(source.c, processor, source.weights))
            except (ToolError, LimitError):
                return Speeds()
            paths.append(str(path))
        times = _timed(paths)
    if len(times) < 2 or not np.isfinite(times).all():
        return Speeds()
    return Speeds(times[0], dict(zip(skips, times[1:], strict=False)))


def _timed(paths: Sequence[str]) -> list[float]:
    command = [sys.executable, "-m", "skerry_compiler.repair.clock", str(PROBE_S), *paths]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return []
    return [float(each) for each in json.loads(done.stdout)] if done.returncode == 0 else []

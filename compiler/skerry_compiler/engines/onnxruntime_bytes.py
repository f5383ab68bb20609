"""ONNX Runtime's candidates in 8 bits: quantised ahead by calibration rows, or while the model runs.

How many first layers stay in float decides both speed and agreement: few channels are slow in bytes, and what is
rounded first is rounded for all that follow. Where no generated code takes the model, a few such numbers are measured.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from skerry_compiler.engines.candidate import MISTAKES, Draft, Failure
from skerry_compiler.engines.onnxruntime import ENGINE, draft, failures, open_session, optimise
from skerry_compiler.engines.pairs import features, saturates
from skerry_compiler.errors import CompileError
from skerry_compiler.passes import base, pipelines
from skerry_compiler.passes.quantise import QuantiseU8S8, layers
from skerry_compiler.passes.quantise_dynamic import QuantiseDynamic
from skerry_targets import fit, host
from skerry_targets.profile import Profile

STATIC, DYNAMIC = "ort-int8", "ort-dynamic"
SKIPS = (0, 1, 2, 4, 8)  # first layers in float
TIME_SHARE = 0.2  # of the budget
SCORED_ROWS = 16  # held out of the calibration rows
COSINE = 0.99
TIE = 0.03
RUNS = 5
_NAME = re.compile(r"ort-int8(?:-skip(\d{1,4}))?")
Feeds = Mapping[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """`names` to draft again from a recipe, or None; a budget in seconds; whether to search for the layers in float."""

    names: frozenset[str] | None
    time_s: float
    search: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """One number of first layers in float: seconds of one inference, and the worst cosine on held-out rows."""

    skip: int
    seconds: float
    cosine: float


def candidates(model: ModelProto, profile: Profile, rows: Feeds, wanted: Wanted) -> list[Draft | Failure]:
    """Return at most two candidates quantised ahead, and one quantised while it runs.

    Args:
        model: float, fixed shapes.
        profile: the target.
        rows: calibration rows by input name; empty where there are none.
        wanted: which, and how long to search.
    """
    if "int8" not in profile.engines[ENGINE].precisions or not layers(model):
        return []
    try:
        source = pipelines.rewritten(model, pipelines.bytes_on_onnxruntime())
    except (CompileError, *MISTAKES):
        source = model
    made: list[Draft | Failure] = []
    for skip in _skips(source, profile, rows, wanted):
        made.append(_static(source, profile, rows, skip))
    if wanted.names is None or DYNAMIC in wanted.names:
        made += _dynamic(source, profile)
    return made


def _skips(model: ModelProto, profile: Profile, rows: Feeds, wanted: Wanted) -> list[int]:
    if wanted.names is not None:
        found = (_NAME.fullmatch(name) for name in sorted(wanted.names))
        return [int(each.group(1) or 0) for each in found if each is not None]
    here = not fit.missing(fit.predicates(profile), host.hardware({}, ""))
    count = min((len(each) for each in rows.values()), default=0)
    if not wanted.search or not here or count < 2:
        return [0]
    return chosen(trials(model, profile, rows, wanted.time_s)) or [0]


def chosen(trials: list[Trial]) -> list[int]:
    """Return the fastest number of layers whose answers hold, of ties the one that agrees best, and of the others the
    one that agrees best; none where none was measured.
    """
    if not trials:
        return []
    good = [each for each in trials if each.cosine >= COSINE] or [max(trials, key=lambda each: each.cosine)]
    fastest = min(each.seconds for each in good)
    first = max((each for each in good if each.seconds <= fastest * (1 + TIE)), key=lambda each: each.cosine)
    rest = [each for each in trials if each is not first]
    second = max(rest, key=lambda each: (each.cosine, -each.seconds), default=None)
    return [first.skip] if second is None else [first.skip, second.skip]


def trials(model: ModelProto, profile: Profile, rows: Feeds, time_s: float) -> list[Trial]:
    """Measure as many numbers of layers as the time allows; every second row is held out to score by."""
    end = time.monotonic() + TIME_SHARE * time_s
    calibration = {name: each[::2] for name, each in rows.items()}
    held = [{name: each[i : i + 1] for name, each in rows.items()} for i in range(1, 2 * SCORED_ROWS, 2)]
    held = [feed for feed in held if all(len(each) for each in feed.values())]
    names = [value.name for value in model.graph.output]
    exact = open_session(model.SerializeToString())
    try:
        expected = [_flat(exact.run(names, feed)) for feed in held]
        found: list[Trial] = []
        for skip in (each for each in SKIPS if each < len(layers(model))):
            if found and time.monotonic() > end:
                break
            try:
                session = open_session(_quantised(model, profile, calibration, skip))
            except CompileError:
                continue
            cosine = min(_cosine(e, _flat(session.run(names, feed))) for e, feed in zip(expected, held, strict=True))
            found.append(Trial(skip, seconds(session, names, held[0]), cosine))
    except failures():
        return []
    return found


def seconds(session: Any, names: list[str] | None, feed: Feeds) -> float:
    """Return the least processor time of one inference."""
    best = float("inf")
    for _ in range(RUNS):
        start, runs = time.process_time(), 0
        while runs < 2 or time.process_time() - start < 0.01:
            session.run(names, feed)
            runs += 1
        best = min(best, (time.process_time() - start) / runs)
    return best


def _flat(answers: list[Any]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(each, np.float64).reshape(-1) for each in answers])


def _cosine(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    length = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / length if length else float(not np.any(one != two))


def _quantised(model: ModelProto, profile: Profile, rows: Feeds, skip: int) -> bytes:
    copy = ModelProto()
    copy.CopyFrom(model)
    quantised = base.run_all(copy, [QuantiseU8S8(rows, reduce_range=saturates(profile), skip=skip)])
    return optimise(quantised.SerializeToString(deterministic=True))


def _static(model: ModelProto, profile: Profile, rows: Feeds, skip: int) -> Draft | Failure:
    name = f"{STATIC}-skip{skip}" if skip else STATIC
    try:
        content = _quantised(model, profile, rows, skip)
    except CompileError as error:
        return Failure(name, ENGINE, "int8", str(error))
    return draft(name, content, model, profile, 20, features=features(profile))


def _dynamic(model: ModelProto, profile: Profile) -> list[Draft | Failure]:
    """Return the candidate that quantises while it runs, for models that are mostly matrix products."""
    work = QuantiseDynamic(reduce_range=saturates(profile))
    if work.requires(model):
        return []
    try:
        content = optimise(pipelines.rewritten(model, [work]).SerializeToString(deterministic=True))
    except CompileError as error:
        return [Failure(DYNAMIC, ENGINE, "int8", str(error))]
    return [draft(DYNAMIC, content, model, profile, 21, features=features(profile))]

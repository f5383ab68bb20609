"""Which engines draft candidates for which entry of a target profile."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto

from skerry_compiler.engines import litert, onnxruntime, onnxruntime_bytes, onnxruntime_mapped, openvino, tvm
from skerry_compiler.engines.candidate import MISTAKES, Draft, Failure
from skerry_compiler.engines.native import engine as native
from skerry_compiler.engines.network import engine as network
from skerry_compiler.engines.network import given as own_bytes
from skerry_compiler.engines.pairs import Pairs
from skerry_targets.profile import Profile


@dataclasses.dataclass(frozen=True, slots=True)
class Material:
    """What engines draft from: the model after the passes, calibration rows by input name (stacked; empty where there
    are none), and the file as it came, for engines that take its form as it is.

    `engines` are those that may compete. `wanted` holds the ids to draft when a bundle is made again from its recipe;
    an engine may skip the others, and must not search. None: draft all. `time_s` is the person's budget, a bound for
    an engine that searches; `threads` may share one inference; `scales` is a file with those of an earlier release.
    """

    model: ModelProto
    profile: Profile
    feeds: Mapping[str, NDArray[Any]]
    source: Path
    form: str
    engines: tuple[str, ...]
    wanted: frozenset[str] | None = None
    time_s: float = 60.0
    threads: int = 1
    scales: Path | None = None


Drafter = Callable[[Material, Pairs], list[Draft | Failure]]

# The profile's engine, and what drafts for it.
ENGINES: tuple[tuple[str, Drafter], ...] = (
    ("native", lambda given, _: native.candidates(given.model, given.profile)),
    ("native", lambda given, _: network.candidates(given.model, given.profile, given.threads)),
    ("native", lambda given, _: own_bytes.candidates(given.model, given.profile, given.threads)),
    ("onnxruntime", lambda given, _: onnxruntime.candidates(given.model, given.profile)),
    ("onnxruntime", lambda given, _: onnxruntime_mapped.candidates(given.model, given.profile)),
    ("litert", lambda given, _: litert.candidates(given.model, given.profile, given.source, given.form)),
    ("openvino", lambda given, pairs: openvino.candidates(given.model, given.profile, pairs)),
    ("tvm", lambda given, _: tvm.candidates(given.model, given.profile)),
)


def drafts(given: Material, say: Callable[[str], None]) -> list[Draft | Failure]:
    """Return every candidate that the chosen engines can draft; `say` hears whose turn it is."""
    made: list[Draft | Failure] = []
    pairs = Pairs(given.model, given.profile, given.feeds)
    for engine, draft in ENGINES:
        if engine in given.engines:
            say(f"drafting for the engine {engine}")
            made += _own_failures(engine, functools.partial(draft, given, pairs))
    if onnxruntime.ENGINE in given.engines:
        say("drafting in 8 bits for the engine onnxruntime")
        alone = not any(isinstance(each, Draft) and each.engine == "native" for each in made)
        wanted = onnxruntime_bytes.Wanted(given.wanted, given.time_s, search=alone)
        made += _own_failures(
            onnxruntime.ENGINE,
            lambda: onnxruntime_bytes.candidates(given.model, given.profile, given.feeds, wanted),
        )
    return told_once(made)


def _own_failures(engine: str, draft: Callable[[], list[Draft | Failure]]) -> list[Draft | Failure]:
    """Return an engine's candidates, or its mistake as a failure of its own."""
    try:
        return draft()
    except MISTAKES as error:
        reason = f"failed on this model ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        return [Failure(engine, engine, "fp32", reason)]


def told_once(made: list[Draft | Failure]) -> list[Draft | Failure]:
    """Return candidates without the failures for want of an operator that tell a person nothing: of an engine with
    several generators, one of which took the model; else only the last one's, which knows most.
    """
    kinds = {(each.engine, each.precision) for each in made if isinstance(each, Draft)}
    last: dict[tuple[str, str], Failure] = {}
    for each in made:
        if isinstance(each, Failure) and each.unsupported and (each.engine, each.precision) not in kinds:
            last[each.engine, each.precision] = each
    return [each for each in made if isinstance(each, Draft) or not each.unsupported or each in list(last.values())]

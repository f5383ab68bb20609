"""A bundle made again from its recipe, and the proof that it is the same.

Everything that follows from the model, the data and the profile is made anew: the variants, the signature, the
histograms of the inputs. What was measured once stays as the bundle says: the order of the variants, the golden
answers (the original is asked again and must give them, within their own tolerance) and the histograms of its answers.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from skerry_compiler import building, compiling, data, foreign, histograms, pack
from skerry_compiler.compiling import Result
from skerry_compiler.engines.threads import recorded
from skerry_compiler.errors import CompileError, DiffersError
from skerry_compiler.prepared import Prepared
from skerry_compiler.request import Request
from skerry_contracts import codec
from skerry_contracts.bundle import Baseline, Manifest
from skerry_contracts.container import Container
from skerry_contracts.evidence import Evidence


def request_of(
    manifest: Manifest, source: Path, calibration: Path | None, *, trust_pickle: bool, scales: Path | None = None
) -> Request:
    """Return the request that a bundle's recipe records, for a model, calibration data and scales that lie here.

    Raises:
        CompileError: the recipe holds no profile, or another than it names.
    """
    options = manifest.recipe.options
    return Request(
        source=source,
        profile=pack.profile_of(manifest.recipe),
        model=manifest.model,
        version=manifest.version,
        release=manifest.release,
        calibration=calibration,
        objective=options.get("objective", "latency"),
        trust_pickle=trust_pickle,
        input_name=options.get("input-name"),
        shapes={name: tuple(extents) for name, extents in json.loads(options.get("shapes", "{}")).items()},
        engines=tuple(sorted({each.engine for each in manifest.variants})),
        threads=recorded(options),
        scales=scales,
    )


def rebuild(request: Request, recipe: Container, say: compiling.Say) -> Result:
    """Make a bundle again from its recipe: the same model, data and tools give the same bytes, without measuring.

    Raises:
        CompileError: the model, the data or a tool is not what the recipe names.
        DiffersError: the original does not give the golden answers any more.
    """
    found = recipe.manifest
    pack.check_sources(request, found.recipe)
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        say("reading the model")
        wanted = frozenset(found.recipe.candidates)
        prepared = compiling.prepare(request, folder, wanted=wanted, say=say)
        say("asking the original for the golden answers")
        check_golden(prepared, recipe, folder)
        baseline = _baseline(request, prepared, found)
    drafts = [each for each in prepared.drafts if each.id in wanted]
    built, failed = building.build_all(drafts, request.profile, None, say)
    if failed:
        raise CompileError(f"the recipe's candidate {failed[0].id} could not be made: {failed[0].reason}")
    manifest = pack.rebuilt(dataclasses.replace(found, signature=prepared.signature, baseline=baseline), built)
    blobs = {each.sha256: recipe.read_blob(each.sha256) for each in (found.golden.inputs, found.golden.outputs)}
    for each in built:
        blobs |= {codec.digest(content): content for content in each.blobs.values()}
    evidence = codec.decode(Evidence, recipe.evidence) if recipe.evidence is not None else None
    return Result(manifest, codec.encode(manifest), blobs, evidence)


def check_golden(prepared: Prepared, recipe: Container, folder: Path) -> None:
    """Ask the original the golden questions again.

    Raises:
        DiffersError: an answer is off by more than the golden tolerance.
    """
    golden, signature = recipe.manifest.golden, prepared.signature
    questions = data.Rows(data.outputs_of(recipe.read_blob(golden.inputs.sha256), signature.inputs, golden.count))
    expected = data.outputs_of(recipe.read_blob(golden.outputs.sha256), signature.outputs, golden.count)
    answers = foreign.original_outputs(prepared.original, signature, questions, folder)
    for spec, one, two in zip(signature.outputs, expected, answers, strict=True):
        if one.dtype.kind == "f" and not np.allclose(one, two, golden.rtol, golden.atol, equal_nan=True):
            raise DiffersError(f"the model does not give the golden answers: {spec.name!r:.80} is off")


def _baseline(request: Request, prepared: Prepared, found: Manifest) -> tuple[Baseline, ...]:
    """Return the histograms: those of inputs counted anew, those of answers as they were."""
    if request.calibration is None:
        return tuple(each for each in found.baseline if not each.source.startswith("input:"))
    rows = data.inputs_of(data.read_npz(request.calibration), prepared.signature.inputs, request.calibration.name)
    fresh = {each.source: each for each in histograms.baseline(prepared.signature, rows, None)}
    return tuple(fresh.get(each.source, each) for each in found.baseline)


def differences(wanted: Manifest, made: Manifest) -> list[str]:
    """Return in words where a rebuilt manifest is not the recipe's; empty where it is the same."""
    found: list[str] = []
    _compare(codec.to_plain(wanted), codec.to_plain(made), "", found)
    return found


def _compare(one: Any, two: Any, path: str, found: list[str]) -> None:
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted(one.keys() | two.keys()):
            _compare(one.get(key), two.get(key), f"{path}.{key}" if path else str(key), found)
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for index, (a, b) in enumerate(zip(one, two, strict=True)):
            name = a.get("id", index) if isinstance(a, dict) else index
            _compare(a, b, f"{path}[{name}]", found)
    elif one != two:
        found.append(f"{path}: {_short(one)}, rebuilt {_short(two)}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"

"""The manifest of a bundle, and its rebuilding from a recipe.

A manifest holds nothing that changes from run to run: no times, no measured figures. What depends on measuring (which
candidates ship, the golden answers) is part of the recipe, so that a rebuild on any machine takes it from there and
gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from importlib import metadata

from skerry_compiler.engines.candidate import Built
from skerry_compiler.engines.native import build
from skerry_compiler.engines.threads import OPTION
from skerry_compiler.errors import CompileError
from skerry_compiler.request import Request
from skerry_contracts import codec
from skerry_contracts.bundle import FORMAT, Baseline, Contract, Golden, Manifest, Recipe, Signature
from skerry_targets import profile as profiles
from skerry_targets.profile import Profile

PROFILE_OPTION = "profile"
SCALES_OPTION = "scales-sha256"
_TOOLS = ("onnx", "onnxruntime", "numpy", "skl2onnx", "scikit-learn", "skops")
# Beyond these, what only models of a form, or candidates of an id, are made with.
_TOOLS_OF = {"torch-export": ("torch", "onnxscript"), "tvm": ("apache-tvm", "apache-tvm-ffi")}


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What a manifest holds beside the request and the variants. `accuracy` is the winner's, where labels were
    given.
    """

    signature: Signature
    form: str
    golden: Golden
    baseline: tuple[Baseline, ...]
    accuracy: float | None


def manifest(request: Request, parts: Parts, shipped: Sequence[Built]) -> Manifest:
    """Return the manifest of a fresh compile."""
    floor = None if parts.accuracy is None else int(parts.accuracy * 1000) / 1000
    return Manifest(
        format=FORMAT,
        model=request.model,
        version=request.version,
        release=request.release,
        target=request.profile.id,
        signature=parts.signature,
        variants=tuple(each.variant for each in shipped),
        golden=parts.golden,
        contract=Contract(accuracy_floor=floor),
        baseline=parts.baseline,
        recipe=recipe(request, parts.form, [each.variant.id for each in shipped]),
    )


def recipe(request: Request, form: str, candidates: Sequence[str]) -> Recipe:
    """Return everything that went in."""
    options = {PROFILE_OPTION: codec.encode(request.profile).decode(), "objective": request.objective}
    if request.input_name is not None:
        options["input-name"] = request.input_name
    if request.shapes:
        options["shapes"] = json.dumps(request.shapes, sort_keys=True)
    if request.engines is not None:
        options["engines"] = ",".join(request.engines)
    if request.threads > 1:
        options[OPTION] = str(request.threads)
    if request.scales is not None:
        options[SCALES_OPTION] = codec.digest(request.scales.read_bytes())
    special = [name for each in (form, *candidates) for name in _TOOLS_OF.get(each, ())]
    calibration = request.calibration
    return Recipe(
        compiler=f"skerry {version('skerry')}",
        source_sha256=codec.digest(request.source.read_bytes()),
        source_format=form,
        target=request.profile.id,
        target_sha256=profiles.digest(request.profile),
        calibration_sha256=None if calibration is None else codec.digest(calibration.read_bytes()),
        candidates=tuple(candidates),
        options=options,
        tools={**{name: version(name) for name in (*_TOOLS, *special)}, "cc": build.compiler_version()},
    )


def version(distribution: str) -> str:
    """Return an installed package's version, "0" where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "0"


def profile_of(found: Recipe) -> Profile:
    """Return the target profile that a recipe holds.

    Raises:
        CompileError: the recipe holds none, or not the one it names.
    """
    content = found.options.get(PROFILE_OPTION)
    if content is None:
        raise CompileError("the recipe holds no target profile: it cannot be rebuilt")
    profile = profiles.from_plain(codec.parse_json(content.encode()), "the recipe")
    if profiles.digest(profile) != found.target_sha256:
        raise CompileError("the recipe's profile is not the one that it names")
    return profile


def check_sources(request: Request, found: Recipe) -> None:
    """Refuse to rebuild from other files or tools than the recipe names.

    Raises:
        CompileError: says what differs.
    """
    for path in (request.source, request.calibration, request.scales):
        if path is not None and not path.is_file():
            raise CompileError(f"no file {path}", hint="name the model and the data that the bundle was made from")
    fresh = recipe(request, found.source_format, found.candidates)
    if fresh.source_sha256 != found.source_sha256:
        raise CompileError(f"{request.source.name} is not the model that the recipe names")
    if fresh.calibration_sha256 != found.calibration_sha256:
        raise CompileError(
            "the calibration data is not what the recipe names", hint="pass the same file, or none if there was none"
        )
    if fresh.options.get(SCALES_OPTION) != found.options.get(SCALES_OPTION):
        raise CompileError(
            "the scales are not those that the recipe names", hint="pass the same file as --scales, or none if none was"
        )
    for name, wanted in sorted(found.tools.items()):
        have = fresh.tools.get(name, "0")
        if have != wanted:
            raise CompileError(
                f"the recipe was made with {name} {wanted}, here is {have}", hint=f"install {name}=={wanted}"
            )


def rebuilt(found: Manifest, built: Sequence[Built]) -> Manifest:
    """Return a manifest whose variants are the rebuilt ones; everything measured stays as it was."""
    by_id = {each.variant.id: each.variant for each in built}
    missing = [each.id for each in found.variants if each.id not in by_id]
    if missing:
        raise CompileError(f"the recipe's candidate {missing[0]} could not be made")
    return dataclasses.replace(found, variants=tuple(by_id[each.id] for each in found.variants))

"""Bytes in the scales of an earlier release: what a hand-over (`handover`) holds, used again for retrained weights.

Weights are rounded to nearest, whatever the recipe says of GPTQ and biases: both are answers to other weights.
Where a release is trained on from the one before and rounded in the same scales, most of its bytes are the old ones or
one step beside them, and an update by difference is a fraction of the file. Scales of its own would move every byte of
a channel whose largest weight moved.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.candidate import FROZEN, Draft
from skerry_compiler.engines.network import engine
from skerry_compiler.engines.network.calibrate import Ranges
from skerry_compiler.engines.network.cost import machine_of
from skerry_compiler.engines.network.generate import generate
from skerry_compiler.errors import CompileError
from skerry_compiler.repair.equalise import rescaled
from skerry_compiler.repair.handover import FORM
from skerry_compiler.repair.layers import Model
from skerry_compiler.repair.recipe import Recipe, parse
from skerry_compiler.repair.workshop import Workshop
from skerry_contracts import codec
from skerry_contracts.errors import ContractError
from skerry_targets.profile import Profile

MAX_FILE_BYTES = 64 << 20
HINT = "give the JSON that --qat-handover wrote for an earlier release of this network"


@dataclasses.dataclass(frozen=True, slots=True)
class Scales:
    """A recipe with its numbers: what channels are divided by, the range of each tensor, of what single layers read,
    and a scale for each output channel of each layer in bytes, all by ONNX name.
    """

    recipe: Recipe
    equalised: dict[str, NDArray[np.float64]]
    tensors: Ranges
    inputs: Ranges
    weights: dict[str, NDArray[np.float64]]


def read(path: Path) -> Scales:
    """Return the scales in a hand-over.

    Raises:
        CompileError: no hand-over, or one that says nothing sensible.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CompileError(f"{path.name} is too large for scales", hint=HINT)
        return _scales(codec.parse_json(path.read_bytes()))
    except OSError as error:
        raise CompileError(f"{path.name}: {error.strerror}", hint=HINT) from error
    except (ContractError, KeyError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:100]
        raise CompileError(f"{path.name} holds no scales ({type(error).__name__}: {said})", hint=HINT) from error


def _scales(plain: Any) -> Scales:
    if plain["format"] != FORM:
        raise ValueError(f"format {plain['format']!r:.40}, {FORM} is expected")
    recipe = parse(str(plain["candidate"]))
    if recipe is None:
        raise ValueError(f"{plain['candidate']!r:.80} is no recipe")
    layers = [each for each in plain["layers"] if each["bytes"]]
    weights = {str(each["name"]): np.asarray(each["weight"]["scales"], np.float64) for each in layers}
    equalised = {str(name): np.asarray(each, np.float64) for name, each in plain["equalised"].items()}
    numbers = [*weights.values(), *equalised.values()]
    if not weights or not all(each.ndim == 1 and np.isfinite(each).all() and (each > 0).all() for each in numbers):
        raise ValueError("scales are positive numbers, one for each output channel")
    return Scales(
        recipe,
        equalised,
        {str(name): _range(each) for name, each in plain["activations"].items()},
        {str(each["name"]): _range(each["input"]) for each in layers if "input" in each},
        weights,
    )


def _range(quant: Any) -> tuple[float, float]:
    scale, zero = float(quant["scale"]), int(quant["zero_point"])
    if not (0 < scale < np.inf and 0 <= zero <= 255):
        raise ValueError("a tensor's scale is positive, its zero point a byte")
    return -zero * scale, (255 - zero) * scale


def drafted(workshop: Workshop, scales: Scales, profile: Profile, threads: int, order: int) -> Draft:
    """Return the candidate in these scales.

    Raises:
        CompileError: they are another network's.
    """
    try:
        proto = rescaled(workshop.plain, scales.equalised)
    except ValueError as error:
        raise CompileError(f"the scales are another network's: {error}", hint=HINT) from error
    layers = {layer.out: layer for layer in Model(proto).layers()}
    for name, each in scales.weights.items():
        layer = layers.get(name)
        shape = () if layer is None else Model(proto).array(layer.weight).shape
        if layer is None or shape[layer.axis] != len(each):
            raise CompileError(
                f"the scales are another network's: no layer {name!r:.80} of {len(each)} channels", hint=HINT
            )
    ranges = {**{layers[name].data: span for name, span in scales.inputs.items() if name in layers}, **scales.tensors}
    source = generate(
        proto,
        machine_of(profile, threads),
        ranges=ranges,
        precision=workshop.precision(scales.recipe),
        scales=scales.weights,
    )
    return engine.draft(FROZEN, "int8", source, profile, order)

"""Do two answers to the same inputs agree? For classifiers: the same best class; else: the same numbers, nearly.

Runs on the supervisor's loop, so its time is bounded however large an output is: of more than `MOST` elements evenly
spaced ones are compared. Outputs are matched by name; what only one of the two has is left out.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from skerry_contracts.bundle import Manifest, Signature
from skerry_contracts.tensor import STRUCT_CODE, TensorSpec

MOST = 1024  # elements of one output: about 0.1 ms

Outputs = Sequence[bytes]
"""One output's bytes each, in the signature's order."""


def unlike(live: Manifest, candidate: Manifest) -> str:
    """Return why two models cannot be compared, in words; empty where they can."""
    if live.signature.inputs != candidate.signature.inputs:
        return "it takes other inputs than the live model"
    mine, own = live.signature, candidate.signature
    if _class_output(mine) is not None and _class_output(own) is not None:
        return ""
    return "" if _shared(mine, own) else "it has no output in common with the live model"


def disagrees(live: Manifest, said: Outputs, candidate: Manifest, found: Outputs, tolerance: float) -> bool:
    """Return whether the candidate's answer `found` is another than the live one.

    Both are answers to the same inputs, and the two are not `unlike`. Classifiers disagree where a row's best class
    differs, by name where the bundles name their classes. Other outputs disagree where the root mean square of the
    difference exceeds `tolerance` times that of what the live model said (plus the golden vectors' `atol`).
    """
    one, two = live.signature, candidate.signature
    if _class_output(one) is not None and _class_output(two) is not None:
        return classes(one, said) != classes(two, found)
    ours, theirs = _by_name(one, said), _by_name(two, found)
    for name in _shared(one, two):
        (spec, left), (_, right) = ours[name], theirs[name]
        if left != right and _apart(_thinned(spec, left), _thinned(spec, right), tolerance, candidate.golden.atol):
            return True
    return False


def classes(signature: Signature, outputs: Outputs) -> list[str | float]:
    """Return the chosen class of each row: its name where the bundle names classes, else its index or value."""
    spec = _class_output(signature)
    if spec is None:
        return []
    data = _by_name(signature, outputs)[spec.name][1]
    labels = signature.labels
    if spec.name == signature.score_output:
        width = spec.shape[-1] if spec.shape else 1
        chosen = [max(range(len(row)), key=row.__getitem__) for row in _rows(spec, data, width)]
        return [labels[index] if index < len(labels) else float(index) for index in chosen]
    values = [float(value) for value in _thinned(spec, data)]
    named = all(value.is_integer() and 0 <= value < len(labels) for value in values)
    return [labels[int(value)] for value in values] if named else list(values)


def _class_output(signature: Signature) -> TensorSpec | None:
    """Return the output that says the class: the scores where there are some, else the label."""
    by_name = {spec.name: spec for spec in signature.outputs}
    for name in (signature.score_output, signature.label_output):
        if name is not None:
            return by_name[name]
    return None


def _shared(one: Signature, two: Signature) -> list[str]:
    there = {(spec.name, spec.dtype, spec.shape) for spec in two.outputs}
    return [spec.name for spec in one.outputs if (spec.name, spec.dtype, spec.shape) in there]


def _by_name(signature: Signature, outputs: Outputs) -> dict[str, tuple[TensorSpec, bytes]]:
    return {spec.name: (spec, data) for spec, data in zip(signature.outputs, outputs, strict=True)}


def _thinned(spec: TensorSpec, data: bytes) -> Sequence[float]:
    """Return an output's elements, at most `MOST` of them and evenly spaced."""
    step = max(1, -(-spec.elements // MOST))
    code, width = STRUCT_CODE[spec.dtype], spec.size_bytes // max(spec.elements, 1)
    if step == 1:
        return struct.unpack(f"<{spec.elements}{code}", data)
    return [struct.unpack_from(f"<{code}", data, at * width)[0] for at in range(0, spec.elements, step)]


def _rows(spec: TensorSpec, data: bytes, width: int) -> list[Sequence[float]]:
    """Return rows of scores, evenly spaced ones where all would be more than `MOST` elements; one at least."""
    count = spec.elements // max(width, 1)
    step = max(1, -(-count * width // MOST))
    code, size = STRUCT_CODE[spec.dtype], spec.size_bytes // max(count, 1)
    return [struct.unpack_from(f"<{width}{code}", data, at * size) for at in range(0, count, step)]


def _apart(left: Sequence[float], right: Sequence[float], tolerance: float, atol: float) -> bool:
    """Return whether `right` is farther from `left` than allowed; a number that is none is always too far."""
    gap = math.hypot(*(a - b for a, b in zip(left, right, strict=True) if a != b))
    allowed = atol * math.sqrt(len(left)) + tolerance * math.hypot(*left)
    return not gap <= allowed

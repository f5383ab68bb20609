"""The native engine's candidates: C in the forms that may win on this machine. Compiled later, outside the sandbox."""

from __future__ import annotations

from onnx import ModelProto

from skerry_compiler.engines.candidate import Draft, Failure, megabytes
from skerry_compiler.engines.native import emit_forest, emit_small, emit_walk, fuse, ir, lower, source
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.errors import UnsupportedError
from skerry_targets import fit
from skerry_targets.profile import Profile

ENGINE, PRECISION = "native", "fp32"
MAX_CONSTANT_BYTES = 96 << 20  # larger tables would keep the C compiler busy for minutes


def candidates(model: ModelProto, profile: Profile) -> list[Draft | Failure]:
    """Return the native candidates of a model, or why there is none."""
    try:
        graph = fuse.fuse(lower.lower(model))
    except UnsupportedError as error:
        return [Failure(ENGINE, ENGINE, PRECISION, str(error), error.nodes)]
    machine = Machine.of(profile)
    forests = [op for op in graph.ops if isinstance(op, ir.Forest)]
    forms = [emit_forest.TABLE]
    if any(emit_walk.fits(op, machine) for op in forests):
        forms.insert(0, emit_forest.VECTOR)
    if profile.abi.os == "none" and any(emit_small.fits(op) for op in forests):
        forms.insert(0, emit_forest.SMALL)
    if forests and sum(map(emit_forest.splits, forests)) <= emit_forest.MAX_BRANCHY_SPLITS:
        forms.append(emit_forest.BRANCHY)
    made: list[Draft | Failure] = []
    for order, form in enumerate(forms):
        name = f"{ENGINE}-{form}" if forests else ENGINE
        generated = source.generate(graph, machine, form)
        if generated.constant_bytes > MAX_CONSTANT_BYTES:
            size = generated.constant_bytes
            made.append(
                Failure(name, ENGINE, PRECISION, f"{size >> 20} MB of weights, at most {MAX_CONSTANT_BYTES >> 20}")
            )
            continue
        memory = megabytes(generated.arena_bytes + generated.constant_bytes + (256 << 10))
        requires = fit.predicates(profile)
        made.append(Draft(name, ENGINE, PRECISION, requires, memory, order, c_text=generated.text))
    return made

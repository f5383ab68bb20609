"""The candidates of the network engine in float32 and bfloat16; those in bytes are searched for in
`skerry_compiler.repair`.
"""

from __future__ import annotations

from onnx import ModelProto

from skerry_compiler import unsupported
from skerry_compiler.engines.candidate import Draft, Failure, megabytes
from skerry_compiler.engines.network import survey
from skerry_compiler.engines.network.cost import machine_of
from skerry_compiler.engines.network.emit import Source
from skerry_compiler.engines.network.generate import generate
from skerry_compiler.engines.threads import OPTION
from skerry_compiler.errors import UnsupportedError
from skerry_targets import fit
from skerry_targets.profile import Profile

ENGINE = "native"
CODE_BYTES = 512 << 10  # code and the pages around it, estimated


def candidates(model: ModelProto, profile: Profile, threads: int = 1) -> list[Draft | Failure]:
    """Return the candidates of a network that need no calibration, or why there is none; none at all for other kinds of
    models.

    Args:
        model: with fixed shapes.
        profile: the board.
        threads: how many may share one inference.
    """
    if any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
        return []
    machine = machine_of(profile, threads)
    try:
        plain = generate(model, machine)
        made: list[Draft | Failure] = [draft("native-network", "fp32", plain, profile, 1)]
        for name, precision in (("native-winograd", "fp32"), ("native-bf16", "bf16")):
            source = generate(model, machine, tiles=name == "native-winograd", pairs=precision == "bf16")
            if source.c != plain.c:  # some layer gains
                made.append(draft(name, precision, source, profile, 1))
        return made
    except UnsupportedError as error:
        found = survey.missing(model) if error.nodes else ()
        said = unsupported.error("the native engine", found) if found else error
        return [Failure("native-network", ENGINE, "fp32", str(said), found)]


def draft(name: str, precision: str, source: Source, profile: Profile, order: int) -> Draft:
    """Return generated code as a draft."""
    memory = megabytes(source.arena_bytes + len(source.weights) + CODE_BYTES)
    files = {"weights": source.weights}
    options = {OPTION: str(source.threads)} if source.threads > 1 else {}
    return Draft(name, ENGINE, precision, fit.predicates(profile), memory, order, files, options, source.c)

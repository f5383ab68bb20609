"""LiteRT's candidates: a .tflite original as it is, and any float network written as TFLite."""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto

from skerry_compiler.engines.candidate import Draft, Failure, megabytes
from skerry_compiler.errors import UnsupportedError
from skerry_compiler.tflite import from_onnx
from skerry_contracts.bundle import Predicates
from skerry_targets.profile import Profile

ENGINE = "litert"
PLAIN = "litert-plain"
RUNTIME_BYTES = 11 << 20  # measured: a C-interface process against one that runs generated code


def candidates(model: ModelProto, profile: Profile, source: Path, form: str) -> list[Draft | Failure]:
    """Return the candidates on LiteRT.

    Args:
        model: with fixed shapes.
        profile: the target.
        source: the file as it came.
        form: of the file.
    """
    made: list[Draft | Failure] = []
    if form == "tflite":
        made.append(_draft(PLAIN, source.read_bytes(), profile, 9))
    if any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
        return made  # trees and the like
    try:
        made.append(_draft("litert", from_onnx.convert(model), profile, 8))
    except UnsupportedError as error:
        made.append(Failure("litert", ENGINE, "fp32", str(error), error.nodes))
    return made


def _draft(name: str, content: bytes, profile: Profile, order: int) -> Draft:
    abi = profile.abi
    requires = Predicates(abi.os, abi.machine, (), abi.libc, abi.libc_min, profile.engines[ENGINE].version_min)
    memory = megabytes(RUNTIME_BYTES + 2.5 * len(content))
    return Draft(name, ENGINE, "fp32", requires, memory, order, {"model": content}, {})

"""LiteRT's candidates: a .tflite original as it is."""

from __future__ import annotations

from pathlib import Path

from skerry_compiler.engines.candidate import Draft, Failure, megabytes
from skerry_contracts.bundle import Predicates
from skerry_targets.profile import Profile

ENGINE = "litert"
PLAIN = "litert-plain"
RUNTIME_BYTES = 11 << 20  # measured: a C-interface process against one that runs generated code


def candidates(profile: Profile, source: Path, form: str) -> list[Draft | Failure]:
    """Return the candidates on LiteRT.

    Args:
        profile: the target.
        source: the file as it came.
        form: of the file.
    """
    if form != "tflite":
        return []
    return [_draft(PLAIN, source.read_bytes(), profile, 9, "fp32")]


def _draft(name: str, content: bytes, profile: Profile, order: int, precision: str) -> Draft:
    abi = profile.abi
    requires = Predicates(abi.os, abi.machine, (), abi.libc, abi.libc_min, profile.engines[ENGINE].version_min)
    memory = megabytes(RUNTIME_BYTES + 2.5 * len(content))
    return Draft(name, ENGINE, precision, requires, memory, order, {"model": content}, {})

"""How a variant says on how many threads one inference of it may run; the device never takes more than it has cores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from skerry_compiler.engines.candidate import Draft, Failure
from skerry_compiler.errors import CompileError

OPTION = "threads"  # of a variant and of a recipe
MAX_THREADS = 64
READERS = ("litert", "onnxruntime", "openvino")  # generated code says so itself, where it has parts to share


def recorded(options: Mapping[str, str]) -> int:
    """Return the number in a recipe's options, 1 where there is none.

    Raises:
        CompileError: it is no number from 1 to MAX_THREADS.
    """
    said = options.get(OPTION, "1")
    found = int(said) if said.isascii() and said.isdigit() and len(said) < 3 else 0
    if not 1 <= found <= MAX_THREADS:
        raise CompileError(f"the recipe is for {said!r:.40} threads", hint=f"from 1 to {MAX_THREADS} there may be")
    return found


def asked(made: Draft | Failure, threads: int) -> Draft | Failure:
    """Return a candidate that runs on so many threads, if its engine can."""
    if threads == 1 or isinstance(made, Failure) or made.engine not in READERS:
        return made
    return dataclasses.replace(made, options={**made.options, OPTION: str(threads)})

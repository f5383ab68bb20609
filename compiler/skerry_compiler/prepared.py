"""What came out of the sandbox that read a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from skerry_compiler.engines.candidate import Draft, Failure
from skerry_contracts.bundle import Signature


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """What came out of the sandbox. `failures` could not be drafted; `operators` counts nodes after the passes; `notes`
    say what accuracy repair tried.
    """

    signature: Signature
    form: str
    original: Path
    drafts: tuple[Draft, ...]
    failures: tuple[Failure, ...]
    operators: dict[str, int]
    notes: tuple[str, ...] = ()

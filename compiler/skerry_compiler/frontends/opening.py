"""What a front end is given to open."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from skerry_compiler import data
from skerry_targets.profile import Profile


@dataclasses.dataclass(frozen=True, slots=True)
class Opening:
    """What a front end is told: the file, what it may do with it, and the rows that show how the model is used.

    `arrays` are the calibration data's, by name; `shapes` are whole input shapes that a person gave.
    """

    path: Path
    profile: Profile
    arrays: Mapping[str, np.ndarray]
    shapes: Mapping[str, tuple[int, ...]]
    trust_pickle: bool = False
    input_name: str | None = None

    def only_input(self) -> str:
        """Return what the one input of a model of named columns is called: as told, as the data's only array, or X."""
        given = [name for name in self.arrays if name != data.LABELS]
        return self.input_name or (given[0] if len(given) == 1 else "X")

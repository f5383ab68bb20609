"""Processes that end with the one that started them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from skerry_fleet.broker import guard


def mortal(words: Sequence[str]) -> list[str]:
    """Return a command line whose process does not outlive this one, whatever becomes of it."""
    program = shutil.which(words[0]) or words[0]
    return [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), program, *words[1:]]

"""What a check of `skerry agent doctor` finds: a verdict, a line that says why, and the next step."""

from __future__ import annotations

import dataclasses
from enum import StrEnum


class Verdict(StrEnum):
    """How one check went: a note is worth knowing and no fault."""

    OK = "ok"
    NOTE = "note"
    WRONG = "WRONG"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line of the screen, and the step that helps (empty where none is needed)."""

    name: str
    verdict: Verdict
    says: str
    hint: str = ""


def well(name: str, says: str) -> Finding:
    """Return a finding of something that is as it should be."""
    return Finding(name, Verdict.OK, says)


def note(name: str, says: str, hint: str = "") -> Finding:
    """Return a finding worth knowing."""
    return Finding(name, Verdict.NOTE, says, hint)


def wrong(name: str, says: str, hint: str) -> Finding:
    """Return a finding of something that is wrong."""
    return Finding(name, Verdict.WRONG, says, hint)

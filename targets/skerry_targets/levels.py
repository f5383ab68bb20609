"""How far a board is proven: a level computed from evidence on file, never typed by hand.

Evidence is one JSON document a profile, made by `skerry targets prove`: what was checked on which artifact, with which
tools, and when. Evidence for an older state of the profile proves nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from enum import StrEnum
from pathlib import Path

from skerry_contracts import codec
from skerry_targets import profile as profiles
from skerry_targets.profile import Profile

FOLDER = Path(__file__).parent / "evidence"


class Level(StrEnum):
    """From least to most: the profile is written down; artifacts for it are made, and are what they should be; they
    load; they run; their answers are right.
    """

    DECLARED = "declared"
    COMPILED = "compiled"
    LOADED = "loaded"
    EXECUTED = "executed"
    PARITY = "parity"


class Kind(StrEnum):
    """What a check is about. A refusal is what must not work: another processor's artifact, a weaker processor."""

    HEADER = "header"
    BUDGET = "budget"
    LOAD = "load"
    RUN = "run"
    PARITY = "parity"
    REFUSAL = "refusal"


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One thing tried: of which reference model, whether it held, and in words what was seen; the artifact's digest and
    size where it is about one, and without a system what it takes of flash and memory as linked.
    """

    kind: Kind
    model: str
    held: bool
    seen: str
    artifact_sha256: str | None = None
    size_bytes: int | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """What was tried for a profile in the state of a digest, on a day (ISO 8601), with tools by name and version."""

    target: str
    profile_sha256: str
    date: str
    tools: dict[str, str]
    checks: tuple[Check, ...]


# What each level needs beyond the one before it.
_NEEDS = (
    (Level.COMPILED, (Kind.HEADER, Kind.BUDGET)),
    (Level.LOADED, (Kind.LOAD,)),
    (Level.EXECUTED, (Kind.RUN,)),
    (Level.PARITY, (Kind.PARITY,)),
)


def level(profile: Profile, evidence: Evidence | None) -> Level:
    """Return the level that evidence gives a profile: of each kind of check something was tried, and all of it held."""
    if evidence is None or evidence.profile_sha256 != profiles.digest(profile):
        return Level.DECLARED
    if any(each.kind is Kind.REFUSAL and not each.held for each in evidence.checks):
        return Level.DECLARED
    reached = Level.DECLARED
    for found, kinds in _NEEDS:
        for kind in kinds:
            held = [each.held for each in evidence.checks if each.kind is kind]
            if not held or not all(held):
                return reached
        reached = found
    return reached


@functools.cache
def on_file(target: str) -> Evidence | None:
    """Return the evidence on file for a profile, None where there is none.

    Raises:
        ContractError: the file is damaged.
    """
    path = FOLDER / f"{target}.json"
    return codec.decode(Evidence, path.read_bytes()) if path.is_file() else None


def of(profile: Profile) -> Level:
    """Return a profile's level by the evidence on file."""
    return level(profile, on_file(profile.id))


def footprints(evidence: Evidence | None) -> dict[str, tuple[int, int]]:
    """Return what each reference model takes of flash and memory, where evidence says so."""
    checks = () if evidence is None else evidence.checks
    return {
        each.model: (each.flash_bytes, each.ram_bytes)
        for each in checks
        if each.flash_bytes is not None and each.ram_bytes is not None
    }

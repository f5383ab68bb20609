"""Boards that are known and cannot be compiled for, each with the reason: better said than left out."""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from pathlib import Path

from skerry_contracts import codec

FILE = Path(__file__).parent / "unreachable.toml"


@dataclasses.dataclass(frozen=True, slots=True)
class Unreachable:
    """A board or accelerator without a public toolchain; `nearest` is the profile that comes closest."""

    id: str
    title: str
    reason: str
    nearest: str = ""
    aliases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    board: tuple[Unreachable, ...]


@functools.cache
def load() -> tuple[Unreachable, ...]:
    """Return all of them, sorted by id."""
    plain = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(sorted(codec.from_plain(_File, plain).board, key=lambda each: each.id))

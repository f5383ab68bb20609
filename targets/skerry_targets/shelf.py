"""The boards on file: one TOML each, in a folder for each machine (`profiles/aarch64/raspberry-pi-4.toml`), so that a
device reads only those of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry_targets import profile
from skerry_targets.errors import ProfileError, UnknownTargetError
from skerry_targets.profile import Profile

FOLDER = Path(__file__).parent / "profiles"
MOST_BASES = 4


def ids() -> tuple[str, ...]:
    """Return the ids of all profiles on file, sorted."""
    return tuple(sorted(_paths()))


@functools.cache
def get(target: str) -> Profile:
    """Return one profile on file.

    Raises:
        UnknownTargetError: there is none of this id.
        ProfileError: the file is no sound profile, its id is not its name, or its machine is not its folder.
    """
    found = read(_path(target))
    if found.id != target:
        raise ProfileError(f"{target}.toml: id is {found.id!r}, not the file's name")
    if found.abi.machine != _path(target).parent.name:
        raise ProfileError(f"{target}.toml: is for {found.abi.machine}, and lies in another machine's folder")
    return found


def load_all(machine: str | None = None) -> tuple[Profile, ...]:
    """Return every profile on file, or every one of a machine, sorted by id.

    Raises:
        ProfileError: a file is no sound profile.
    """
    return tuple(get(name) for name, path in sorted(_paths().items()) if machine in (None, path.parent.name))


def read(path: Path) -> Profile:
    """Return the profile in a file; it may extend one that is on file.

    Raises:
        UnknownTargetError: the file cannot be read.
        ProfileError: it is no sound profile.
    """
    return profile.from_plain(_plain(path, MOST_BASES), path.name)


def _plain(path: Path, bases_left: int) -> Mapping[str, Any]:
    if not bases_left:
        raise ProfileError(f"{path.name}: extends too many profiles, or itself")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnknownTargetError(
            f"no profile at {path}: {error.strerror}", hint="skerry targets list shows all"
        ) from error
    return profile.whole(content, path.name, lambda name: _plain(_path(name), bases_left - 1))


def _path(target: str) -> Path:
    found = _paths().get(target)
    if found is None:
        raise UnknownTargetError(f"no profile {target!r:.80} on file", hint="skerry targets list shows all")
    return found


@functools.cache
def _paths() -> Mapping[str, Path]:
    return {path.stem: path for path in FOLDER.glob("*/*.toml")}

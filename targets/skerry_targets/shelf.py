"""The boards on file: one TOML each in `profiles/`."""

from __future__ import annotations

from pathlib import Path

from skerry_targets import profile
from skerry_targets.errors import ProfileError, UnknownTargetError
from skerry_targets.profile import Profile

FOLDER = Path(__file__).parent / "profiles"


def ids() -> tuple[str, ...]:
    """Return the ids of all profiles on file, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def get(target: str) -> Profile:
    """Return one profile on file.

    Raises:
        UnknownTargetError: there is none of this id.
        ProfileError: the file is no sound profile, or its id is not its name.
    """
    found = read(FOLDER / f"{target}.toml")
    if found.id != target:
        raise ProfileError(f"{target}.toml: id is {found.id!r}, not the file's name")
    return found


def load_all() -> tuple[Profile, ...]:
    """Return every profile on file, sorted by id.

    Raises:
        ProfileError: a file is no sound profile.
    """
    return tuple(get(each) for each in ids())


def read(path: Path) -> Profile:
    """Return the profile in a file.

    Raises:
        UnknownTargetError: the file cannot be read.
        ProfileError: it is no sound profile.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnknownTargetError(
            f"no profile at {path}: {error.strerror}", hint="skerry targets list shows all"
        ) from error
    return profile.parse(content, path.name)

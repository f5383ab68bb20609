"""The boards Skerry knows: one TOML file each in `profiles/`, and `host`, which is this machine."""

from __future__ import annotations

import difflib
from pathlib import Path

from skerry_targets import profile
from skerry_targets.errors import ProfileError, UnknownTargetError
from skerry_targets.profile import Profile

HOST = "host"
FOLDER = Path(__file__).parent / "profiles"


def ids() -> tuple[str, ...]:
    """Return the ids of all profiles in the catalogue, sorted; `host` is not among them."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def get(target: str) -> Profile:
    """Return a profile: one of the catalogue, `host` for this machine, or the path of a TOML file of your own.

    Raises:
        UnknownTargetError: nothing of that name.
        ProfileError: the file is no sound profile.
    """
    if target == HOST:
        from skerry_targets import host

        return host.host_profile()
    if target.endswith(".toml"):
        return _read(Path(target))
    known = ids()
    if target not in known:
        near = difflib.get_close_matches(target.lower(), (*known, HOST), 1, 0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownTargetError(f"no target {target!r:.80}", hint=f"{hint}skerry targets list shows all")
    found = _read(FOLDER / f"{target}.toml")
    if found.id != target:
        raise ProfileError(f"{target}.toml: id is {found.id!r}, not the file's name")
    return found


def load_all() -> tuple[Profile, ...]:
    """Return every profile of the catalogue, sorted by id.

    Raises:
        ProfileError: a file is no sound profile.
    """
    return tuple(get(each) for each in ids())


def _read(path: Path) -> Profile:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnknownTargetError(
            f"no profile at {path}: {error.strerror}", hint="skerry targets list shows all"
        ) from error
    return profile.parse(content, path.name)

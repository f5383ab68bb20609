"""Every board by its name or another service's name for it: those on file, files of your own, and `host`, which is
this machine.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from skerry_targets import host, shelf, unreachable
from skerry_targets.errors import UnknownTargetError
from skerry_targets.profile import Profile

HOST = "host"


def ids() -> tuple[str, ...]:
    """Return the ids of all profiles on file, sorted; `host` is not among them."""
    return shelf.ids()


def get(target: str) -> Profile:
    """Return a profile: one on file, `host` for this machine, or the path of a TOML file of your own.

    Raises:
        UnknownTargetError: nothing of that name, or known and out of reach; the hint names the nearest.
        ProfileError: the file is no sound profile.
    """
    if target == HOST:
        return host.host_profile()
    if target.endswith(".toml"):
        return shelf.read(Path(target))
    known = shelf.ids()
    if target in known:
        return shelf.get(target)
    for each in shelf.load_all():
        if target in each.aliases:
            return each
    lost = next((each for each in unreachable.load() if target in (each.id, *each.aliases)), None)
    if lost is not None:
        hint = f"the nearest is {lost.nearest}" if lost.nearest else "skerry targets list shows what there is"
        raise UnknownTargetError(f"{lost.title} cannot be compiled for: {lost.reason}", hint=hint)
    near = difflib.get_close_matches(target.lower(), (*known, HOST), 1, 0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownTargetError(f"no target {target!r:.80}", hint=f"{hint}skerry targets list shows all")


def load_all() -> tuple[Profile, ...]:
    """Return every profile on file, sorted by id.

    Raises:
        ProfileError: a file is no sound profile.
    """
    return shelf.load_all()

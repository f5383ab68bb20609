"""Every board by its name or another service's name for it: those on file, files of your own, and `host`, which is
this machine.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path

from skerry_targets import host, shelf, unreachable
from skerry_targets.errors import ProfileError, UnknownTargetError
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
        return _own(Path(target))
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


def _own(path: Path) -> Profile:
    """Return the profile in a person's file; where it is none, the error names the nearest board on file, too."""
    try:
        return shelf.read(path)
    except ProfileError as error:
        like = _like(path)
        words = [error.hint, f"the nearest board on file is {like}: extend it" if like else ""]
        raise ProfileError(str(error), hint="; ".join(each for each in words if each)) from error


def _like(path: Path) -> str:
    """Return the board on file that a person's file means most probably, by its machine and features; "" if none."""
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return ""
    named, abi, cpu = (plain.get(each) for each in ("extends", "abi", "cpu"))
    if isinstance(named, str) and named in shelf.ids():
        return named
    machine = abi.get("machine") if isinstance(abi, dict) else None
    wanted = cpu.get("features") if isinstance(cpu, dict) else None
    features = {each for each in wanted if isinstance(each, str)} if isinstance(wanted, list) else set()
    alike = [each for each in shelf.load_all() if each.abi.machine == machine and each.family != "cuda"]
    own = str(plain.get("id", ""))

    def likeness(each: Profile) -> tuple[int, float, str]:
        return -len(features ^ set(each.cpu.features)), difflib.SequenceMatcher(None, own, each.id).ratio(), each.id

    return max(alike, key=likeness).id if alike else ""


def load_all() -> tuple[Profile, ...]:
    """Return every profile on file, sorted by id.

    Raises:
        ProfileError: a file is no sound profile.
    """
    return shelf.load_all()

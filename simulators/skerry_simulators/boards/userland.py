"""A board's userland: Debian packages and wheels, unpacked into a folder of the user's cache. Nothing of it is
installed on this machine, no maintainer script runs, and root is not needed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from skerry_simulators.boards.recipes import GLIBC, LAYOUT, PYTHON, SUITE, Recipe
from skerry_simulators.debian import packages, wheels
from skerry_simulators.debian.tree import Tree
from skerry_simulators.errors import SimulatorError

MADE = "made.json"
SITE = f"usr/local/lib/python{PYTHON}/dist-packages"
INTERPRETER = f"usr/bin/python{PYTHON}"
LOCK = "device"
_UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Userland:
    """A folder that holds `usr`; `parts` are the SHA-256 digests of the packages and wheels it was made from."""

    folder: Path
    parts: dict[str, str]
    was_there: bool


def cache() -> Path:
    """Return the folder in which userlands are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "skerry" / "boards"


def key(recipe: Recipe) -> str:
    """Return what a userland is known by: everything that decides what is in it, before anything is fetched."""
    said = [LAYOUT, SUITE, PYTHON, dataclasses.asdict(recipe), requirements(recipe)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def requirements(recipe: Recipe) -> list[str]:
    """Return what a device needs from wheels, as locked lines for pip."""
    return wheels.without(wheels.locked(LOCK), recipe.not_wheels)


def ready(recipe: Recipe, root: Path, say: Say, *, afresh: bool = False) -> Userland:
    """Return the userland of a recipe, from the cache folder `root`, made where it is not there.

    `afresh` fetches everything again, whatever pip has in its own cache.

    Raises:
        SimulatorError: it cannot be fetched, or the folder cannot be written.
    """
    folder = root / f"{recipe.architecture}-{key(recipe)}"
    try:
        return Userland(folder, json.loads((folder / MADE).read_text()), True)
    except (OSError, ValueError):
        pass
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{recipe.architecture}-", dir=root) as made:
            parts = _make(recipe, Path(made), say, afresh=afresh)
            shutil.rmtree(folder, ignore_errors=True)  # one without its last file: whoever made it was interrupted
            (Path(made) / "root").rename(folder)
    except OSError as error:
        hint = "set XDG_CACHE_HOME to a folder that can be written"
        raise SimulatorError(f"no userland can be made in {root}: {error.strerror or error}", hint=hint) from error
    return Userland(folder, parts, False)


def _make(recipe: Recipe, work: Path, say: Say, *, afresh: bool) -> dict[str, str]:
    say("fetching packages and wheels")
    machine, python = wheels.MACHINES[recipe.architecture], PYTHON.split(".")
    with ThreadPoolExecutor(max_workers=2) as pool:
        fetching = pool.submit(
            wheels.fetch,
            requirements(recipe),
            machine,
            (int(python[0]), int(python[1])),
            GLIBC,
            work / "wheels",
            afresh=afresh,
        )
        debs = packages.fetch(SUITE, recipe.architecture, recipe.packages, work, alone=True)
        say("unpacking")
        trees = list(pool.map(packages.Package.unpack, debs))
        fetched = fetching.result()
    tree = Tree()
    for each in (*trees, *(wheels.unpack(each, SITE) for each in fetched)):
        tree.merge(each)
    tree.remove(lambda path: path in _UNREAD)
    if INTERPRETER not in tree:
        raise SimulatorError(f"the packages hold no {INTERPRETER}", hint="has Debian changed? please report it")
    root = work / "root"
    root.mkdir()
    tree.write(root)
    parts = {each.path.name: each.sha256 for each in debs}
    parts |= {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in fetched}
    (root / MADE).write_text(json.dumps(parts, indent=1, sort_keys=True) + "\n")
    return parts
